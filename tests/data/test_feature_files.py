import json
import multiprocessing
import os
import signal
import struct
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
import torch

from longtail.data.formats.feature_files import (
    column_names,
    read_npz,
    read_parquet,
    read_safetensors,
    write_npz,
    write_parquet,
    write_safetensors,
)
from longtail.errors import InputError

WRITERS = {"npz": write_npz, "parquet": write_parquet, "safetensors": write_safetensors}
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
    assert held_writing < 6_000_000  # the logits are copied in pieces of 1 MB
    assert held_reading < 1_000_000
    assert (last == num_blocks - 1).all()


def write_until_killed(path):
    def endless():
        yield from many(3)
        os.kill(os.getpid(), signal.SIGKILL)

    write_npz(path, {"labels": np.zeros(1000)}, {}, endless(), "float32")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("before", [None, b"what stood there"])
def test_a_kill_while_writing_keeps_the_old_file(tmp_path, before):
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


@pytest.mark.parametrize("kind", WRITERS)
def test_an_error_in_the_middle_leaves_nothing(tmp_path, kind):
    def failing():
        yield from many(1)
        raise InputError("the last image cannot be read")

    with pytest.raises(InputError, match="last image"):
        WRITERS[kind](tmp_path / "f", {"labels": np.zeros(1000)}, {}, failing(), "float32")
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
    """Check that sizes are 64-bit fields, so that a member of more than 4 GB needs no other code."""
    write(tmp_path / "f.npz")
    extra_length = struct.unpack("<H", (tmp_path / "f.npz").read_bytes()[28:30])[0]
    start = 30 + len("embeddings.npy")
    extra = (tmp_path / "f.npz").read_bytes()[start : start + extra_length]
    assert struct.pack("<HHQQ", 1, 16, 128 + EMBEDDINGS.nbytes, 128 + EMBEDDINGS.nbytes) in extra


TABLE_COLUMNS = {"labels": np.arange(5), "part": np.array(["train"] * 4 + ["test"])}
VALUES = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
WANTED = {"embeddings", "logits", "labels", "part"}


def write_table_file(path, dtype="float32", logits=True):
    blocks = [(VALUES[a:b], VALUES[a:b, :2] if logits else None) for a, b in ((0, 2), (2, 4), (4, 5))]
    write_parquet(path, TABLE_COLUMNS, {"class_names": ["a", "b"], "about": {"run": "x"}}, blocks, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_parquet_returns_what_was_written(tmp_path, dtype):
    write_table_file(tmp_path / "f.parquet", dtype)
    arrays, names = read_parquet(tmp_path / "f.parquet", WANTED)
    assert names == ["labels", "part", "embeddings", "logits"]
    assert arrays["embeddings"].dtype == dtype
    assert np.array_equal(arrays["embeddings"], VALUES.astype(dtype))
    assert np.array_equal(arrays["logits"], VALUES[:, :2].astype(dtype))
    assert arrays["part"].tolist() == TABLE_COLUMNS["part"].tolist()
    assert arrays["class_names"].tolist() == ["a", "b"]
    assert json.loads(str(arrays["about"])) == {"run": "x"}
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


def test_pandas_reads_ours(tmp_path):
    pandas = pytest.importorskip("pandas")
    write_table_file(tmp_path / "f.parquet", logits=False)
    frame = pandas.read_parquet(tmp_path / "f.parquet")
    assert list(frame.columns) == ["labels", "part", "embeddings"]
    assert np.array_equal(np.stack(frame["embeddings"]), VALUES)
    assert pa_parquet.ParquetFile(tmp_path / "f.parquet").num_row_groups == 3


def test_we_read_what_pandas_writes(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"embeddings": list(VALUES), "labels": ["cat", "dog", "cat", "dog", "dog"], "x": 1})
    frame.to_parquet(tmp_path / "f.parquet")
    arrays, names = read_parquet(tmp_path / "f.parquet", WANTED)
    assert (names, set(arrays)) == (["embeddings", "labels", "x"], {"embeddings", "labels"})
    assert np.array_equal(arrays["embeddings"], VALUES)
    assert arrays["labels"].tolist() == ["cat", "dog", "cat", "dog", "dog"]


