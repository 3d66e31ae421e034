import numpy as np
import pytest
import torch

from longtail.data.formats.features import holds_features, load_features, write_features
from longtail.errors import InputError
from longtail.posthoc import NearestClassMean
from tests.data.helpers import COUNTS, blocks, made_up

KINDS = ["npz", "parquet", "safetensors"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("views", [0, 2])
def test_what_is_written_comes_back(tmp_path, kind, dtype, views):
    rows, embeddings, logits = made_up(views)
    write_features(tmp_path / f"f.{kind}", rows, blocks(embeddings, logits), kind=kind, dtype=dtype)
    found = load_features(tmp_path / f"f.{kind}")
    assert np.array_equal(found.embeddings_ND, embeddings.astype(dtype))
    assert np.array_equal(found.logits_NC, logits.astype(dtype))
    assert torch.equal(found.rows.labels_N, rows.labels_N)
    assert torch.equal(found.rows.views_N, rows.views_N)
    assert found.rows.parts_N.tolist() == rows.parts_N.tolist()
    assert (found.rows.class_names, found.rows.about) == (rows.class_names, rows.about)
    assert found.rows.class_counts.counts.tolist() == COUNTS
    assert found.parts == ("train", "val", "test")
    assert len(found) == len(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_those_of_one_part_in_one_view(tmp_path, kind):
    rows, embeddings, logits = made_up(views=1)
    write_features(tmp_path / f"f.{kind}", rows, blocks(embeddings, logits), kind=kind)
    found = load_features(tmp_path / f"f.{kind}")
    for part, view, start, end in (("train", 0, 0, 9), ("train", 1, 9, 18), ("val", 0, 18, 20), ("test", 0, 20, 24)):
        embeddings_nD, labels_n = found.tensors(part, view)
        assert np.array_equal(embeddings_nD, embeddings[start:end])
        assert torch.equal(labels_n, rows.labels_N[start:end])
        assert np.array_equal(found.logits(part, view), logits[start:end])
        assert embeddings_nD.dtype == torch.float32
    embeddings_nD += 1  # a copy in memory: the file does not change
    assert np.array_equal(found.tensors("test")[0], embeddings[20:])


def test_a_correction_takes_them(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.array([0] * 50 + [1] * 5)
    np.savez(tmp_path / "f.npz", embeddings=rng.standard_normal((55, 4)) + 4 * labels[:, None] - 2, labels=labels)
    found = load_features(tmp_path / "f.npz")
    embeddings_nD, labels_n = found.tensors("train")
    ncm = NearestClassMean().fit(embeddings_nD, labels_n, torch.nn.Linear(4, 2), found.rows.class_counts)
    assert (ncm.predict_logits(embeddings_nD).argmax(1) == labels_n).float().mean() > 0.95


@pytest.mark.parametrize("name", ["embedding", "features", "feature"])
@pytest.mark.parametrize("label", ["label", "targets", "target"])
def test_other_tools_use_other_names(tmp_path, name, label):
    np.savez(tmp_path / "f.npz", **{name: np.ones((3, 2)), label: [0, 1, 1], "split": ["Training", "valid", "test"]})
    found = load_features(str(tmp_path / "f.npz"))
    assert found.parts == ("train", "val", "test")
    assert found.rows.class_names == ("0", "1")
    assert found.rows.class_counts.counts.tolist() == [1, 0]
    assert found.logits_NC is None


def test_labels_may_be_names_in_the_order_of_class_names(tmp_path):
    arrays = {"embeddings": np.ones((3, 2)), "labels": ["dog", "cat", "dog"]}
    np.savez(tmp_path / "sorted.npz", **arrays)
    np.savez(tmp_path / "given.npz", **arrays, class_names=["dog", "cat", "emu"], class_counts=[20, 30, 1])
    assert load_features(tmp_path / "sorted.npz").rows.labels_N.tolist() == [1, 0, 1]
    given = load_features(tmp_path / "given.npz").rows
    assert (given.labels_N.tolist(), given.class_counts.counts.tolist()) == ([0, 1, 0], [20, 30, 1])


GOOD = {"embeddings": np.ones((3, 2)), "labels": np.array([0, 1, 1])}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": None}, "holds embeddings; it needs embeddings and labels"),
        ({"embeddings": None, "x": [1]}, "holds labels, x; it needs embeddings"),
        ({"features": np.ones((3, 2))}, "holds both embeddings and features; keep one"),
        ({"labels": np.array([[0], [1], [1]])}, "labels must have shape (N,)"),
        ({"labels": np.empty(0, int)}, "at least one entry"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "labels must be integers or names, got float64"),
        ({"labels": np.array([0, -3, 1])}, "out of range"),
        ({"labels": np.array([0, 5, 1]), "class_names": ["a", "b"]}, "labels of 2 classes must be 0 to 1, got 0 to 5"),
        ({"labels": np.array(["cta", "dog", "dog"]), "class_names": ["cat", "dog"]}, "did you mean cat"),
        ({"labels": np.array([0, 0, 0])}, "at least two classes"),
        ({"embeddings": np.ones((2, 2))}, "embeddings must have shape (3, D), a row per label, got (2, 2)"),
        ({"embeddings": np.ones((3, 2, 2))}, "embeddings must have shape (3, D)"),
        ({"embeddings": np.ones((3, 0))}, "embeddings must have shape (3, D)"),
        ({"embeddings": np.full((3, 2), "x")}, "embeddings must be numbers"),
        ({"logits": np.ones((3, 3))}, "logits must have shape (3, 2)"),
        ({"part": ["train", "test"]}, "part must be 3 texts"),
        ({"part": [0, 1, 2]}, "part must be 3 texts"),
        ({"part": ["train", "tset", "test"]}, "did you mean test"),
        ({"view": [0, 1]}, "view must be integers of shape (3,)"),
        ({"class_counts": [1, 2, 3]}, "there are 3 class_counts for 2 classes"),
        ({"class_counts": [1.5, 2]}, "whole numbers"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, words):
    arrays = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(InputError) as refused:
        load_features(tmp_path / "f.npz")
    assert words in str(refused.value)
    assert str(tmp_path / "f.npz") in str(refused.value)


@pytest.mark.parametrize("name", ["f.csv", "f.npy", "f"])
def test_files_of_other_kinds_are_refused(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=r"must end in \.npz or \.safetensors or \.parquet"):
        load_features(tmp_path / name)
    assert not holds_features(tmp_path / name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_when_they_are_read(tmp_path, bad):
    embeddings, logits = np.ones((9000, 2)), np.ones((9000, 2))
    embeddings[8500, 1] = logits[7, 0] = bad
    np.savez(tmp_path / "f.npz", embeddings=embeddings, logits=logits, labels=np.arange(9000) % 2)
    found = load_features(tmp_path / "f.npz")
    with pytest.raises(InputError, match=r"row 8500 .* has a NaN or infinite embedding, as have 1 of 9000"):
        found.tensors("train")
    with pytest.raises(InputError, match="row 8500"):
        found.check_finite()
    with pytest.raises(InputError, match=r"row 7 .* logit"):
        found.logits("train")


def test_large_finite_values_are_accepted(tmp_path):
    np.savez(tmp_path / "f.npz", embeddings=np.full((2, 4), 3e38, np.float32), labels=[0, 1])
    load_features(tmp_path / "f.npz").check_finite()


def test_a_part_or_view_or_logits_that_are_not_there_are_refused(tmp_path):
    np.savez(tmp_path / "f.npz", **GOOD)
    found = load_features(tmp_path / "f.npz")
    with pytest.raises(InputError, match="holds no test split; it holds train"):
        found.tensors("test")
    with pytest.raises(InputError, match="holds no view 1 of the train split"):
        found.tensors("train", 1)
    with pytest.raises(InputError, match="holds no logits"):
        found.logits("train")


def test_without_training_rows_the_counts_are_those_given_or_not_known(tmp_path):
    np.savez(tmp_path / "f.npz", **GOOD, part=["test"] * 3)
    found = load_features(tmp_path / "f.npz")
    assert found.rows.class_counts is None
    write_features(tmp_path / "again.npz", found.rows, blocks(found.embeddings_ND, None))
    assert load_features(tmp_path / "again.npz").rows.class_counts is None
    np.savez(tmp_path / "f.npz", **GOOD, part=["test"] * 3, class_counts=[9, 2])
    assert load_features(tmp_path / "f.npz").rows.class_counts.counts.tolist() == [9, 2]


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    rows, embeddings, logits = made_up()
    with pytest.raises(InputError, match="cannot write the features to"):
        write_features(tmp_path / "no" / "f.npz", rows, blocks(embeddings, logits))


def test_which_files_hold_features(tmp_path):
    rows, embeddings, _ = made_up()
    for kind in KINDS:
        write_features(tmp_path / f"f.{kind}", rows, blocks(embeddings, None), kind=kind)
        assert holds_features(tmp_path / f"f.{kind}")
    import pyarrow as pa
    import pyarrow.parquet as pa_parquet

    pa_parquet.write_table(pa.table({"path": ["a.png"], "label": ["cat"]}), tmp_path / "images.parquet")
    assert not holds_features(tmp_path / "images.parquet")
    assert not holds_features(tmp_path / "absent.npz")
    assert not holds_features(tmp_path)
