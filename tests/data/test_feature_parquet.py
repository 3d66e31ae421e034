"""Features in Parquet tables: other tools read ours, we read theirs."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from longtail.data.formats.feature_parquet import column_names, read_parquet, write_parquet
from longtail.errors import InputError

COLUMNS = {"labels": np.arange(5), "part": np.array(["train"] * 4 + ["test"])}
EMBEDDINGS = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
WANTED = {"embeddings", "logits", "labels", "part"}


def write(path, dtype="float32", logits=True):
    blocks = [(EMBEDDINGS[a:b], EMBEDDINGS[a:b, :2] if logits else None) for a, b in ((0, 2), (2, 4), (4, 5))]
    write_parquet(path, COLUMNS, {"class_names": ["a", "b"], "about": {"run": "x"}}, blocks, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_comes_back(tmp_path, dtype):
    write(tmp_path / "f.parquet", dtype)
    arrays, names = read_parquet(tmp_path / "f.parquet", WANTED)
    assert names == ["labels", "part", "embeddings", "logits"]
    assert arrays["embeddings"].dtype == dtype
    assert np.array_equal(arrays["embeddings"], EMBEDDINGS.astype(dtype))
    assert np.array_equal(arrays["logits"], EMBEDDINGS[:, :2].astype(dtype))
    assert arrays["part"].tolist() == COLUMNS["part"].tolist()
    assert arrays["class_names"].tolist() == ["a", "b"]
    assert json.loads(str(arrays["about"])) == {"run": "x"}
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


def test_pandas_reads_ours(tmp_path):
    pandas = pytest.importorskip("pandas")
    write(tmp_path / "f.parquet", logits=False)
    frame = pandas.read_parquet(tmp_path / "f.parquet")
    assert list(frame.columns) == ["labels", "part", "embeddings"]
    assert np.array_equal(np.stack(frame["embeddings"]), EMBEDDINGS)
    assert pa_parquet.ParquetFile(tmp_path / "f.parquet").num_row_groups == 3


def test_we_read_what_pandas_writes(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"embeddings": list(EMBEDDINGS), "labels": ["cat", "dog", "cat", "dog", "dog"], "x": 1})
    frame.to_parquet(tmp_path / "f.parquet")
    arrays, names = read_parquet(tmp_path / "f.parquet", WANTED)
    assert (names, set(arrays)) == (["embeddings", "labels", "x"], {"embeddings", "labels"})
    assert np.array_equal(arrays["embeddings"], EMBEDDINGS)
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
    write(tmp_path / "f.parquet")
    (tmp_path / "f.parquet").write_bytes((tmp_path / "f.parquet").read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot read"):
        read_parquet(tmp_path / "f.parquet", WANTED)
    assert column_names(tmp_path / "f.parquet") == []


def test_an_error_in_the_midst_leaves_nothing(tmp_path):
    def failing():
        yield EMBEDDINGS, None
        raise InputError("the last image can not be read")

    with pytest.raises(InputError, match="last image"):
        write_parquet(tmp_path / "f.parquet", COLUMNS, {}, failing(), "float32")
    assert not list(tmp_path.iterdir())
