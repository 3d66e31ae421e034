"""Download of CIFAR into the official binary layout.

The Parquet copy on the Hugging Face hub is tried first, because it takes seconds. The university's own server is slow,
but authoritative. Every file is checked against the digest of the official one before it is written: SHA-256 for
CIFAR-100, MD5 per batch for CIFAR-10. The hub has the five batches of CIFAR-10 in another order, which would change the
seed-0 subsets; the digests restore the official order.
"""

import io
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet
from PIL import Image

from longtail._io import atomic_write
from longtail.data.formats.cifar_files import CIFARS, Bytes, Cifar, CifarFiles, is_official
from longtail.errors import InputError, unknown_name
from longtail.version import __version__

Progress = Callable[[int, int | None], None]
"""Callback with the bytes received of a file, and its size if the server reports it."""


@dataclass(frozen=True)
class Source:
    """A place to download from.

    Args:
        urls: URLs of the training table and the test table in Parquet format, or of the one archive in the binary
            layout.
    """

    urls: tuple[str, ...]

    @property
    def host(self) -> str:
        """Name of the server, for messages."""
        return urlsplit(self.urls[0]).netloc


def _hub(folder: str) -> Source:
    base = f"https://huggingface.co/datasets/uoft-cs/{folder}"
    return Source((f"{base}/train-00000-of-00001.parquet", f"{base}/test-00000-of-00001.parquet"))


SOURCES: Mapping[str, tuple[Source, ...]] = {
    "cifar10": (
        _hub("cifar10/resolve/main/plain_text"),
        Source(("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)),
    ),
    "cifar100": (
        _hub("cifar100/resolve/main/cifar100"),
        Source(("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",)),
    ),
}


def download_data(
    name: str,
    target_dir: Path,
    *,
    on_progress: Progress | None = None,
    sources: Sequence[Source] | None = None,
    timeout: float = 30.0,
) -> Path:
    """Download a data set in the official binary layout, unless it is already there.

    Args:
        name: "cifar10" or "cifar100".
        target_dir: Data folder. The files are written into its `cifar-10-batches-bin` or `cifar-100-binary`.
        on_progress: Callback with the bytes received and the size (None if unknown) of one file after the other.
        sources: Places to try, in order. By default, `SOURCES[name]`.
        timeout: Longest time without data from a server, in seconds.

    Returns:
        Folder with the files. Each file is checked and written atomically.

    Raises:
        InputError: If the name is unknown, the folder cannot be written, or no source has the official files.

    Example:
        >>> download_data("cifar1000", Path("data"))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there is no data set to download 'cifar1000'; did you mean cifar100 or cifar10?
    """
    if name not in CIFARS:
        raise unknown_name("data set to download", name, CIFARS)
    cifar = CIFARS[name]
    folder = target_dir / cifar.layouts[0].folder
    if _is_complete(cifar, folder):
        return folder
    places = SOURCES[name] if sources is None else sources
    try:
        target_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=target_dir) as scratch:
            files = _download_first(cifar, places, Path(scratch), on_progress, timeout)
        _write(cifar, files, folder)
    except OSError as error:
        raise InputError(f"cannot write to {target_dir}: {error}; give another folder, or set LONGTAIL_DATA") from error
    return folder


def _is_complete(cifar: Cifar, folder: Path) -> bool:
    files = CifarFiles(cifar, cifar.layouts[0], folder)
    if not files.complete:
        return False
    try:
        return all(map(is_official, files.read(), cifar.digests))
    except InputError:  # a truncated file, for example, is downloaded again
        return False


def _download_first(
    cifar: Cifar, sources: Sequence[Source], scratch: Path, on_progress: Progress | None, timeout: float
) -> list[Bytes]:
    """Return the official records of each file from the first source that has them."""
    failed = []
    for source in sources:
        try:
            paths = [_fetch(url, scratch, on_progress, timeout) for url in source.urls]
            if len(paths) == 1:
                return _official(cifar, CifarFiles(cifar, cifar.layouts[0], paths[0]).read())
            return _official(cifar, _split_batches(cifar, [_table_records(cifar, path) for path in paths]))
        except Exception as error:  # Pillow and Arrow raise many types on broken data; try the next source
            failed.append(f"  {source.host}: {error}")
    raise InputError(_failure(cifar, sources[-1].urls[-1], failed, scratch.parent))


def _failure(cifar: Cifar, archive_url: str, failed: list[str], target_dir: Path) -> str:
    archives = " or ".join(layout.archive for layout in cifar.layouts)
    tried = "\n".join(failed)
    return (
        f"cannot download {cifar.title}; tried\n{tried}\n"
        f"On a machine with network access, download {archive_url} and put it into {target_dir} without unpacking it "
        f"({archives}); or set LONGTAIL_DATA to the folder that holds it"
    )


def _fetch(url: str, folder: Path, on_progress: Progress | None, timeout: float) -> Path:
    """Download a file under the last part of its URL."""
    path = folder / Path(urlsplit(url).path).name
    request = urllib.request.Request(url, headers={"User-Agent": f"longtail/{__version__}"})
    with urllib.request.urlopen(request, timeout=timeout) as response, path.open("wb") as file:
        length = response.headers.get("Content-Length")
        total, done = int(length) if length else None, 0
        while chunk := response.read(1 << 18):
            file.write(chunk)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, total)
    if total is not None and done != total:
        raise InputError(f"the download of {path.name} stopped after {done:,} of {total:,} bytes")
    return path


def _table_records(cifar: Cifar, path: Path) -> Bytes:
    """Convert a Parquet table, with a column of PNGs and one column per label, to binary records."""
    columns = [key.removesuffix("s") for key in cifar.label_keys]
    table: Any = pyarrow.parquet.read_table(path, columns=["img", *columns])
    records = np.empty((len(table), cifar.record_bytes), np.uint8)
    for i, column in enumerate(columns):
        records[:, i] = table[column].to_numpy()
    for record_R, image in zip(records, table["img"].to_pylist(), strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(image["bytes"])))
        record_R[len(columns) :] = pixels.transpose(2, 0, 1).ravel()
    return records


def _split_batches(cifar: Cifar, tables: list[Bytes]) -> list[Bytes]:
    """Cut the training table into the files of the binary layout, and append the test table."""
    return [*np.split(tables[0], len(cifar.digests) - 1), tables[1]]


def _official(cifar: Cifar, files: list[Bytes]) -> list[Bytes]:
    """Sort the files into the order of the digests, and check that each digest matches one."""
    ordered = []
    for name, digest in zip(cifar.layouts[0].files, cifar.digests, strict=True):
        match = next((records_NR for records_NR in files if is_official(records_NR, digest)), None)
        if match is None:
            raise InputError(f"the downloaded data are not the official {name}: no part of them has {digest}")
        ordered.append(match)
    return ordered


def _write(cifar: Cifar, files: list[Bytes], folder: Path) -> None:
    """Write the files and the lists of class names."""
    contents = {name: records_NR.tobytes() for name, records_NR in zip(cifar.layouts[0].files, files, strict=True)}
    contents |= {name: ("\n".join(names) + "\n").encode() for name, names in cifar.names.items()}
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        with atomic_write(folder / name) as file:
            file.write(content)
