"""NPZ files of features: numpy opens them, nothing is held, nothing is read unasked, a kill leaves nothing."""

import multiprocessing
import os
import signal
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from longtail.data.formats.feature_npz import read_npz, write_npz
from longtail.errors import InputError

ROWS = {"labels": np.arange(7), "part": np.array(["train"] * 6 + ["test"])}
FACTS = {"class_names": ["a", "b"], "about": {"run": "x"}}
RNG = np.random.default_rng(0)
EMBEDDINGS, LOGITS = RNG.standard_normal((7, 3)).astype(np.float32), RNG.standard_normal((7, 2)).astype(np.float32)


def write(path, *, dtype="float32", logits=True):
    cuts = ((0, 4), (4, 7))
    pieces = [(EMBEDDINGS[a:b], LOGITS[a:b] if logits else None) for a, b in cuts]
    write_npz(path, ROWS, FACTS, pieces, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numpy_opens_what_was_written(tmp_path, dtype):
    write(tmp_path / "f.npz", dtype=dtype)
    with np.load(tmp_path / "f.npz") as file:
        assert set(file.files) == {"embeddings", "logits", *ROWS, *FACTS}
        assert file["embeddings"].dtype == file["logits"].dtype == dtype
        assert np.array_equal(file["embeddings"], EMBEDDINGS.astype(dtype))
        assert np.array_equal(file["logits"], LOGITS.astype(dtype))
        assert file["part"].tolist() == ROWS["part"].tolist()
        assert str(file["about"]) == '{"run": "x"}'
    assert zipfile.ZipFile(tmp_path / "f.npz").testzip() is None
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_without_logits_there_is_no_array_of_them(tmp_path):
    write(tmp_path / "f.npz", logits=False)
    assert "logits" not in np.load(tmp_path / "f.npz").files


def test_arrays_are_mapped_and_start_on_multiples_of_64_bytes(tmp_path):
    write(tmp_path / "f.npz")
    arrays, names = read_npz(tmp_path / "f.npz", {"embeddings", "logits", "labels", "absent"})
    assert set(arrays) == {"embeddings", "logits", "labels"}
    assert {"class_names", "about"} <= set(names)
    for name, expected in (("embeddings", EMBEDDINGS), ("logits", LOGITS), ("labels", ROWS["labels"])):
        assert isinstance(arrays[name], np.memmap)
        assert (arrays[name].offset % 64, arrays[name].flags.aligned) == (0, True)
        assert np.array_equal(arrays[name], expected)
        with pytest.raises(ValueError, match="read-only"):
            arrays[name][0] = 0


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy_itself_are_read(tmp_path, save):
    save(tmp_path / "f.npz", embeddings=np.asfortranarray(EMBEDDINGS), empty=np.empty((0, 2)), names=np.array(["a"]))
    arrays, _ = read_npz(tmp_path / "f.npz", {"embeddings", "empty", "names"})
    assert np.array_equal(arrays["embeddings"], EMBEDDINGS)
    assert arrays["empty"].shape == (0, 2)
    assert arrays["names"].tolist() == ["a"]
    assert isinstance(arrays["embeddings"], np.memmap) == (save is np.savez)


def many(num_blocks: int, block: int = 100, width: int = 250):
    for index in range(num_blocks):
        yield np.full((block, width), index, np.float32), np.full((block, width // 2), index, np.float32)


def test_neither_writing_nor_reading_holds_the_features(tmp_path):
    num_blocks = 200  # 20 MB of embeddings, 10 MB of logits
    columns = {"labels": np.zeros(100 * num_blocks, np.uint8)}
    tracemalloc.start()
    write_npz(tmp_path / "f.npz", columns, {}, many(num_blocks), "float32")
    held_writing = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    arrays, _ = read_npz(tmp_path / "f.npz", {"embeddings", "logits"})
    last = np.array(arrays["embeddings"][-1])
    held_reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "f.npz").stat().st_size > 30_000_000
    assert held_writing < 6_000_000  # the copy of the logits goes by the megabyte
    assert held_reading < 1_000_000
    assert (last == num_blocks - 1).all()


def write_until_killed(path):
    def endless():
        yield from many(3)
        os.kill(os.getpid(), signal.SIGKILL)

    write_npz(path, {"labels": np.zeros(1000)}, {}, endless(), "float32")


@pytest.mark.parametrize("before", [None, b"what stood there"])
def test_a_kill_in_the_midst_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "f.npz"
    if before:
        path.write_bytes(before)
    child = multiprocessing.get_context("fork").Process(target=write_until_killed, args=(path,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert (path.read_bytes() if path.exists() else None) == before
    write(path)
    assert [each.name for each in tmp_path.iterdir()] == ["f.npz"]


def test_an_error_in_the_midst_leaves_nothing(tmp_path):
    def failing():
        yield from many(1)
        raise InputError("the last image can not be read")

    with pytest.raises(InputError, match="last image"):
        write_npz(tmp_path / "f.npz", {"labels": np.zeros(1000)}, {}, failing(), "float32")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 10, 400, -30])
def test_a_truncated_file_is_refused(tmp_path, keep):
    write(tmp_path / "f.npz")
    content = (tmp_path / "f.npz").read_bytes()
    (tmp_path / "f.npz").write_bytes(content[:keep])
    with pytest.raises(InputError, match="truncated or no NPZ file"):
        read_npz(tmp_path / "f.npz", {"embeddings"})


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "f.npz", labels=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="Python objects are never loaded"):
        read_npz(tmp_path / "f.npz", {"labels"})


def test_a_shape_larger_than_the_file_is_refused(tmp_path):
    np.savez(tmp_path / "f.npz", labels=np.zeros(10))
    content = (tmp_path / "f.npz").read_bytes()
    (tmp_path / "f.npz").write_bytes(content.replace(b"(10,)", b"(99,)"))
    with pytest.raises(InputError, match="cannot read"):
        read_npz(tmp_path / "f.npz", {"labels"})


def test_a_large_member_is_announced_as_such(tmp_path):
    """Sizes stand in fields of 64 bits, so that a member of more than 4 GB is no other case."""
    write(tmp_path / "f.npz")
    extra_length = struct.unpack("<H", (tmp_path / "f.npz").read_bytes()[28:30])[0]
    start = 30 + len("embeddings.npy")
    extra = (tmp_path / "f.npz").read_bytes()[start : start + extra_length]
    assert struct.pack("<HHQQ", 1, 16, 128 + EMBEDDINGS.nbytes, 128 + EMBEDDINGS.nbytes) in extra
