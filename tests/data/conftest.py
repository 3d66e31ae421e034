"""Small synthetic data sets in the official CIFAR layouts, with random pixels."""

import hashlib
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from longtail.data.formats.cifar_files import CIFARS, Cifar

SIZES = {"cifar10": (200, 20), "cifar100": (500, 100)}  # training and test images


def python2_string(value: bytes) -> bytes:
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def python2_array(array: np.ndarray) -> bytes:
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"t"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + python2_string(array.tobytes()) + b"tb"


def python2_mapping(content: Mapping[str, object]) -> bytes:
    """Return the bytes that Python 2's cPickle writes (protocol 2) for uint8 arrays and lists of small integers."""
    items = b""
    for key, value in content.items():
        items += python2_string(key.encode())
        if isinstance(value, np.ndarray):
            items += python2_array(value)
        else:
            items += b"](" + b"".join(b"K" + bytes([number]) for number in value) + b"e"
    return b"\x80\x02}(" + items + b"u."


@dataclass
class FakeCifar:
    cifar: Cifar
    records: list[np.ndarray]  # one array per file of the binary layout

    def write(self, kind: str, root: Path) -> Path:
        """Write the files as unpacking the archive would."""
        layout = next(layout for layout in self.cifar.layouts if layout.kind == kind)
        folder = root / layout.folder
        folder.mkdir(parents=True)
        for name, records in zip(layout.files, self.records, strict=True):
            (folder / name).write_bytes(records.tobytes() if kind == "binary" else self.pickled(records))
        return folder

    def pickled(self, records: np.ndarray) -> bytes:
        keys = self.cifar.label_keys
        labels = {key: records[:, i].tolist() for i, key in enumerate(keys)}
        return python2_mapping({"data": records[:, len(keys) :].copy(), **labels})

    def pack(self, kind: str, root: Path) -> Path:
        """Write the official archive, with its members in reverse order."""
        layout = next(layout for layout in self.cifar.layouts if layout.kind == kind)
        folder = self.write(kind, root / "packing")
        with tarfile.open(root / layout.archive, "w:gz") as archive:
            archive.add(folder, layout.folder, recursive=False)
            for name in reversed(layout.files):
                archive.add(folder / name, f"{layout.folder}/{name}")
        return root / layout.archive


@pytest.fixture
def fake_cifar(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FakeCifar]:
    """Return a function that makes a small CIFAR by name and registers its sizes and digests as the official ones."""

    def make(name: str) -> FakeCifar:
        official = CIFARS[name]
        num_train, num_test = SIZES[name]
        sizes = replace(official, train_images=num_train, test_images=num_test).sizes
        rng = np.random.default_rng(7)
        records = [rng.integers(0, 256, (size, official.record_bytes), np.uint8) for size in sizes]
        for file in records:
            classes = np.arange(len(file)) % len(official.class_names)
            file[:, len(official.label_keys) - 1] = rng.permutation(classes)
        if len(official.label_keys) == 2:
            for file in records:
                file[:, 0] = file[:, 1] // 5
        digests = tuple("sha256:" + hashlib.sha256(file.tobytes()).hexdigest() for file in records)
        cifar = replace(official, train_images=num_train, test_images=num_test, digests=digests)
        monkeypatch.setitem(CIFARS, name, cifar)
        return FakeCifar(cifar, records)

    return make


@pytest.fixture
def python2_pickle() -> Callable[[Mapping[str, object]], bytes]:
    return python2_mapping
