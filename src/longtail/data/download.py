"""Fetch CIFAR: `longtail data get`.

The Parquet copy on the Hugging Face hub comes in seconds, so it is tried first; the university's own server is slow but
has the last word. Every file is checked against the digest of the official one before it takes its place: SHA-256 for
CIFAR-100, MD5 (per batch) for CIFAR-10. The hub's CIFAR-10 holds the five batches in another order, in which the
seed-0 subsets would be other subsets; the digests also put them back in theirs.
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

from longtail.data.formats.cifar_files import CIFARS, Cifar, CifarFiles
from longtail.data.formats.cifar_records import Bytes, is_official, read_cifar
from longtail.errors import InputError, unknown_name
from longtail.version import __version__

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Source:
    """A place to download from.

    Args:
        urls: of the training and the test table as Parquet, or of the one archive in the binary layout.
    """

    urls: tuple[str, ...]

    @property
    def host(self) -> str:
        """For messages."""
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


def download(
    name: str,
    target_dir: Path,
    *,
    on_progress: Progress | None = None,
    sources: Sequence[Source] | None = None,
    timeout: float = 30.0,
) -> Path:
    """Fetch a data set into the official binary layout, unless it is there already.

    Args:
        name: "cifar10" or "cifar100".
        target_dir: the folder for data; the files go into its `cifar-10-batches-bin` or `cifar-100-binary`.
        on_progress: called with the bytes fetched and the size (None where the server does not tell), file after file.
        sources: places to try, in order; by default `SOURCES[name]`.
        timeout: longest silence of a server, in seconds.

    Returns:
        The folder with the files. Each appears there whole and checked, or not at all.

    Raises:
        InputError: if the name is unknown, the folder cannot be written to, or no source delivers the official files.

    Example:
        >>> download("cifar1000", Path("data"))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there is no data set to download 'cifar1000'; did you mean cifar100 or cifar10?
    """
    if name not in CIFARS:
        raise unknown_name("data set to download", name, CIFARS)
    cifar = CIFARS[name]
    folder = target_dir / cifar.layouts[0].folder
    if _is_there(cifar, folder):
        return folder
    places = SOURCES[name] if sources is None else sources
    try:
        target_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=target_dir) as scratch:
            files = _first_good(cifar, places, Path(scratch), on_progress, timeout)
            _put(cifar, files, Path(scratch), folder)
    except OSError as error:
        raise InputError(f"cannot write to {target_dir}: {error}; give another folder, or set LONGTAIL_DATA") from error
    return folder


def _is_there(cifar: Cifar, folder: Path) -> bool:
    files = CifarFiles(cifar, cifar.layouts[0], folder)
    if not files.complete:
        return False
    try:
        return all(map(is_official, read_cifar(files), cifar.digests))
    except InputError:  # truncated, say: fetched anew
        return False


def _first_good(
    cifar: Cifar, sources: Sequence[Source], scratch: Path, on_progress: Progress | None, timeout: float
) -> list[Bytes]:
    """The official records of each file, from the first source that has them."""
    failed = []
    for source in sources:
        try:
            paths = [_fetch(url, scratch, on_progress, timeout) for url in source.urls]
            if len(paths) == 1:
                return _official(cifar, read_cifar(CifarFiles(cifar, cifar.layouts[0], paths[0])))
            return _official(cifar, _split(cifar, [_table_records(cifar, path) for path in paths]))
        except Exception as error:  # Pillow and Arrow raise all kinds on broken data; the next source may do better
            failed.append(f"  {source.host}: {error}")
    raise InputError(_no_luck(cifar, sources[-1].urls[-1], failed, scratch.parent))


def _no_luck(cifar: Cifar, archive_url: str, failed: list[str], target_dir: Path) -> str:
    archives = " or ".join(layout.archive for layout in cifar.layouts)
    tried = "\n".join(failed)
    return (
        f"cannot download {cifar.title}; tried\n{tried}\n"
        f"Where there is a network, fetch {archive_url}, and put it into {target_dir} as it is ({archives} will do); "
        f"or set LONGTAIL_DATA to the folder that holds it"
    )


def _fetch(url: str, folder: Path, on_progress: Progress | None, timeout: float) -> Path:
    """Download a file; the last part of the address is its name."""
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
        raise InputError(f"{path.name} broke off after {done:,} of {total:,} bytes")
    return path


def _table_records(cifar: Cifar, path: Path) -> Bytes:
    """Binary records of a Parquet table: a column of PNGs and one column per label."""
    columns = [key.removesuffix("s") for key in cifar.label_keys]
    table: Any = pyarrow.parquet.read_table(path, columns=["img", *columns])
    records = np.empty((len(table), cifar.record_bytes), np.uint8)
    for i, column in enumerate(columns):
        records[:, i] = table[column].to_numpy()
    for record_R, image in zip(records, table["img"].to_pylist(), strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(image["bytes"])))
        record_R[len(columns) :] = pixels.transpose(2, 0, 1).ravel()
    return records


def _split(cifar: Cifar, tables: list[Bytes]) -> list[Bytes]:
    """The training table cut into as many files as the binary layout has, then the test table."""
    return [*np.split(tables[0], len(cifar.digests) - 1), tables[1]]


def _official(cifar: Cifar, files: list[Bytes]) -> list[Bytes]:
    """The files put in the order of the digests, each matching its own."""
    ordered = []
    for name, digest in zip(cifar.layouts[0].files, cifar.digests, strict=True):
        match = next((records_NR for records_NR in files if is_official(records_NR, digest)), None)
        if match is None:
            raise InputError(f"what came is not the official {name}: no part of it has {digest}")
        ordered.append(match)
    return ordered


def _put(cifar: Cifar, files: list[Bytes], scratch: Path, folder: Path) -> None:
    """Write the files and the lists of class names beside the target, then move each into place."""
    contents = {name: records_NR.tobytes() for name, records_NR in zip(cifar.layouts[0].files, files, strict=True)}
    contents |= {name: ("\n".join(names) + "\n").encode() for name, names in cifar.names.items()}
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (scratch / name).write_bytes(content)
        (scratch / name).replace(folder / name)
