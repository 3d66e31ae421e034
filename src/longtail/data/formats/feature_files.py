"""Feature files: NPZ and safetensors, which are mapped into memory, and Parquet, which is read.

An NPZ file is a ZIP archive of arrays. Uncompressed arrays (`numpy.savez`) are contiguous in the file and can be
mapped. Those written here also start at multiples of 64 bytes, so that arithmetic on a mapped array needs no copy of
it. A safetensors file has a JSON header and contiguous tensors. A text column becomes a column of codes, with its
vocabulary in the metadata.

Shapes: N = rows, B = rows of a block, D = embedding dimension, C = classes.
"""

import itertools
import json
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from longtail._io import atomic_write
from longtail.errors import InputError

Array = npt.NDArray[Any]
Block = tuple[Array, Array | None]
"""Embeddings (B, D), and logits (B, C) if there is a head."""

KEY = "longtail"
"""Key of the facts about all rows, as JSON, in the metadata of a Parquet or safetensors file."""

_ALIGNMENT = 64
_PADDING_FIELD = 0xD935  # tag of padding in a ZIP archive, which readers skip
_ZIP64_FIELD = 20  # bytes that zipfile adds for a member of any size
_HEADER = 30  # bytes of the header of a member, before its name
_BROKEN = (
    OSError, ValueError, EOFError, KeyError, SyntaxError, NotImplementedError, RuntimeError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
_TENSOR_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1",
}  # fmt: skip


def _write_blocks(
    blocks: Iterable[Block], num_rows: int, dtype: np.dtype[Any], embeddings: IO[bytes], logits: IO[bytes]
) -> None:
    written = 0
    for embeddings_BD, logits_BC in blocks:
        embeddings.write(embeddings_BD.astype(dtype).tobytes())
        if logits_BC is not None:
            logits.write(logits_BC.astype(dtype).tobytes())
        written += len(embeddings_BD)
    assert written == num_rows, f"got {written} rows, expected {num_rows}"


def write_npz(
    path: Path, columns: Mapping[str, Array], facts: Mapping[str, Any], blocks: Iterable[Block], dtype: str
) -> None:
    """Write an NPZ file atomically, with at most one block in memory.

    Args:
        path: File to write or replace.
        columns: Known columns by name, N entries each. At least one.
        facts: Facts about all rows. Lists become arrays, mappings become JSON text.
        blocks: Embeddings and logits of N rows in total. All blocks have logits, or none has.
        dtype: Type of embeddings and logits, "float32" or "float16".
    """
    num_rows, blocks = len(next(iter(columns.values()))), iter(blocks)
    first = next(blocks)
    # an archive is written member by member, so the logits are kept in an unnamed file
    with (
        atomic_write(path) as file,
        tempfile.TemporaryFile(dir=path.parent) as logits,
        zipfile.ZipFile(file, "w") as archive,
    ):
        with _member(archive, "embeddings", np.dtype(dtype), (num_rows, first[0].shape[1])) as member:
            _write_blocks(itertools.chain([first], blocks), num_rows, np.dtype(dtype), member, logits)
        if first[1] is not None:
            logits.seek(0)
            with _member(archive, "logits", np.dtype(dtype), (num_rows, first[1].shape[1])) as member:
                shutil.copyfileobj(logits, member, 2**20)
        for name, array in {**columns, **_fact_arrays(facts)}.items():
            with _member(archive, name, array.dtype, array.shape) as member:
                member.write(array.tobytes())


def _member(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> IO[bytes]:
    """Open a member of the archive whose data start at a multiple of 64 bytes, and write the header of the array."""
    assert archive.fp is not None
    info = zipfile.ZipInfo(f"{name}.npy")
    start = archive.fp.tell() + _HEADER + len(info.filename) + _ZIP64_FIELD + 4
    padding = -start % _ALIGNMENT
    info.extra = struct.pack("<HH", _PADDING_FIELD, padding) + bytes(padding)
    member = archive.open(info, "w", force_zip64=True)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)  # its length is a multiple of 64 bytes too
    return member


def _fact_arrays(facts: Mapping[str, Any]) -> dict[str, Array]:
    return {key: np.array(json.dumps(fact) if isinstance(fact, Mapping) else fact) for key, fact in facts.items()}


