"""Features in an NPZ file that any tool opens with `numpy.load`, and that is mapped into memory instead of read.

An NPZ file is a ZIP archive of arrays. Where they are stored as they are (`numpy.savez`, not `savez_compressed`) each
is one stretch of the file, which can be mapped. Ours also start on whole multiples of 64 bytes, so that arithmetic on
the mapped array needs no copy of it.

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
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from longtail._io import atomic_write
from longtail.errors import InputError

Array = npt.NDArray[Any]
Block = tuple[Array, Array | None]
"""Embeddings (B, D), and logits (B, C) where there is a head."""

_ALIGNMENT = 64
_PADDING_FIELD = 0xD935  # the tag of padding in a ZIP archive, which readers pass over
_ZIP64_FIELD = 20  # bytes that zipfile adds for members of any size
_HEADER = 30  # bytes of a member's header, before its name
_BROKEN = (
    OSError, ValueError, EOFError, KeyError, SyntaxError, NotImplementedError, RuntimeError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip


def write_npz(
    path: Path, columns: Mapping[str, Array], facts: Mapping[str, Any], blocks: Iterable[Block], dtype: str
) -> None:
    """Write features block by block, whole or not at all; no more than a block is ever held.

    Args:
        path: of the file; one that is there is replaced.
        columns: what is known of every row beforehand, by name, each of N entries; at least one.
        facts: about all rows: lists become arrays, mappings a text of JSON.
        blocks: embeddings and logits of N rows in all; all with logits, or none.
        dtype: of both, "float32" or "float16".
    """
    num_rows = len(next(iter(columns.values())))
    # the logits wait in a file without a name, as an archive is written one member after the other
    with (
        atomic_write(path) as file,
        tempfile.TemporaryFile(dir=path.parent) as waiting,
        zipfile.ZipFile(file, "w") as archive,
    ):
        num_logits = _write_embeddings(archive, num_rows, blocks, waiting, np.dtype(dtype))
        if num_logits:
            waiting.seek(0)
            with _member(archive, "logits", np.dtype(dtype), (num_rows, num_logits)) as member:
                shutil.copyfileobj(waiting, member, 2**20)
        for name, array in {**columns, **{key: _array(fact) for key, fact in facts.items()}}.items():
            with _member(archive, name, array.dtype, array.shape) as member:
                member.write(array.tobytes())


def _write_embeddings(
    archive: zipfile.ZipFile, num_rows: int, blocks: Iterable[Block], waiting: IO[bytes], dtype: np.dtype[Any]
) -> int:
    """Write the embeddings to the archive and the logits to where they wait; gives the number of logits of a row."""
    blocks = iter(blocks)
    first = next(blocks)
    num_logits, written = 0 if first[1] is None else first[1].shape[1], 0
    with _member(archive, "embeddings", dtype, (num_rows, first[0].shape[1])) as member:
        for embeddings_BD, logits_BC in itertools.chain([first], blocks):
            member.write(embeddings_BD.astype(dtype).tobytes())
            if logits_BC is not None:
                waiting.write(logits_BC.astype(dtype).tobytes())
            written += len(embeddings_BD)
    assert written == num_rows, f"{written} rows came, {num_rows} were announced"
    return num_logits


def _member(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> IO[bytes]:
    """A member of the archive, its header written, padded so that what follows starts on a multiple of 64 bytes."""
    assert archive.fp is not None
    info = zipfile.ZipInfo(f"{name}.npy")
    start = archive.fp.tell() + _HEADER + len(info.filename) + _ZIP64_FIELD + 4
    padding = -start % _ALIGNMENT
    info.extra = struct.pack("<HH", _PADDING_FIELD, padding) + bytes(padding)
    member = archive.open(info, "w", force_zip64=True)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)  # which itself takes a multiple of 64 bytes
    return member


def _array(fact: Any) -> Array:
    return np.array(json.dumps(fact) if isinstance(fact, Mapping) else fact)


def read_npz(path: Path, wanted: Collection[str]) -> tuple[dict[str, Array], list[str]]:
    """The wanted arrays of an NPZ file, mapped where they are stored as they are.

    Args:
        path: of the file.
        wanted: names of arrays; those that there are not are left out.

    Returns:
        The arrays, read-only where mapped, and the names of all that the file holds.

    Raises:
        InputError: for a file that is truncated, is no NPZ file or holds Python objects.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            found = {name: info for name, info in members.items() if name in wanted}
            return {name: _read(path, file, archive, info) for name, info in found.items()}, list(members)
    except _BROKEN as error:
        advice = "it is truncated or no NPZ file; write it again with numpy.savez"
        if "object" in str(error).lower():
            advice = "Python objects are never loaded; write texts as numpy.array(names, dtype=str)"
        raise InputError(f"cannot read {path}: {error}; {advice}") from error


def _read(path: Path, file: IO[bytes], archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    if info.compress_type == zipfile.ZIP_STORED and info.file_size:
        return _mapped(path, file, info)
    with archive.open(info) as member:
        array: Array = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _mapped(path: Path, file: IO[bytes], info: zipfile.ZipInfo) -> Array:
    file.seek(info.header_offset)
    header = file.read(_HEADER)
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    file.seek(name_length + extra_length, 1)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{info.filename} has the format {version}, which is that of tables with columns of their own")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python objects")
    if not np.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", file.tell(), shape, "F" if is_fortran else "C")
