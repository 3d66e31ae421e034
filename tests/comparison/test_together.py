from pathlib import Path

import pytest

from longtail.evaluation import Predictions, save_predictions
from longtail.report.comparison import Comparison

from ..report.conftest import RESULT
from .made_up import predictions, together, told, write_run


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
            "of balms was chosen on the test set, which flat",
        ),
    ],
)
def test_other_differences_are_named(tmp_path: Path, changes: dict, warning: str) -> None:
    import re

    assert re.search(warning, "\n".join(compare(tmp_path, **changes).warnings))


def test_a_head_of_another_size_is_part_of_the_method(tmp_path: Path) -> None:
    assert list(compare(tmp_path, backbone={**RESULT["backbone"], "parameters": 93_300}).warnings) == []


def test_a_longer_training_is_named(tmp_path: Path) -> None:
    from longtail.config import recipes

    comparison_of = compare(tmp_path)
    for label, epochs in (("ce", 24), ("balms", 200)):
        config = recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": epochs}}])
        (tmp_path / label / "config.yaml").write_text(recipes.to_yaml(config))
    [warning] = Comparison.of([each.place for each in comparison_of.contenders]).warnings
    assert "length of the training 24 epochs (ce), 200 epochs (balms)" in warning


def test_a_file_is_said_to_be_one_and_takes_the_names_of_the_run(tmp_path: Path) -> None:
    found = predictions(0.0)
    file = tmp_path / "other.npz"
    save_predictions(file, Predictions(found.targets, found.class_counts, predicted=found.predicted))
    comparison = Comparison.of([file, write_run(tmp_path / "ce", predictions(0.6))])
    assert list(comparison.warnings) == ["other is a file of predictions: nothing is known of how they came about."]
    assert comparison.classes.names == found.class_names
    assert comparison.title == "ce against other"


def test_several_are_listed(tmp_path: Path) -> None:
    assert together(*(predictions(lean) for lean in (0.6, 0.3, 0.0))).title == "two and three against one"


def test_with_few_test_images_a_class_can_show_nothing() -> None:
    assert "With at most 2 test images a class" in "\n".join(told([0, 0, 1], [0, 0, 0], [0, 0, 1]).caveats)
    assert "one training" in "\n".join(together(predictions(0.6), predictions(0.0)).caveats)
    assert "at most" not in "\n".join(together(predictions(0.6), predictions(0.0)).caveats)