def test_a_long_table_is_read_whole(tmp_path):
    values = np.arange(20_000, dtype=np.float64).reshape(10_000, 2)
    pa_parquet.write_table(pa.table({"embeddings": list(values)}), tmp_path / "f.parquet", row_group_size=3_000)
    assert np.array_equal(read_parquet(tmp_path / "f.parquet", WANTED)[0]["embeddings"], values)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([[1.0, 2.0], [3.0]], "differ in length: [1, 2]"),
        ([[1.0], None], "1 cells of the column 'embeddings' are empty"),
    ],
)
def test_cells_that_make_no_array_are_refused(tmp_path, column, words):
    pa_parquet.write_table(pa.table({"embeddings": column}), tmp_path / "f.parquet")
    with pytest.raises(InputError) as refused:
        read_parquet(tmp_path / "f.parquet", WANTED)
    assert words in str(refused.value)


def test_a_hole_within_a_list_is_not_a_number(tmp_path):
    pa_parquet.write_table(pa.table({"embeddings": [[1.0, None]]}), tmp_path / "f.parquet")
    assert np.isnan(read_parquet(tmp_path / "f.parquet", WANTED)[0]["embeddings"]).tolist() == [[False, True]]


def test_a_broken_table_is_refused_and_has_no_columns(tmp_path):
    write_table_file(tmp_path / "f.parquet")
    (tmp_path / "f.parquet").write_bytes((tmp_path / "f.parquet").read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot read"):
        read_parquet(tmp_path / "f.parquet", WANTED)
    assert column_names(tmp_path / "f.parquet") == []


def write_tensors(path, dtype="float32", logits=True):
    blocks = [(EMBEDDINGS[a:b], LOGITS[a:b] if logits else None) for a, b in ((0, 4), (4, 7))]
    write_safetensors(path, ROWS, FACTS, blocks, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_safetensors_returns_what_was_written_and_maps_it(tmp_path, dtype):
    write_tensors(tmp_path / "f.safetensors", dtype)
    arrays, names = read_safetensors(tmp_path / "f.safetensors", {"embeddings", "logits", "labels", "part", "absent"})
    assert names == ["labels", "part", "embeddings", "logits"]
    for name, expected in (("embeddings", EMBEDDINGS.astype(dtype)), ("logits", LOGITS.astype(dtype))):
        assert isinstance(arrays[name], np.memmap)
        assert arrays[name].flags.aligned
        assert np.array_equal(arrays[name], expected)
    assert arrays["labels"].tolist() == ROWS["labels"].tolist()
    assert arrays["part"].tolist() == ROWS["part"].tolist()
    assert arrays["class_names"].tolist() == ["a", "b"]
    assert json.loads(str(arrays["about"])) == {"run": "x"}
    assert [path.name for path in tmp_path.iterdir()] == ["f.safetensors"]


def test_the_safetensors_library_reads_ours_and_we_read_its_files(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    write_tensors(tmp_path / "f.safetensors", logits=False)
    theirs = library.load_file(tmp_path / "f.safetensors")
    assert set(theirs) == {"embeddings", "labels", "part"}
    assert np.array_equal(theirs["embeddings"], EMBEDDINGS)
    library.save_file({"features": EMBEDDINGS, "label": np.arange(7), "empty": np.empty((0, 2))}, tmp_path / "g")
    arrays, names = read_safetensors(tmp_path / "g", {"features", "label", "empty"})
    assert set(names) == {"features", "label", "empty"}
    assert np.array_equal(arrays["features"], EMBEDDINGS)
    assert arrays["empty"].shape == (0, 2)


@pytest.mark.parametrize("keep", [0, 10, 100, -1])
def test_a_truncated_safetensors_file_is_refused(tmp_path, keep):
    write_tensors(tmp_path / "f.safetensors")
    (tmp_path / "f.safetensors").write_bytes((tmp_path / "f.safetensors").read_bytes()[:keep])
    with pytest.raises(InputError, match="truncated or not a safetensors file"):
        read_safetensors(tmp_path / "f.safetensors", {"embeddings"})


def test_bfloat16_tensors_are_refused_by_name(tmp_path):
    library = pytest.importorskip("safetensors.torch")
    library.save_file({"embeddings": torch.zeros(2, 3, dtype=torch.bfloat16)}, tmp_path / "f.safetensors")
    with pytest.raises(InputError, match="embeddings has type BF16, and must have one of F64, F32, F16"):
        read_safetensors(tmp_path / "f.safetensors", {"embeddings"})
