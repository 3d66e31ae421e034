"""Images inside of Parquet tables, each addressed by a path: `photos.parquet/image/17` is row 17 of column `image`.

A Parquet file has no random access: one image costs the decompression of its row group, which is often the whole file.
The bytes of the images are therefore copied once, a few rows at a time, into a file of the cache. All processes map
this file into memory and share its pages. The cache is `$LONGTAIL_CACHE`, by default `~/.cache/longtail/tables`. Its
files can be deleted while no run reads them.

Shapes: N = rows.
"""

import functools
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np

from longtail._io import atomic_write
from longtail.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".parquet"
ROWS_AT_ONCE = 32
Bytes = np.typing.NDArray[np.uint8]
USUAL_COLUMNS = ("image", "img", "bytes")


def image_columns(schema: "pa.Schema") -> list[str]:
    """Return the columns that hold the bytes of image files, those with a usual name first.

    Such a column has a binary type, or is a mapping with the field `bytes`, as Hugging Face data sets write it.

    Args:
        schema: Schema of the table.
    """
    found = [field.name for field in schema if holds_bytes(field.type)]
    return sorted(found, key=lambda name: name.lower() not in USUAL_COLUMNS)


def holds_bytes(kind: "pa.DataType") -> bool:
    """Return whether a column of a type holds the bytes of files.

    Args:
        kind: Type of the column.
    """
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def tables_in(folder: Path) -> list[Path]:
    """Return the Parquet tables of a folder without other folders, or of its only folder `data`, sorted.

    Args:
        folder: The folder.
    """
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        home = folder / "data" if names == ["data"] else folder
        if names and home == folder:
            return []
        return sorted(path for path in home.iterdir() if path.suffix.lower() == SUFFIX and path.is_file())
    except OSError:  # the reader of folders states the reason
        return []


def packed_paths(table: Path, column: str) -> list[Path]:
    """Return the paths of all images of a table, whose bytes are copied to the cache if they are not there.

    Args:
        table: Parquet file.
        column: Column of the images.

    Raises:
        InputError: If the table cannot be read, or the cache cannot be written.
    """
    folder = table / quote(column, safe="")
    return [folder / str(row) for row in range(_Pack.of(str(table), column).count)]


def all_packed_paths(table: Path, column: str | None = None) -> list[Path]:
    """Return the paths of all images of a table.

    Args:
        table: Parquet file.
        column: Column of the images. Default: the first that holds bytes.

    Raises:
        InputError: If the table cannot be read, or has no such column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pa_parquet

    try:
        found = image_columns(pa_parquet.read_schema(table))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot read the table {str(table)!r}: {error}") from error
    if not found or (column is not None and column not in found):
        wanted = "no column with the bytes of images" if not found else f"no column {column!r} with the bytes of images"
        raise InputError(f"{str(table)!r} has {wanted}, only: {', '.join(found) or 'others'}; give image files instead")
    return packed_paths(table, column or found[0])


def is_packed(path: Path) -> bool:
    """Return whether a path is one of `packed_paths`.

    Args:
        path: Any path.
    """
    return path.parent.parent.suffix.lower() == SUFFIX and path.name.isdecimal() and path.parent.parent.is_file()


def read_bytes(path: Path) -> bytes:
    """Return the content of an image file, which may be inside of a Parquet table.

    Args:
        path: Path of a file, or one of `packed_paths`.

    Raises:
        OSError: If the file cannot be read.
    """
    if not is_packed(path):
        return path.read_bytes()
    return _row(path).tobytes()


def file_size(path: Path) -> int:
    """Return the number of bytes of an image file, which may be inside of a Parquet table.

    Args:
        path: Path of a file, or one of `packed_paths`.
    """
    return len(_row(path)) if is_packed(path) else os.path.getsize(path)


def read_tail(path: Path, count: int) -> bytes:
    """Return the last bytes of an image file, which may be inside of a Parquet table.

    Args:
        path: Path of a file, or one of `packed_paths`.
        count: Largest number of bytes.
    """
    if is_packed(path):
        return _row(path)[-count:].tobytes()
    with path.open("rb", buffering=0) as file:
        file.seek(-min(count, os.path.getsize(path)), os.SEEK_END)
        return file.read()


def _row(path: Path) -> Bytes:
    """Return the bytes that one of `packed_paths` stands for, which are not read before they are used."""
    return _Pack.of(str(path.parent.parent), unquote(path.parent.name))[int(path.name)]


class _Pack:
    """Bytes of the images of one column: values, then N + 1 offsets, then N, each a little-endian int64."""

    def __init__(self, file: Path) -> None:
        self.data: Any = np.memmap(file, np.uint8, "r")
        self.count = int(self.data[-8:].view("<i8")[0])
        self.offsets = self.data[-8 * (self.count + 2) : -8].view("<i8")

    @classmethod
    def of(cls, table: str, column: str) -> "_Pack":
        """Return the images of a column, from the cache of this process if possible."""
        state = os.stat(table)
        return _open(os.path.realpath(table), column, state.st_size, state.st_mtime_ns)

    def __getitem__(self, row: int) -> Bytes:
        content: Bytes = self.data[self.offsets[row] : self.offsets[row + 1]]
        return content


@functools.lru_cache(maxsize=16)
def _open(table: str, column: str, size: int, changed: int) -> _Pack:
    key = hashlib.sha256(os.fsencode(f"{table}\0{column}\0{size}\0{changed}")).hexdigest()[:32]
    for folder in _cache_folders():
        if (folder / key).is_file():
            return _Pack(folder / key)
    folder = next(filter(_is_writable, _cache_folders()), _cache_folders()[0])
    _copy(Path(table), column, folder / key)
    return _Pack(folder / key)


def _cache_folders() -> list[Path]:
    chosen = os.environ.get("LONGTAIL_CACHE")
    usual = Path(chosen) if chosen else Path("~/.cache/longtail/tables").expanduser()
    return [usual, Path(tempfile.gettempdir()) / f"longtail-tables-{os.getuid() if hasattr(os, 'getuid') else 0}"]


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _copy(table: Path, column: str, target: Path) -> None:
    """Copy the images of a column to a file, in batches of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pa_parquet

    offsets = [0]
    try:
        with pa_parquet.ParquetFile(table, memory_map=True) as source, atomic_write(target) as file:
            for batch in source.iter_batches(ROWS_AT_ONCE, columns=[column]):
                values = batch.column(column)
                if pa.types.is_struct(values.type):
                    values = values.flatten()[values.type.get_field_index("bytes")]  # null where the row is null
                for value in values:
                    content = value.as_buffer() if value.is_valid else b""
                    file.write(content or b"")
                    offsets.append(offsets[-1] + (len(content) if content else 0))
            file.write(b"\0" * (-offsets[-1] % 8))
            file.write(np.array([*offsets, len(offsets) - 1], "<i8").tobytes())
    except pa.ArrowException as error:
        raise InputError(f"cannot read the images of {str(table)!r}: {error}; write the table again") from error
    except OSError as error:
        raise InputError(
            f"cannot copy the images of {str(table)!r} to the cache {str(target.parent)!r}: {error}; set "
            "$LONGTAIL_CACHE to a folder with as much free space as the table needs"
        ) from error
