"""Damaged NPZ, safetensors and Parquet files of arrays, checkpoints and CIFAR archives."""

import io
import json
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import torch

from tests.fuzz.base import AGAIN, Base
from tests.fuzz.mutations import ODD_VALUES, Code, corrupt, corrupt_array, corrupt_tree
from tests.fuzz.sandbox import Case

Arrays = Mapping[str, Any]


def damaged_npz(rng: Random, arrays: Arrays) -> bytes:
    """Return an NPZ file with other arrays or damaged bytes."""
    match rng.randrange(6):
        case 0:
            return corrupt(rng, _npz(rng, arrays))
        case 1:
            return rng.choice((_bomb, _false_header, _single, _not_arrays))(rng, arrays)
        case _:
            return _npz(rng, _changed(rng, arrays))


def _changed(rng: Random, arrays: Arrays) -> Arrays:
    changed, name = dict(arrays), rng.choice(list(arrays))
    match rng.randrange(6):
        case 0:
            del changed[name]
        case 1:
            changed[rng.choice(("targets", "label", "predicted", "probabilities", "split", "../odd"))] = changed[name]
        case _:
            changed[name] = corrupt_array(rng, changed[name])
    return changed


def _npz(rng: Random, arrays: Arrays) -> bytes:
    file = io.BytesIO()
    rng.choice((np.savez, np.savez_compressed))(file, **arrays)
    return file.getvalue()


