import re

import numpy as np
import pytest

from longtail.report.comparison import plots

from .made_up import predictions, together, told


@pytest.mark.parametrize("classes", [3, 25, 700])
def test_figures_are_drawn_for_few_and_many_classes(classes: int) -> None:
    names = tuple(f"class {index}" for index in range(classes))
    comparison = together(predictions(0.6, names), predictions(-0.2, names))
    for svg in (plots.accuracy_figure(comparison), plots.change_figure(comparison.pairs[0], "change")):
        assert svg.startswith("<svg")
        assert "nan" not in svg
        assert ("class 0" in svg) == (classes == 3)


def test_the_legend_counts_arrows_up_and_down() -> None:
    comparison = told([0, 0, 1, 1, 2, 2], [1, 1, 0, 1, 2, 2], [0, 1, 1, 0, 1, 1])
    svg = plots.change_figure(comparison.pairs[0], "change")
    assert [re.search(rf"{word} \((\d+)\)", svg)[1] for word in ("better", "worse", "the same")] == ["1", "1", "1"]


def test_eight_contenders_can_be_told_apart() -> None:
    labels = tuple(f"run {index}" for index in range(8))
    svg = plots.accuracy_figure(together(*(predictions(0.1 * i) for i in range(8)), labels=labels))
    assert all(label in svg for label in labels)
    assert len({line[:2] for line in plots._LINES}) == len({line[2] for line in plots._LINES}) == 8


def test_neighbours_never_cross_a_group_and_leave_no_class_out() -> None:
    names = tuple(map(str, range(100)))
    classes = together(predictions(0.6, names), predictions(0.0, names)).classes
    parts = plots._neighbours(classes, 24)
    assert np.concatenate(parts).tolist() == list(range(1, 101))
    groups = np.array(classes.group_names)[classes.order.numpy()]
    assert all(len(set(groups[part - 1])) == 1 for part in parts)


def test_a_class_without_test_images_is_left_out() -> None:
    svg = plots.change_figure(told([0, 0, 1], [0, 1, 1], [0, 0, 1]).pairs[0], "change")
    assert "better (1)" in svg
    assert "the same (1)" in svg
