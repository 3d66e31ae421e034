"""CIFAR-10 and CIFAR-100 in the official files: names, digests, and the bytes of a folder or an archive.

A file of either layout becomes the records of the binary one: one or two label bytes, then 3072 bytes of pixels
(channel, row, column). One digest thus identifies an official file in both layouts. The Python layout is pickled. A
pickle may name any function and have it called, so only the three functions that arrays need are allowed.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.

Shapes: N = images of a file, R = bytes of a record.
"""

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longtail.errors import InputError

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """One of the two official file layouts.

    Args:
        kind: "binary" or "python".
        folder: Folder that the archive unpacks to.
        archive: File name of the archive.
        files: Training files in their order, then the test file.
    """

    kind: str
    folder: str
    archive: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Cifar:
    """Constants of a data set.

    Args:
        name: Name of the data set, "cifar10" or "cifar100".
        title: Name in messages.
        names: Class names, under the text file that holds them in the binary layout. The first are the classes used.
        label_keys: Label keys of the Python layout, in the order of the binary label bytes. The last is the label used.
        layouts: Binary layout, then Python layout.
        digests: Digest of each file of the binary layout as "algorithm:hex". Only MD5 digests of CIFAR-10 are known.
        train_images: Number of training images.
        test_images: Number of test images.
    """

    name: str
    title: str
    names: Mapping[str, tuple[str, ...]]
    label_keys: tuple[str, ...]
    layouts: tuple[Layout, Layout]
    digests: tuple[str, ...]
    train_images: int = 50_000
    test_images: int = 10_000

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return next(iter(self.names.values()))

    @property
    def record_bytes(self) -> int:
        """Bytes of one image in the binary layout: its labels, then 3072 bytes of pixels."""
        return len(self.label_keys) + 3 * 32 * 32

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of images in each file, training files first."""
        parts = len(self.digests) - 1
        return (self.train_images // parts,) * parts + (self.test_images,)


_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")

_TEN = "airplane automobile bird cat deer dog frog horse ship truck"

CIFAR10 = Cifar(
    name="cifar10",
    title="CIFAR-10",
    names={"batches.meta.txt": tuple(_TEN.split())},
    label_keys=("labels",),
    layouts=(
        Layout("binary", "cifar-10-batches-bin", "cifar-10-binary.tar.gz", tuple(f"{b}.bin" for b in _BATCHES)),
        Layout("python", "cifar-10-batches-py", "cifar-10-python.tar.gz", _BATCHES),
    ),
    digests=(
        "md5:5dd7e06a14cb22eb9f671a540d1b7c25",
        "md5:5ea93a67294ea407fff1d09f752e9692",
        "md5:942cd6a4bcdd0dd3c604fbe906cb4421",
        "md5:ae636b3ba5c66a11e91e8cb52e771fcb",
        "md5:53f37980c15c3d472c316c40844f3f0d",
        "md5:803d5f7f4d78ea53de84dbe85f74fb6d",
    ),
)

_FINE = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
tulip turtle wardrobe whale willow_tree wolf woman worm"""

_COARSE = """aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
vehicles_1 vehicles_2"""

CIFAR100 = Cifar(
    name="cifar100",
    title="CIFAR-100",
    names={"fine_label_names.txt": tuple(_FINE.split()), "coarse_label_names.txt": tuple(_COARSE.split())},
    label_keys=("coarse_labels", "fine_labels"),
    layouts=(
        Layout("binary", "cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin", "test.bin")),
        Layout("python", "cifar-100-python", "cifar-100-python.tar.gz", ("train", "test")),
    ),
    digests=(
        "sha256:f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        "sha256:d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    ),
)

CIFARS = {cifar.name: cifar for cifar in (CIFAR10, CIFAR100)}


