"""The bytes of the official CIFAR files, from a folder or an archive.

Whatever the layout, a file becomes the records of the binary one: one or two label bytes, then 3072 bytes of pixels
(channel, row, column). So one digest tells whether a file is the official one.

Shapes: N = images of a file, R = bytes of a record.
"""

import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from longtail.data.formats.cifar_files import Cifar, CifarFiles
from longtail.data.pickles import load_arrays
from longtail.errors import InputError

Bytes = npt.NDArray[np.uint8]


def read_cifar(files: CifarFiles) -> list[Bytes]:
    """All files as binary records: the training files in their order, then the test file; each of shape (N, R).

    Raises:
        InputError: naming the file that is missing, of another size, truncated, or holds a label out of range.
    """
    records = []
    for (name, raw), size in zip(_contents(files), files.cifar.sizes, strict=True):
        parse = binary_records if files.layout.kind == "binary" else python_records
        records.append(parse(raw, files.cifar, size, files.where(name)))
    return records


def _contents(files: CifarFiles) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file; an archive is read where it is, nothing of it is written to disk."""
    packed = _unpacked(files) if files.path.is_file() else None
    for name in files.layout.files:
        if packed is None:
            yield name, _file_bytes(files, name)
        elif name in packed:
            yield name, packed.pop(name)
        else:
            raise _missing(files, name)


def _file_bytes(files: CifarFiles, name: str) -> bytes:
    try:
        return (files.path / name).read_bytes()
    except FileNotFoundError as error:
        raise _missing(files, name) from error
    except OSError as error:
        raise InputError(f"cannot read {files.where(name)}: {error}") from error


def _unpacked(files: CifarFiles) -> dict[str, bytes]:
    wanted = {f"{files.layout.folder}/{name}": name for name in files.layout.files}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(files.path) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                name = wanted.get(member.name.removeprefix("./"))
                if stream is not None and name is not None:
                    contents[name] = stream.read()
                if len(contents) == len(wanted):
                    break
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        size = files.path.stat().st_size
        raise InputError(
            f"cannot read {files.path} ({size:,} bytes), it is truncated or no archive: {error}; get it anew"
        ) from error
    return contents


def _missing(files: CifarFiles, name: str) -> InputError:
    needed = ", ".join(files.layout.files)
    return InputError(
        f"there is no {files.where(name)}; {files.cifar.title} needs {needed}: get it with "
        f"`longtail data get {files.cifar.name}`"
    )


def binary_records(raw: bytes, cifar: Cifar, size: int, where: str) -> Bytes:
    """Records of a file of the binary layout.

    Args:
        raw: its bytes.
        cifar: the data set it is of.
        size: images it must hold.
        where: the file, for messages.

    Returns:
        Shape (size, R), read-only.

    Raises:
        InputError: for another number of bytes or a label out of range.

    Example:
        >>> from longtail.data.formats.cifar_files import CIFAR10
        >>> binary_records(bytes([3]) + bytes(3072), CIFAR10, 1, "data_batch_1.bin").shape
        (1, 3073)
    """
    needed = size * cifar.record_bytes
    if len(raw) != needed:
        raise InputError(
            f"{where} has {len(raw):,} bytes, but {needed:,} are needed ({size:,} images of {cifar.record_bytes:,}): "
            f"it is truncated or another file; get it anew with `longtail data get {cifar.name}`"
        )
    return _checked(np.frombuffer(raw, np.uint8).reshape(size, cifar.record_bytes), cifar, where)


def python_records(raw: bytes, cifar: Cifar, size: int, where: str) -> Bytes:
    """Records of a file of the Python layout, a pickled mapping; arguments and errors as for `binary_records`.

    Example:
        >>> import pickle
        >>> from longtail.data.formats.cifar_files import CIFAR10
        >>> batch = {"data": np.zeros((1, 3072), np.uint8), "labels": [3]}
        >>> python_records(pickle.dumps(batch), CIFAR10, 1, "data_batch_1")[0, :2]
        array([3, 0], dtype=uint8)
    """
    content = load_arrays(raw, where)
    if not isinstance(content, dict):
        raise InputError(f"{where} must hold a mapping with 'data' and labels, not a {type(content).__name__}")
    labels = [_column(content, key, (size,), where).reshape(-1, 1) for key in cifar.label_keys]
    records = np.concatenate([*labels, _column(content, "data", (size, 3 * 32 * 32), where)], axis=1)
    return _checked(records, cifar, where)


def _column(content: dict[Any, Any], key: str, shape: tuple[int, ...], where: str) -> Bytes:
    value = content.get(key.encode(), content.get(key))
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal length
        array = np.asarray(None)
    if array.shape != shape or array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise InputError(
            f"{where}: '{key}' must be whole numbers from 0 to 255 of shape {shape}, not "
            f"{'missing' if value is None else f'{array.dtype} of shape {array.shape}'}; use the official file"
        )
    return array.astype(np.uint8)


def _checked(records_NR: Bytes, cifar: Cifar, where: str) -> Bytes:
    labels_N = records_NR[:, len(cifar.label_keys) - 1]
    wrong = np.flatnonzero(labels_N >= len(cifar.class_names))
    if len(wrong):
        raise InputError(
            f"{where}: image {wrong[0]} has label {labels_N[wrong[0]]}, but {cifar.title} has labels 0 to "
            f"{len(cifar.class_names) - 1}: use the official file"
        )
    return records_NR


def is_official(records_NR: Bytes, digest: str) -> bool:
    """Whether records have a digest, given as "algorithm:hex".

    Example:
        >>> is_official(np.zeros((1, 4), np.uint8), "md5:f1d3ff8443297732862df21dc4e57262")
        True
    """
    algorithm, _, expected = digest.partition(":")
    content = np.ascontiguousarray(records_NR).data
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == expected
