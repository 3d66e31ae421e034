"""`longtail serve`: answer HTTP requests with a trained run."""

import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longtail._threads import prepare
from longtail.cli._options import Device, Integer, Threads
from longtail.errors import InputError

UNITS = {"": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


def main(
    run: Path,
    /,
    *,
    host: Annotated[str, Parameter(metavar="HOST")] = "127.0.0.1",
    port: Integer = 8000,
    max_batch: Integer = 32,
    max_bytes: Annotated[str, Parameter(metavar="SIZE")] = "10MB",
    max_pixels: Integer = 50_000_000,
    test_prior: Annotated[str | None, Parameter(metavar="PRIOR")] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Answer HTTP requests with a trained run: POST /predict with images, GET /health, GET /docs.

    Images of concurrent requests are classified in common batches. The service has no login and no encryption: put it
    behind a reverse proxy before others can reach it.

    Args:
        run: Folder of a finished run.
        host: Address to listen on. Default: 127.0.0.1, which accepts requests of this machine only.
        port: Port; 0 takes a free one. Default: 8000.
        max_batch: Largest number of images in a batch and in a request. Default: 32.
        max_bytes: Largest size of a request, such as 500kB or 10MB. Default: 10MB.
        max_pixels: Largest number of pixels of an image. Default: 50 million.
        test_prior: Class frequencies of the use, to which the probabilities are shifted: uniform, train, forward-K,
            backward-K, or a file with counts per class.
        device: Device: cpu, cuda, cuda:1, ... Default: auto.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.

    Examples:
        longtail serve runs/first --port 8000
    """
    from longtail.cli._output import console
    from longtail.ranges import check_number
    from longtail.run import Run
    from longtail.run.fit import choose_device
    from longtail.serve import Limits, create_app, serve
    from longtail.serve.app import require_packages

    require_packages()
    check_number("port", port, integer=True, at_least=0, at_most=65535)
    limits = Limits(max_batch=max_batch or 0, max_bytes=size_of(max_bytes), max_pixels=max_pixels or 0)
    prepare(threads)
    where = choose_device(device)
    app = create_app(Run.load(run), limits, device=where, test_prior=test_prior)
    serve(
        app, host, port or 0, lambda address: console.print(f"serving {run} at {address}, described at {address}/docs")
    )


def size_of(text: str) -> int:
    """Return a number of bytes.

    Args:
        text: Number with an optional unit: kB, MB, GB (powers of 1,000), KiB, MiB, GiB (powers of 1,024).

    Raises:
        InputError: If the text has another form.

    Example:
        >>> size_of("10MB"), size_of("512")
        (10000000, 512)
    """
    match = re.fullmatch(r"([0-9]{1,15}) ?([A-Za-z]{0,3})", text)
    if match is None or match[2].lower() not in UNITS:
        raise InputError(f"`max_bytes` must be a size such as 500kB or 10MB, got {text!r}")
    return int(match[1]) * UNITS[match[2].lower()]