@dataclass(frozen=True)
class CifarFiles:
    """Files of a data set on disk.

    Args:
        cifar: Constants of the data set.
        layout: Layout of the files.
        path: Folder that holds the files, or the archive.
    """

    cifar: Cifar
    layout: Layout
    path: Path

    @property
    def complete(self) -> bool:
        """Whether all files exist. An archive counts as complete until it is read."""
        return self.path.is_file() or all((self.path / name).is_file() for name in self.layout.files)

    def where(self, name: str) -> str:
        """Return the location of one of the files, for messages."""
        return f"{name} in {self.path}" if self.path.is_file() else str(self.path / name)

    def read(self) -> list[Bytes]:
        """Read all files as binary records of shape (N, R): training files in their order, then the test file.

        Raises:
            InputError: If a file is missing, truncated, of another size, or holds a label out of range.
        """
        parse = binary_records if self.layout.kind == "binary" else python_records
        return [
            parse(raw, self.cifar, size, self.where(name))
            for (name, raw), size in zip(self._contents(), self.cifar.sizes, strict=True)
        ]

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes of each file. An archive is read in place, without unpacking it to disk."""
        unpacked = self._unpack() if self.path.is_file() else None
        for name in self.layout.files:
            if unpacked is None:
                yield name, self._file_bytes(name)
            elif name in unpacked:
                yield name, unpacked.pop(name)
            else:
                raise self._missing(name)

    def _file_bytes(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError as error:
            raise self._missing(name) from error
        except OSError as error:
            raise InputError(f"cannot read {self.where(name)}: {error}") from error

    def _unpack(self) -> dict[str, bytes]:
        wanted = {f"{self.layout.folder}/{name}": name for name in self.layout.files}
        contents: dict[str, bytes] = {}
        try:
            with tarfile.open(self.path) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.isfile() else None
                    name = wanted.get(member.name.removeprefix("./"))
                    if stream is not None and name is not None:
                        contents[name] = stream.read()
                    if len(contents) == len(wanted):
                        break
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            size = self.path.stat().st_size
            raise InputError(
                f"cannot read {self.path} ({size:,} bytes), it is truncated or not an archive: {error}; download it "
                "again"
            ) from error
        return contents

    def _missing(self, name: str) -> InputError:
        needed = ", ".join(self.layout.files)
        return InputError(
            f"there is no {self.where(name)}; {self.cifar.title} needs {needed}: get it with "
            f"`longtail data get {self.cifar.name}`"
        )


def binary_records(raw: bytes, cifar: Cifar, size: int, where: str) -> Bytes:
    """Parse a file of the binary layout.

    Args:
        raw: Content of the file.
        cifar: Constants of its data set.
        size: Number of images that it must hold.
        where: Location of the file, for messages.

    Returns:
        Records of shape (size, R), read-only.

    Raises:
        InputError: If the number of bytes is wrong or a label is out of range.

    Example:
        >>> binary_records(bytes([3]) + bytes(3072), CIFAR10, 1, "data_batch_1.bin").shape
        (1, 3073)
    """
    needed = size * cifar.record_bytes
    if len(raw) != needed:
        raise InputError(
            f"{where} has {len(raw):,} bytes, but needs {needed:,} ({size:,} images of {cifar.record_bytes:,}): it is "
            f"truncated or another file; get it again with `longtail data get {cifar.name}`"
        )
    return _check_labels(np.frombuffer(raw, np.uint8).reshape(size, cifar.record_bytes), cifar, where)


def python_records(raw: bytes, cifar: Cifar, size: int, where: str) -> Bytes:
    """Parse a file of the Python layout, a pickled mapping.

    Args:
        raw: Content of the file.
        cifar: Constants of its data set.
        size: Number of images that it must hold.
        where: Location of the file, for messages.

    Returns:
        Records of shape (size, R).

    Raises:
        InputError: If the content is not the expected mapping or a label is out of range.

    Example:
        >>> batch = {"data": np.zeros((1, 3072), np.uint8), "labels": [3]}
        >>> python_records(pickle.dumps(batch), CIFAR10, 1, "data_batch_1")[0, :2]
        array([3, 0], dtype=uint8)
    """
    content = load_arrays(raw, where)
    if not isinstance(content, dict):
        raise InputError(f"{where} must hold a mapping with 'data' and labels, got {type(content).__name__}")
    labels = [_column(content, key, (size,), where).reshape(-1, 1) for key in cifar.label_keys]
    records = np.concatenate([*labels, _column(content, "data", (size, 3 * 32 * 32), where)], axis=1)
    return _check_labels(records, cifar, where)


def _column(content: dict[Any, Any], key: str, shape: tuple[int, ...], where: str) -> Bytes:
    value = content.get(key.encode(), content.get(key))
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal length
        array = np.asarray(None)
    if array.shape != shape or array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise InputError(
            f"{where}: '{key}' must be integers from 0 to 255 of shape {shape}, got "
            f"{'nothing' if value is None else f'{array.dtype} of shape {array.shape}'}; use the official file"
        )
    return array.astype(np.uint8)


def _check_labels(records_NR: Bytes, cifar: Cifar, where: str) -> Bytes:
    labels_N = records_NR[:, len(cifar.label_keys) - 1]
    wrong = np.flatnonzero(labels_N >= len(cifar.class_names))
    if len(wrong):
        raise InputError(
            f"{where}: image {wrong[0]} has label {labels_N[wrong[0]]}, but {cifar.title} has labels 0 to "
            f"{len(cifar.class_names) - 1}: use the official file"
        )
    return records_NR


def is_official(records_NR: Bytes, digest: str) -> bool:
    """Return whether records have a digest, given as "algorithm:hex".

    Example:
        >>> is_official(np.zeros((1, 4), np.uint8), "md5:f1d3ff8443297732862df21dc4e57262")
        True
    """
    algorithm, _, expected = digest.partition(":")
    content = np.ascontiguousarray(records_NR).data
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == expected


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Replace `_codecs.encode`, which Python 3 calls to rebuild bytes written for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_reconstruct = np.empty(0).__reduce__()[0]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1_bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, raw: bytes, where: str) -> None:
        super().__init__(io.BytesIO(raw), encoding="bytes")
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:  # refused before the module is imported
            raise InputError(
                f"{self.where} is a pickle that calls {module}.{name}; only NumPy arrays are read from a pickle, "
                "because anything else could run arbitrary code: use the official file"
            )
        return _ALLOWED[module, name]


def load_arrays(raw: bytes, where: str) -> Any:
    """Unpickle numbers, strings, lists, mappings and NumPy arrays, and nothing else.

    Args:
        raw: Pickled content. Strings written by Python 2 are returned as bytes.
        where: Location of the file, for messages.

    Raises:
        InputError: If the pickle names any other function or class, or is truncated or damaged.

    Example:
        >>> load_arrays(pickle.dumps({"data": np.arange(3)}), "batch")
        {'data': array([0, 1, 2])}
        >>> load_arrays(pickle.dumps(print), "batch")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: batch is a pickle that calls builtins.print; only NumPy arrays are read from ...
    """
    try:
        return _ArrayUnpickler(raw, where).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle may raise any error
        raise InputError(
            f"{where} ({len(raw):,} bytes) is not a readable pickle, truncated or damaged: {error}; download it again"
        ) from error
