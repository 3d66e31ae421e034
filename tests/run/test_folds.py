"""Cross-validation: one run per fold, scored together."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import longtail as lt
from longtail.errors import InputError
from longtail.run import Run
from longtail.run.fit import fit
from longtail.run.resolve import changes_from, resolve
from tests.data.helpers import noise, save


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds") / "photos"
    for label, (name, count) in enumerate((("cat", 9), ("dog", 4), ("owl", 1))):
        for k in range(count):
            save(folder / name / f"{k}.png", noise(100 * label + k, 8, 8))
    return folder


@pytest.fixture(scope="module")
def done(photos: Path) -> Run:
    out = photos.parent / "out"
    return lt.train(photos, "ce", epochs=1, folds=2, device="cpu", out=out)


def test_every_image_is_tested_once_by_a_model_that_has_not_seen_it(done: Run, photos: Path) -> None:
    found = done.predictions()
    assert len(found) == 13
    assert found.class_counts.tolist() == [9, 4, 1]
    for k in range(2):
        fold = Run.load(done.folder / f"fold{k}")
        own = fold.predictions()
        rows = [found.paths.index(path) for path in own.paths]
        assert torch.equal(found.logits[rows], own.logits)
        again = fold.predict([photos / path for path in own.paths])
        assert torch.allclose(again.probabilities, own.logits.softmax(1))
    assert {path.split("/")[0] for path in found.paths} == {"cat", "dog"}
    assert done.result["folds"]["number"] == 2
    low, high = done.result["folds"]["balanced_interval"]
    assert low <= done.scores.balanced <= high
    assert "1 images of classes with a single image or group are never tested." in done.result["notes"]


def test_files_are_named_in_the_table_and_the_report(done: Run) -> None:
    rows = list(csv.DictReader((done.folder / "predictions.csv").open()))
    assert [row["path"] for row in rows] == list(done.predictions().paths)
    page = (done.folder / "report.html").read_text()
    wrong = done.predictions()
    index = int((wrong.predicted != wrong.targets).nonzero()[0])
    assert f'title="{wrong.paths[index]}"' in page
    assert "<small><bdi>" in page


def test_cross_validation_is_resumed_by_the_fold(done: Run, photos: Path) -> None:
    before = (done.folder / "fold0/result.json").stat().st_mtime_ns
    (done.folder / "fold1/result.json").unlink()
    (done.folder / "result.json").unlink()
    again = lt.train(out=done.folder, resume=True)
    assert torch.equal(again.predictions().logits, done.predictions().logits)
    assert (done.folder / "fold0/result.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="already holds a run"):
        lt.train(photos, "ce", epochs=1, folds=2, out=done.folder)
    with pytest.raises(InputError, match="epochs"):
        lt.train(photos, "ce", epochs=2, folds=2, out=done.folder, resume=True)


def test_a_cross_validation_is_no_model(done: Run) -> None:
    with pytest.raises(InputError, match=r"several models, one per fold; give .*fold0"):
        done.model()
    with pytest.raises(InputError, match="`folds` has no effect on"):
        lt.train("digits-lt", "ce", folds=2, out=done.folder.parent / "none")
    with pytest.raises(InputError, match="`start` has no effect on cross-validation"):
        fit(done.config, done.folder.parent / "other", start=done.folder)


def test_the_configuration_of_a_fold_runs_alone(done: Run, photos: Path) -> None:
    config = resolve(str(photos), "ce", None, changes_from({"epochs": 1, "folds": 2, "device": "cpu"})).config
    fold = replace(config, data=replace(config.data, fold=1))
    assert Run.load(done.folder / "fold1").config == fold