def read_npz(path: Path, wanted: Collection[str]) -> tuple[dict[str, Array], list[str]]:
    """Read arrays of an NPZ file, mapped if they are not compressed.

    Args:
        path: File to read.
        wanted: Names of arrays to read if present.

    Returns:
        The arrays, read-only if mapped, and the names of all arrays in the file.

    Raises:
        InputError: If the file is truncated, is not an NPZ file or holds Python objects.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            found = {name: info for name, info in members.items() if name in wanted}
            return {name: _read_member(path, file, archive, info) for name, info in found.items()}, list(members)
    except _BROKEN as error:
        remedy = "it is truncated or no NPZ file; write it again with numpy.savez"
        if "object" in str(error).lower():
            remedy = "Python objects are never loaded; write texts as numpy.array(names, dtype=str)"
        raise InputError(f"cannot read {path}: {error}; {remedy}") from error


def _read_member(path: Path, file: IO[bytes], archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    if info.compress_type == zipfile.ZIP_STORED and info.file_size:
        return _map_member(path, file, info)
    with archive.open(info) as member:
        array: Array = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _map_member(path: Path, file: IO[bytes], info: zipfile.ZipInfo) -> Array:
    file.seek(info.header_offset)
    header = file.read(_HEADER)
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    file.seek(name_length + extra_length, 1)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{info.filename} has format version {version}, which is for tables with named columns")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python objects")
    if not np.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", file.tell(), shape, "F" if is_fortran else "C")


def write_safetensors(
    path: Path, columns: Mapping[str, Array], facts: Mapping[str, Any], blocks: Iterable[Block], dtype: str
) -> None:
    """Write a safetensors file atomically, with at most one block in memory.

    Args:
        path: File to write or replace.
        columns: Known columns by name, N integers or texts each. At least one.
        facts: Facts about all rows, written as JSON into the metadata.
        blocks: Embeddings and logits of N rows in total. All blocks have logits, or none has.
        dtype: Type of embeddings and logits, "float32" or "float16".
    """
    num_rows, blocks = len(next(iter(columns.values()))), iter(blocks)
    first = next(blocks)
    vocabularies, integers = {}, {}
    for name, column in columns.items():
        if column.dtype.kind == "U":
            vocabulary, codes_N = np.unique(column, return_inverse=True)
            vocabularies[name], integers[name] = vocabulary.tolist(), codes_N.astype("<i8")
        else:
            integers[name] = column.astype("<i8")
    widths = {"embeddings": first[0].shape[1]} | ({} if first[1] is None else {"logits": first[1].shape[1]})
    kind = "F32" if dtype == "float32" else "F16"
    entries: list[tuple[str, str, tuple[int, ...]]] = [(name, "I64", (num_rows,)) for name in integers]
    entries += [(name, kind, (num_rows, width)) for name, width in widths.items()]
    little_endian = np.dtype(_TENSOR_DTYPES[kind])
    with atomic_write(path) as file, tempfile.TemporaryFile(dir=path.parent) as logits:
        file.write(_tensor_header(entries, {KEY: json.dumps({**facts, "vocabularies": vocabularies})}))
        for codes_N in integers.values():
            file.write(codes_N.tobytes())
        _write_blocks(itertools.chain([first], blocks), num_rows, little_endian, file, logits)
        logits.seek(0)
        shutil.copyfileobj(logits, file, 2**20)


def _tensor_header(entries: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, kind, shape in entries:
        end = start + int(np.prod(shape)) * np.dtype(_TENSOR_DTYPES[kind]).itemsize
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def read_safetensors(path: Path, wanted: Collection[str]) -> tuple[dict[str, Array], list[str]]:
    """Map tensors of a safetensors file.

    Args:
        path: File to read.
        wanted: Names of tensors to read if present.

    Returns:
        The tensors as read-only arrays, with the facts in the metadata, and the names of all tensors in the file.

    Raises:
        InputError: If the file is truncated, is not a safetensors file, or a wanted tensor has a type without an
            equivalent in NumPy.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as checked:  # checks header, offsets and file size
            facts = _facts((checked.metadata() or {}).get(KEY, "{}"))
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        arrays = {name: _map_tensor(path, 8 + length, name, header[name]) for name in header if name in wanted}
        for name, vocabulary in dict(facts.pop("vocabularies", {})).items():
            if name in arrays:
                arrays[name] = np.array(vocabulary)[arrays[name]]
        return {**_fact_arrays(facts), **arrays}, list(header)
    except (SafetensorError, OSError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}; it is truncated or not a safetensors file") from error


def _facts(text: str | bytes) -> dict[str, Any]:
    facts = json.loads(text)
    if not isinstance(facts, dict):
        raise ValueError(f"the entry {KEY!r} of its metadata must be a JSON object, got {str(text)[:50]!r}")
    return facts


