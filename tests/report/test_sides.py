from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.errors import InputError
from longtail.evaluation import Predictions, save_predictions
from longtail.report.sides import read_sides

from .made_up import COUNTS, NAMES, predictions, write_run

GOOD = predictions(0.4)


def test_runs_are_read_in_order_and_scored_with_the_groups_of_the_reference(tmp_path: Path) -> None:
    groups = {"kind": "fixed", "many": 200, "few": 50}
    places = [write_run(tmp_path / "ce", GOOD, class_groups=groups), write_run(tmp_path / "balms", predictions(0.0))]
    sides, options = read_sides(places)
    assert [each.label for each in sides] == ["ce", "balms"]
    assert options == {"many": 200, "few": 50, "groups": "fixed"}
    assert sides[1].scores == predictions(0.0).scores(many=200, few=50)
    assert read_sides(places, groups={"many": 100})[1] == {"many": 100, "few": 50, "groups": "fixed"}


def test_files_of_other_tools_take_part(tmp_path: Path) -> None:
    run = write_run(tmp_path / "ce", GOOD)
    found = predictions(0.0)
    lines = [f"{int(t)},{int(p)}" for t, p in zip(found.targets, found.predicted, strict=True)]
    table = tmp_path / "other.csv"
    table.write_text("target,predicted\n" + "\n".join(lines))
    counts = tmp_path / "counts.json"
    counts.write_text(str(list(COUNTS)))
    sides, _ = read_sides([run, table], counts=str(counts))
    assert [each.label for each in sides] == ["ce", "other"]
    assert sides[1].predictions.predicted.equal(found.predicted)
    assert sides[1].result == {}


def test_numbered_classes_of_a_file_are_those_of_the_run(tmp_path: Path) -> None:
    file = tmp_path / "other.npz"
    save_predictions(file, Predictions(GOOD.targets, GOOD.class_counts, predicted=GOOD.predicted))
    sides, _ = read_sides([write_run(tmp_path / "ce", GOOD), file])
    assert sides[1].predictions.class_names == tuple("012345")


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ([{"seed": 0}, {"seed": 1}], ["balms, seed 0", "balms, seed 1"]),
        ([{"recipe": "ldam"}, {"recipe": "balms"}], ["balms, recipe ldam", "balms, recipe balms"]),
        (
            [{"backbone": {"name": "resnet32"}}, {"backbone": {"name": "resnet50"}}],
            ["balms, backbone resnet32", "balms, backbone resnet50"],
        ),
    ],
)
def test_runs_of_one_method_are_told_apart_by_what_differs(tmp_path: Path, changes: list, labels: list) -> None:
    places = [write_run(tmp_path / str(i), GOOD, method="balms", **each) for i, each in enumerate(changes)]
    assert [each.label for each in read_sides(places)[0]] == labels


def test_runs_that_differ_in_nothing_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    places = [write_run(tmp_path / name, GOOD, method="balms") for name in ("a", "b")]
    assert [each.label for each in read_sides(places)[0]] == [f"balms ({place})" for place in places]
    with pytest.raises(InputError, match="a is given twice; give each run once"):
        read_sides([places[0], places[0]])


@pytest.mark.parametrize("number", [1, 9])
def test_another_number_of_runs_is_refused(number: int) -> None:
    with pytest.raises(InputError, match=f"takes 2 to 8 runs or prediction files, the reference first, got {number}"):
        read_sides([Path("run")] * number)


def other_split(path: Path) -> Path:
    return write_run(path, GOOD, split={"name": "other", "sha256": "99"})


def other_counts(path: Path) -> Path:
    counts = torch.tensor([300, 150, 61, 40, 9, 4])
    return write_run(path, Predictions(GOOD.targets, counts, logits=GOOD.logits, class_names=NAMES))


def other_names(path: Path) -> Path:
    return write_run(path, predictions(0.0, (*NAMES[:5], "gnu")))


def other_order(path: Path) -> Path:
    order = torch.tensor(np.random.default_rng(0).permutation(len(GOOD)))
    shuffled = Predictions(GOOD.targets[order], GOOD.class_counts, logits=GOOD.logits[order], class_names=NAMES)
    return write_run(path, shuffled)


def fewer_images(path: Path) -> Path:
    some = Predictions(GOOD.targets[:-1], GOOD.class_counts, logits=GOOD.logits[:-1], class_names=NAMES)
    return write_run(path, some)


def more_classes(path: Path) -> Path:
    return write_run(path, predictions(0.0, (*NAMES, "gnu")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_split, r"their splits differ, digits-seed0 \(ab25350e3e65\) and other \(99\); train them"),
        (other_counts, "class 'cat' had 60 and 61 training images"),
        (other_names, "their classes differ, first 'fox' and 'gnu'"),
        (other_order, "their test labels differ, so their test images or the order of the images differ"),
        (fewer_images, "their test labels differ"),
        (more_classes, "they have 6 and 7 classes"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, make, message: str) -> None:
    with pytest.raises(InputError, match=f"ce and .*other cannot be compared: {message}"):
        read_sides([write_run(tmp_path / "ce", GOOD), make(tmp_path / "other")])


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no run"):
        read_sides([write_run(tmp_path / "ce", GOOD), tmp_path / "empty"])


def test_the_main_mistake_of_a_class(tmp_path: Path) -> None:
    sides, _ = read_sides([write_run(tmp_path / name, GOOD) for name in ("ce", "balms")])
    wrong = GOOD.predicted[(GOOD.targets == 5) & (GOOD.predicted != 5)]
    assert sides[0].main_confusions[5].images == int(wrong.bincount().max())
