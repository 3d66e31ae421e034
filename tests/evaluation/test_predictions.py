"""Predictions and results of runs: writing, reading and error messages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtail.errors import InputError
from longtail.evaluation import (
    Predictions,
    evaluate_logits,
    evaluate_predictions,
    group_options,
    read_predictions,
    read_result,
    save_predictions,
)
from tests.evaluation.conftest import Example


@pytest.fixture
def predictions(long_tail: Example) -> Predictions:
    return Predictions(
        long_tail.targets,
        long_tail.counts,
        logits=long_tail.logits,
        class_names=[f"classe {n} é, <b>" for n in range(12)],
        paths=[f"images/{n}.png" for n in range(600)],
        embeddings=torch.randn(600, 3, generator=torch.Generator().manual_seed(0)),
    )


def assert_equal(ours: Predictions, theirs: Predictions) -> None:
    for name, value in vars(theirs).items():
        found = getattr(ours, name)
        assert torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value, name


def test_a_file_gives_back_what_was_saved(tmp_path: Path, predictions: Predictions) -> None:
    save_predictions(tmp_path / "predictions.npz", predictions)
    assert_equal(read_predictions(tmp_path / "predictions.npz"), predictions)
    assert_equal(read_predictions(tmp_path), predictions)


def test_labels_alone_are_saved_too(tmp_path: Path) -> None:
    plain = Predictions(torch.tensor([0, 1]), [500, 5], predicted=torch.tensor([1, 1]))
    save_predictions(tmp_path / "p.npz", plain)
    assert_equal(read_predictions(tmp_path / "p.npz"), plain)
    assert plain.class_names == ("0", "1")


def test_the_file_holds_plain_arrays_under_the_documented_names(tmp_path: Path, predictions: Predictions) -> None:
    save_predictions(tmp_path / "p.npz", predictions)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"logits", "targets", "class_counts", "class_names", "paths", "embeddings"}
        assert arrays["logits"].dtype == np.float32
        assert arrays["class_names"].dtype.kind == "U"


def test_equal_predictions_make_equal_bytes(tmp_path: Path, predictions: Predictions) -> None:
    for name in ("a.npz", "b.npz"):
        save_predictions(tmp_path / name, predictions)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("step", ["numpy.savez", "os.fsync", "os.replace"])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, predictions: Predictions, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "p.npz").write_bytes(b"old")
    monkeypatch.setattr(step, full)
    with pytest.raises(InputError, match=r"cannot write the predictions to .*p\.npz: .*No space left"):
        save_predictions(tmp_path / "p.npz", predictions)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("p.npz", b"old")]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, predictions: Predictions) -> None:
    with pytest.raises(InputError, match="cannot write the predictions"):
        save_predictions(tmp_path / "none" / "p.npz", predictions)


def test_scores_are_those_of_the_functions(long_tail: Example, predictions: Predictions) -> None:
    options: dict[str, Any] = {"many": 50, "few": 10, "prior": torch.ones(12)}
    assert predictions.scores(**options) == evaluate_logits(
        long_tail.logits, long_tail.targets, long_tail.counts, **options
    )
    plain = Predictions(long_tail.targets, long_tail.counts, predicted=long_tail.predicted)
    expected = evaluate_predictions(long_tail.predicted, long_tail.targets, long_tail.counts, groups="quantile")
    assert plain.scores(groups="quantile") == expected


def test_predicted_is_the_highest_logit(long_tail: Example, predictions: Predictions) -> None:
    assert torch.equal(predictions.predicted, long_tail.predicted)
    assert len(predictions) == 600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of `logits` and `predicted` must be given"),
        ({"logits": torch.zeros(2, 2), "predicted": torch.tensor([0, 1])}, "exactly one of `logits`"),
        ({"logits": torch.zeros(2, 3)}, r"logits must have shape \(2, 2\)"),
        ({"logits": torch.full((2, 2), 1e300, dtype=torch.float64)}, r"\+inf"),  # does not fit float32
        ({"predicted": torch.tensor([0])}, "1 predicted labels for 2 targets"),
        (
            {"predicted": torch.tensor([0, 1]), "class_names": ["cat"]},
            "`class_names` must have one entry per class, 2, got 1",
        ),
        (
            {"predicted": torch.tensor([0, 1]), "embeddings": torch.zeros(3, 4)},
            "`embeddings` must have one entry per example",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictions(torch.tensor([0, 1]), [500, 5], **options)


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no predictions at .*predictions\.npz; pass the folder of a run"):
        read_predictions(tmp_path)
    with pytest.raises(InputError, match=r"no predictions at .*none\.csv"):
        read_predictions(tmp_path / "none.csv")
    (tmp_path / "p.pkl").touch()
    with pytest.raises(InputError, match=r"must end in \.npz, \.csv, \.tsv, \.txt"):
        read_predictions(tmp_path / "p.pkl")


def test_result_a_result_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"method": "ce"}')
    assert read_result(path) == {"method": "ce"}
    path.write_text("{")
    with pytest.raises(InputError, match=r"cannot read .*result\.json: .*; remove it and resume the run in "):
        read_result(path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="must be a JSON object, got a list"):
        read_result(path)


def test_result_group_options() -> None:
    assert group_options(None) == group_options({}) == {}
    with pytest.raises(InputError, match='"class_groups" of a result must have kind'):
        group_options({"kind": "fixed", "many": 3})