def _map_tensor(path: Path, start: int, name: str, entry: Mapping[str, Any]) -> Array:
    if entry["dtype"] not in _TENSOR_DTYPES:
        raise ValueError(f"{name} has type {entry['dtype']}, and must have one of {', '.join(_TENSOR_DTYPES)}")
    dtype, shape = np.dtype(_TENSOR_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    if not np.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", start + entry["data_offsets"][0], shape)


def write_parquet(
    path: Path, columns: Mapping[str, Array], facts: Mapping[str, Any], blocks: Iterable[Block], dtype: str
) -> None:
    """Write a Parquet table atomically, with a row group per block and embeddings as lists.

    Args:
        path: File to write or replace.
        columns: Known columns by name, N entries each. At least one.
        facts: Facts about all rows, written as JSON into the metadata.
        blocks: Embeddings and logits of N rows in total. All blocks have logits, or none has.
        dtype: Type of embeddings and logits, "float32" or "float16".
    """
    tables = _tables(columns, blocks, np.dtype(dtype))
    first = next(tables)
    schema = first.schema.with_metadata({KEY.encode(): json.dumps(facts).encode()})
    with atomic_write(path) as file, pa_parquet.ParquetWriter(file, schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def _tables(columns: Mapping[str, Array], blocks: Iterable[Block], dtype: np.dtype[Any]) -> Iterator[Any]:
    start = 0
    for embeddings_BD, logits_BC in blocks:
        end = start + len(embeddings_BD)
        arrays = {name: pa.array(column[start:end]) for name, column in columns.items()}
        arrays["embeddings"] = _lists(embeddings_BD, dtype)
        if logits_BC is not None:
            arrays["logits"] = _lists(logits_BC, dtype)
        yield pa.table(arrays)
        start = end
    assert all(len(column) == start for column in columns.values()), f"got {start} rows, which are not all"


def _lists(values_BK: Array, dtype: np.dtype[Any]) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(values_BK.astype(dtype).ravel()), values_BK.shape[1])


def column_names(path: Path) -> list[str]:
    """Return the column names of a Parquet table, or none if it cannot be read."""
    try:
        names: list[str] = pa_parquet.read_schema(path).names
    except (pa.ArrowException, OSError, ValueError):
        return []
    return names


def read_parquet(path: Path, wanted: Collection[str]) -> tuple[dict[str, Array], list[str]]:
    """Read columns of a Parquet table into memory, with lists as arrays (N, D).

    Args:
        path: File to read.
        wanted: Names of columns to read if present.

    Returns:
        The arrays, with the facts in the metadata, and the names of all columns in the file.

    Raises:
        InputError: If the file cannot be read, a cell is empty, or the lists of a column differ in length.
    """
    try:
        with pa_parquet.ParquetFile(path) as file:
            names: list[str] = file.schema_arrow.names
            facts = _facts((file.schema_arrow.metadata or {}).get(KEY.encode(), b"{}"))
            arrays = {name: _column(file, name) for name in names if name in wanted}
        return {**_fact_arrays(facts), **arrays}, names
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}; write it again with `longtail features`") from error


def _column(file: Any, name: str) -> Array:
    """Read a column batch by batch into one array, so that it is in memory once."""
    num_rows, column, start = file.metadata.num_rows, None, 0
    for batch in file.iter_batches(batch_size=4096, columns=[name]):
        values = _values(batch.column(0), name)
        if column is None:
            column = np.empty((num_rows, *values.shape[1:]), values.dtype if values.dtype.kind != "U" else object)
        if values.shape[1:] != column.shape[1:]:
            raise ValueError(f"the lists of the column {name!r} have lengths {column.shape[1]} and {values.shape[1]}")
        column[start : start + len(values)] = values
        start += len(values)
    if column is None:
        return np.empty(0)
    return column if column.dtype.kind != "O" else column.astype(np.str_)


def _values(column: Any, name: str) -> Array:
    if column.null_count:
        raise ValueError(f"{column.null_count} cells of the column {name!r} are empty")
    if not hasattr(column, "flatten"):
        values: Array = column.to_numpy(zero_copy_only=False)
        return values.astype(np.str_) if values.dtype.kind == "O" else values
    lengths = set(column.value_lengths().to_pylist())
    if len(lengths) != 1:
        raise ValueError(f"the lists of the column {name!r} differ in length: {sorted(lengths)[:5]}")
    flat: Array = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), lengths.pop())