def _header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _bomb(rng: Random, arrays: Arrays) -> bytes:
    """Return a file of a few kilobytes whose arrays take gigabytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            if name in ("logits", "embeddings"):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    member.write(_header((rng.choice((2**40, 2**27)), 8)))
                    member.write(bytes(1 << 22))
            else:
                content = io.BytesIO()
                np.save(content, array)
                archive.writestr(f"{name}.npy", content.getvalue())
    return file.getvalue()


def _false_header(rng: Random, arrays: Arrays) -> bytes:
    """Return a file with an array whose header states another size than its content has."""
    file, odd = io.BytesIO(), rng.choice(list(arrays))
    shape = rng.choice(((10**9,), (2**62, 4), (-1, 3), (3, 10**6), (0, 3), (3,) * 40, (2**63, 2**63)))
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            data = content.getvalue()
            if name == odd:
                data = _header(shape, rng.choice(("<f4", "<i8", "<U9", "|V3", "|O"))) + data[128:]
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def _single(rng: Random, arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.save(file, rng.choice(list(arrays.values())))
    return file.getvalue()


def _not_arrays(rng: Random, arrays: Arrays) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in (*arrays, "../escape", "/escape"):
            archive.writestr(rng.choice((name, f"{name}.npy")), rng.choice((b"", b"text", b"\x93NUMPY")))
    return file.getvalue()


def feature_file(rng: Random, base: Base, box: Path) -> Case:
    """Damage a file of features."""
    suffix = rng.choice((".npz", ".npz", ".safetensors", ".parquet"))
    path = Path("data") / f"odd{suffix}"
    makers = {".npz": damaged_npz, ".safetensors": _safetensors, ".parquet": _parquet}
    (box / path).write_bytes(makers[suffix](rng, base.features))
    short = ("--epochs", "1", "--device", "cpu")
    command = rng.choice(
        (
            ("inspect", str(path)),
            ("train", str(path), *short, "--out", "out/run", "--method", rng.choice(("ce", "crt"))),
            ("train", "--features", str(path), *short, "--out", "out/run"),
            ("show", "--features", str(path)),
        )
    )
    return Case("features", command, (path.name,))


def _safetensors(rng: Random, arrays: Arrays) -> bytes:
    texts = {name: array.tolist() for name, array in arrays.items() if array.dtype.kind == "U"}
    facts = {"class_names": texts["class_names"], "about": {}, "vocabularies": {"part": ["train"]}}
    tensors = {name: arrays[name] for name in ("embeddings", "logits", "labels", "view")}
    tensors["part"] = np.zeros(len(arrays["labels"]), np.int64)
    header: dict[str, Any] = {"__metadata__": {"longtail": json.dumps(facts)}}
    content = b""
    for name, array in tensors.items():
        kind = {"f": "F32", "i": "I64"}[array.dtype.kind]
        span = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": span}
        content += array.tobytes()
    match rng.randrange(4):
        case 0:
            header["__metadata__"]["longtail"] = json.dumps(rng.choice((corrupt_tree(rng, facts), *ODD_VALUES)))
        case 1:
            entry = header[rng.choice(list(tensors))]
            entry["dtype"] = rng.choice(("BF16", "F16", "F64", "I8", "BOOL", "U64", "odd"))
        case 2:
            header = corrupt_tree(rng, header)
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + content
    return corrupt(rng, data) if rng.random() < 0.3 else data


def _parquet(rng: Random, arrays: Arrays) -> bytes:
    columns: dict[str, Any] = {name: arrays[name].tolist() for name in ("embeddings", "logits", "labels", "part")}
    name = rng.choice(list(columns))
    match rng.randrange(5):
        case 0:
            columns[name][rng.randrange(len(columns[name]))] = None
        case 1 if name in ("embeddings", "logits"):
            columns[name][3] = columns[name][3][: rng.randrange(4)]
        case 2:
            columns[name] = [[value] for value in columns[name]]
        case 3:
            columns[name] = [rng.choice(("text", "1", b"\xff".hex())) for _ in columns[name]]
    facts = {"class_names": ["ant", "bee", "cat"], "class_counts": [5, 4, 3], "about": {}}
    given = json.dumps(rng.choice((facts, facts, corrupt_tree(rng, facts), *ODD_VALUES[:5])))
    file = io.BytesIO()
    pa_parquet.write_table(pa.table(columns).replace_schema_metadata({"longtail": given}), file)
    return corrupt(rng, file.getvalue()) if rng.random() < 0.3 else file.getvalue()


def checkpoint(rng: Random, base: Base, box: Path) -> Case:
    """Damage the checkpoint of a run."""
    resume = rng.random() < 0.6
    run = box / ("out/run" if resume else "data/run")
    if resume:
        shutil.copytree(box / "data/run", run)
        for name in ("result.json", "predictions.npz", "report.html"):
            (run / name).unlink()
    (run / "checkpoint/previous.pt").unlink()
    state = base.checkpoints["middle" if resume else "end"]
    (run / "checkpoint/last.pt").write_bytes(_saved(rng, state))
    command = rng.choice(
        (
            ("predict", "data/run", "data/images", "--output", "out/p.csv"),
            ("predict", "data/run", "data/images", "--output", "out/p.csv"),
            ("features", "data/run", "data/images", "--output", "out/f.npz"),
            (
                "train",
                "data/images",
                *AGAIN,
                "--from",
                "data/run",
                "--out",
                "out/b",
            ),
        )
    )
    if resume:
        command = ("train", "--resume", "--out", "out/run")
    return Case("checkpoints", command, ("last.pt", "out/run", "data/run"))


def _saved(rng: Random, state: dict[str, Any]) -> bytes:
    file, kind = io.BytesIO(), rng.randrange(8)
    odd: tuple[Callable[[], Any], ...] = (
        dict, list, lambda: torch.ones(3), lambda: {**state, "odd": Code()}, lambda: {1: 2}, lambda: None,
        lambda: {"model": state["model"]}, lambda: state["model"], lambda: {"stage": 0, "epoch": 0}, Code,
    )  # fmt: skip
    value = rng.choice(odd)() if kind == 0 else corrupt_tree(rng, state) if kind < 6 else state
    torch.save(value, file, _use_new_zipfile_serialization=rng.random() < 0.8)
    return corrupt(rng, file.getvalue()) if kind > 5 else file.getvalue()


def cifar(rng: Random, base: Base, box: Path) -> Case:
    """Damage a CIFAR archive or folder."""
    name = rng.choice(("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz", "cifar-100-binary.tar.gz"))
    place = box / "data" / "odd"
    place.mkdir()
    if rng.random() < 0.3:
        folder = place / "cifar-10-batches-bin"
        folder.mkdir()
        for file in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
            (folder / file).write_bytes(rng.choice((b"", bytes(3073), rng.randbytes(3073 * 10))))
        path = rng.choice(("data/odd/cifar-10-batches-bin", "data/odd"))
    else:
        (place / name).write_bytes(corrupt(rng, base.cifar) if rng.random() < 0.3 else _archive(rng, name))
        path = f"data/odd/{name}"
    command = rng.choice((("inspect", path), ("inspect", "cifar10-lt", "--root", "data/odd"), ("show", path)))
    return Case("CIFAR files", command, ("data/odd", "cifar-10", "cifar-100"))


def _archive(rng: Random, name: str) -> bytes:
    import pickle

    folder = {"cifar-10-binary": "cifar-10-batches-bin", "cifar-10-python": "cifar-10-batches-py"}
    inside = folder.get(name.removesuffix(".tar.gz"), "cifar-100-binary")
    files = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
    files = files if "python" in name else tuple(f"{file}.bin" for file in files)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=rng.choice(("w:gz", "w"))) as archive:
        for file in ("../../escape", "/tmp/escape", *files):
            batch = {"data": np.zeros((rng.choice((0, 1, 3)), 3072)), "labels": rng.choice(([0], ["a"], None, Code()))}
            content = rng.choice((pickle.dumps(batch), bytes(3073), b"", pickle.dumps(Code()), b"\x80\x04."))
            member = tarfile.TarInfo(file if "escape" in file else f"{inside}/{file}")
            member.type = rng.choice((*[tarfile.REGTYPE] * 6, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE))
            member.linkname = rng.choice(("../../escape", "/etc/passwd", member.name))
            member.size = len(content) if member.isfile() else 0
            archive.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return corrupt(rng, target.getvalue()) if rng.random() < 0.2 else target.getvalue()
