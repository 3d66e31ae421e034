import csv
import re
from pathlib import Path

import pytest
from rich.console import Console

from longtail.errors import InputError
from longtail.evaluation import Predictions, save_predictions
from longtail.report.comparison import Comparison, changes_table, overview_table, write_table

from .made_up import NAMES, RESULT, compared, config, predictions, together, write_run


def compare(tmp_path: Path, **changes: object) -> Comparison:
    one = write_run(tmp_path / "ce", predictions(0.6))
    return Comparison.of([one, write_run(tmp_path / "balms", predictions(0.0), **changes)])


def test_runs_that_differ_in_the_method_alone_bring_no_warning(tmp_path: Path) -> None:
    comparison = compare(tmp_path)
    assert list(comparison.warnings) == []
    assert comparison.title == "balms against ce on digits-lt"
    assert [pair.other.label for pair in comparison.pairs] == ["balms"]


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"recipe": "balms"}, r"more than the method: recipe digits \(ce\), balms \(balms\)"),
        (
            {"backbone": {"name": "SmallNet", "parameters": 7_000_000}},
            r"backbone SmallNet, 0.09 M parameters \(ce\), SmallNet, 7.00 M parameters \(balms\)",
        ),
        (
            {"protocol": {"checkpoint": "best", "selected_on": "val"}},
            r"scored checkpoint last \(ce\), best val \(balms\)",
        ),
        (
            {"protocol": {"checkpoint": "best", "selected_on": "test"}},
            "of balms was chosen on the test split: its numbers are optimistic",
        ),
    ],
)
def test_other_differences_are_named(tmp_path: Path, changes: dict, warning: str) -> None:

    assert re.search(warning, "\n".join(compare(tmp_path, **changes).warnings))


def test_a_head_of_another_size_is_part_of_the_method(tmp_path: Path) -> None:
    assert list(compare(tmp_path, backbone={**RESULT["backbone"], "parameters": 93_300}).warnings) == []


def test_a_longer_training_is_named(tmp_path: Path) -> None:
    comparison_of = compare(tmp_path)
    for label, epochs in (("ce", 24), ("balms", 200)):
        (tmp_path / label / "config.yaml").write_text(config(epochs=epochs))
    [warning] = Comparison.of([side.place for side in comparison_of.sides]).warnings
    assert "training length 24 epochs (ce), 200 epochs (balms)" in warning


def test_a_file_is_said_to_be_one_and_takes_the_names_of_the_run(tmp_path: Path) -> None:
    found = predictions(0.0)
    file = tmp_path / "other.npz"
    save_predictions(file, Predictions(found.targets, found.class_counts, predicted=found.predicted))
    comparison = Comparison.of([file, write_run(tmp_path / "ce", predictions(0.6))])
    assert list(comparison.warnings) == ["other is a file of predictions: its training is unknown."]
    assert comparison.classes.names == found.class_names
    assert comparison.title == "ce against other"


def test_several_are_listed(tmp_path: Path) -> None:
    assert together(*(predictions(lean) for lean in (0.6, 0.3, 0.0))).title == "two and three against one"


def test_with_few_test_images_a_class_can_show_nothing() -> None:
    assert "With at most 2 test images per class" in "\n".join(compared([0, 0, 1], [0, 0, 0], [0, 0, 1]).caveats)
    assert "one training" in "\n".join(together(predictions(0.6), predictions(0.0)).caveats)
    assert "test images per class" not in "\n".join(together(predictions(0.6), predictions(0.0)).caveats)


def printed(table: object) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_overview_marks_what_is_more_than_chance() -> None:
    text = printed(overview_table(together(predictions(0.6), predictions(-0.2))))
    pair = together(predictions(0.6), predictions(-0.2)).pairs[0]
    assert pair.by_score["few"].significant
    few = f"{pair.other.scores.few:.1f} (+{pair.by_score['few'].mean:.1f})*"
    assert few in text
    assert f"{pair.reference.scores.top1:.1f}" in text


def test_groups_without_a_class_are_dashes() -> None:
    text = printed(overview_table(compared([0, 1, 2], [0, 0, 0], [0, 1, 2], counts=(5, 4, 3))))
    assert text.count("\N{EN DASH}") == 4


def test_changes_by_hand() -> None:
    text = printed(changes_table(compared([0] * 20 + [2] * 20, [0] * 40, [0] * 18 + [2] * 22).pairs[0]))
    [best] = [line for line in text.splitlines() if "+100.0*" in line]
    assert best.split()[:5] == ["2", "5", "0.0", "100.0", "+100.0*"]
    assert best.strip().endswith("0 \N{MINUS SIGN}20")
    assert "\N{MINUS SIGN}10.0 " in text


def test_the_file_holds_every_class_of_every_pair(tmp_path: Path) -> None:
    comparison = together(predictions(0.6), predictions(0.2), predictions(-0.2))
    target = write_table(comparison, tmp_path / "classes.csv")
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["class"]) for row in rows] == [(run, name) for run in ("two", "three") for name in NAMES]
    for row, gain in zip(rows, [*comparison.pairs[0].gains, *comparison.pairs[1].gains], strict=True):
        assert float(row["accuracy"]) - float(row["accuracy_reference"]) == pytest.approx(float(row["difference"]))
        assert float(row["difference"]) == gain
    assert rows[0]["group"] == "many"


def test_a_file_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    comparison = together(predictions(0.6), predictions(0.2))
    with pytest.raises(InputError, match=r"cannot write the table to .*classes\.csv: No such file or directory"):
        write_table(comparison, tmp_path / "none" / "classes.csv")
