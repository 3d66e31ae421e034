import base64
import io
import math
import re

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import confusion_matrix

from longtail.data import long_tailed_counts
from longtail.evaluation import reliability
from longtail.report.charts import (
    _LINES,
    _draw_accuracy,
    _series,
    accuracy_chart,
    change_chart,
    confusion_chart,
    confusion_shares,
    counts_chart,
    groups_chart,
    margins_chart,
    reliability_chart,
    training_chart,
)
from longtail.report.classes import Classes
from longtail.report.comparison import Comparison
from longtail.report.style import GROUP_COLORS, INK, neighbors, smoothed

from .made_up import EVIL, compared, predictions, together

COUNTS = torch.tensor([4, 300, 60, 150])
CLASSES = Classes.grouped(("eel", "cat", "fox", "dog"), COUNTS)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def many_classes(number: int) -> Classes:
    counts = long_tailed_counts(500, number, 100)
    return Classes.grouped(tuple(f"class {c}" for c in range(number)), counts)


def test_named_classes_stand_in_the_order_of_their_counts_with_their_accuracy() -> None:
    found = texts(counts_chart(CLASSES, [10.0, 90.0, 51.0, 70.0]))
    assert [text for text in found if text in CLASSES.names] == ["cat", "dog", "fox", "eel"]
    assert [text for text in found if text in {"10", "90", "51", "70"}].count("51") == 1


def test_the_number_above_a_full_bar_stays_inside_its_panel() -> None:
    figure = Figure(figsize=(6, 2.5), layout="constrained")
    axes = figure.subplots()
    _draw_accuracy(axes, np.array([100.0, 99.6, 0.0]), np.array(["many", "medium", "few"]))
    figure.draw_without_rendering()
    panel = axes.get_window_extent()
    assert all(label.get_window_extent().y1 < panel.y1 for label in axes.texts)
    assert [tick for tick in axes.get_yticks() if tick > 100] == []


def test_bars_wear_the_colors_of_their_groups() -> None:
    svg = counts_chart(CLASSES, [10.0, 90.0, 51.0, 70.0])
    for color, bars in zip(GROUP_COLORS.values(), (4, 2, 2), strict=True):
        # a bar above and one below for each class, and one mark in the legend
        assert len(re.findall(rf'<path [^>]*style="fill: {color}"', svg)) == bars


@pytest.mark.parametrize("number", [10, 100, 8142])
def test_counts_are_drawn_for_few_and_for_thousands_of_classes(number: int) -> None:
    classes = many_classes(number) if number < 500 else _inaturalist(number)
    svg = counts_chart(classes, [50.0] * number)
    assert len(svg) < 200_000
    assert ("smoothed" in svg) == (number > 20)


def _inaturalist(number: int) -> Classes:
    counts = long_tailed_counts(1000, number, 500, "pareto")
    return Classes.grouped(tuple(map(str, range(number))), counts)


def test_classes_without_a_test_image_or_a_training_image_do_no_harm() -> None:
    classes = Classes.grouped(("a", "b", "c"), torch.tensor([200, 5, 0]))
    assert "nan" not in counts_chart(classes, [None, 5.0, None]).lower()
    assert "nan" not in counts_chart(many_classes(30), [None] * 30).lower()


def test_the_trend_is_the_gaussian_mean_of_known_neighbours() -> None:
    values = np.array([10.0, np.nan, 30.0, 40.0, np.nan, 5.0])
    found = smoothed(values)
    for rank in range(len(values)):
        weights = [
            np.exp(-0.5 * (rank - other) ** 2) if abs(rank - other) <= 3 else 0.0 for other in range(len(values))
        ]
        known = [(w, v) for w, v in zip(weights, values, strict=True) if not np.isnan(v)]
        assert found[rank] == pytest.approx(sum(w * v for w, v in known) / sum(w for w, _ in known))


def test_a_stretch_without_any_value_has_no_trend() -> None:
    found = smoothed(np.array([np.nan] * 5 + [1.0]))
    assert np.isnan(found).tolist() == [True, True, False, False, False, False]  # its reach is 3 classes


def test_groups_show_every_value_and_name_an_empty_group() -> None:
    values = {"top1": 71.26, "balanced": 55.0, "many": 90.0, "medium": None, "few": 0.0}
    found = texts(groups_chart(CLASSES, values))
    assert {"71.3", "55.0", "90.0", "0.0", "no class"} <= set(found)


def test_the_confusion_matrix_is_that_of_scikit_learn_reordered() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, targets = (torch.randint(0, 4, (200,), generator=generator) for _ in range(2))
    order = CLASSES.order.tolist()
    expected = 100 * confusion_matrix(targets, predicted, labels=order, normalize="true")
    np.testing.assert_allclose(confusion_shares(CLASSES, predicted, targets, side=4), expected)


def test_binned_confusion_pools_neighbours_and_keeps_rows_at_100() -> None:
    classes = many_classes(500)
    generator = torch.Generator().manual_seed(0)
    predicted, targets = (torch.randint(0, 500, (3000,), generator=generator) for _ in range(2))
    found = confusion_shares(classes, predicted, targets, side=100)
    whole = confusion_matrix(targets, predicted, labels=classes.order.tolist())
    pooled = whole.reshape(100, 5, 100, 5).sum((1, 3))
    np.testing.assert_allclose(found, 100 * pooled / pooled.sum(1, keepdims=True))


def test_the_image_in_the_confusion_figure_shows_the_shares() -> None:
    predicted, targets = torch.tensor([1, 1, 3, 2, 0]), torch.tensor([1, 1, 3, 2, 3])
    svg = confusion_chart(CLASSES, predicted, targets)
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(code))) for code in re.findall(r"base64,([A-Za-z0-9+/=\s]+)", svg)
    ]
    picture = np.asarray(max(pictures, key=lambda found: found.width))
    assert picture.shape[0] == picture.shape[1] >= 1000
    cell = picture.shape[0] // 4
    opacity = picture[cell // 2 :: cell, cell // 2 :: cell, 3] / 255
    # order cat, dog, fox, eel; dog is right once and predicted as eel once; eel has no image
    expected = np.sqrt([[1, 0, 0, 0], [0, 0.5, 0, 0.5], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(opacity, expected, atol=0.01)


def test_cells_are_numbered_while_there_are_few() -> None:
    predicted, targets = torch.tensor([1, 1, 3, 2, 0]), torch.tensor([1, 1, 3, 2, 3])
    assert texts(confusion_chart(CLASSES, predicted, targets)).count("50") >= 2
    labels = torch.arange(100)
    # on the axes alone
    assert texts(confusion_chart(many_classes(100), labels, labels)).count("100") <= 3


@pytest.mark.parametrize("name", EVIL)
def test_names_cannot_leave_a_chart(name: str) -> None:
    classes = Classes.grouped((name, "b"), torch.tensor([200, 5]))
    for svg in (
        counts_chart(classes, [1.0, 2.0]),
        confusion_chart(classes, torch.tensor([0, 1]), torch.tensor([0, 1])),
    ):
        assert "<script" not in svg
        assert svg.count("</svg>") == 1
        assert "\x00" not in svg


def test_a_warning_is_written_into_each_chart() -> None:
    note, labels = "chosen on the test set", torch.tensor([0, 1])
    values = dict.fromkeys(("top1", "balanced", "many", "medium", "few"), 1.0)
    assert note in counts_chart(CLASSES, [1.0] * 4, note)
    assert note in groups_chart(CLASSES, values, note)
    assert note in confusion_chart(CLASSES, labels, labels, note)


def lines(svg: str, color: str) -> list[str]:
    """Drawn paths of a color that are no marks, axes or legend handles: those clipped to their axes."""
    return re.findall(rf'<path d="([^"]*)" clip-path="[^"]*" style="[^"]*stroke: {color}', svg)


def test_the_legend_gives_the_calibration_error_of_each_group() -> None:
    sure = reliability(torch.full((10,), 0.9), torch.tensor([True] * 4 + [False] * 6))
    nobody = reliability(torch.tensor([]), torch.tensor([]))
    found = texts(reliability_chart({"all": sure, "few": sure, "many": nobody}))
    assert "all images, ECE 50.00 %" in found
    assert "few-shot, ECE 50.00 %" in found
    assert not any("many" in text for text in found)


def test_a_bin_of_too_few_images_is_not_drawn() -> None:
    confidence = torch.tensor([0.95] * 6 + [0.5] * 4 + [0.3] * 5)
    found = reliability(confidence, torch.ones(15, dtype=torch.bool))
    [path] = lines(reliability_chart({"few": found}), GROUP_COLORS["few"])
    assert len(re.findall("[ML]", path)) == 2


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_margins_say_how_many_are_right_at_any_scale(scale: float) -> None:
    margins = {"many": np.array([3.0, 2.0, 1.0, -1.0]) * scale, "few": np.array([-1.0, -2.0]) * scale}
    found = texts(margins_chart(margins))
    assert ("75 % right" in found) == (scale > 0)
    assert "0 % right" in found
    assert "100 % wrong" in found


def test_infinite_margins_count_and_do_not_stretch_the_axis() -> None:
    svg = margins_chart({"few": np.array([-np.inf, np.inf, 1.0, 2.0])})
    assert "75 % right" in texts(svg)
    assert "inf" not in svg


def test_margins_that_are_all_infinite() -> None:
    assert "50 % right" in texts(margins_chart({"few": np.array([-np.inf, np.inf])}))


def entry(stage: str, loss: float | None, **more: object) -> dict[str, object]:
    return {"stage": stage, "loss": loss, "lr": 0.1, **more}


def test_the_loss_is_broken_between_stages() -> None:
    one = [entry("train", float(9 - e)) for e in range(4)]
    two = [entry("retrain", float(9 - e)) for e in range(4)]
    # a line of loss and one of the rate for each stage
    assert len(lines(training_chart(one), INK)) == 2
    assert len(lines(training_chart(one + two), INK)) == 4


def test_held_out_accuracy_is_drawn_where_it_was_measured() -> None:
    log = [entry("train", 1.0, val={"top1": 50.0, "balanced": 40.0}), entry("train", 1.0)]
    found = texts(training_chart(log))
    assert "accuracy on the validation split (%)" in found
    assert {"all images", "mean of classes"} <= set(found)
    assert "accuracy on the validation split (%)" not in texts(training_chart([entry("train", 1.0)]))


def test_accuracy_that_was_watched_on_the_test_set_is_called_so() -> None:
    found = texts(training_chart([entry("train", 1.0, test={"top1": 50.0, "balanced": 40.0})]))
    assert "accuracy on the test split (%)" in found
    assert "accuracy on the validation split (%)" not in found


def test_what_is_missing_or_not_finite_is_a_gap() -> None:
    log = [{"loss": 1.5}, {"loss": None}, {"loss": math.inf}, {"loss": "x"}, {}, {"val": {"top1": 3}}, {"val": 3}]
    np.testing.assert_array_equal(_series(log, "loss"), [1.5] + [math.nan] * 6)
    np.testing.assert_array_equal(_series(log, "val", "top1"), [math.nan] * 5 + [3.0, math.nan])
    assert "nan" not in training_chart(log)


@pytest.mark.parametrize("classes", [3, 25, 700])
def test_figures_are_drawn_for_few_and_many_classes(classes: int) -> None:
    names = tuple(f"class {index}" for index in range(classes))
    comparison = together(predictions(0.6, names), predictions(-0.2, names))
    for svg in (accuracy_of(comparison), change_of(comparison)):
        assert svg.startswith("<svg")
        assert "nan" not in svg
        assert ("class 0" in svg) == (classes == 3)


def test_the_legend_counts_arrows_up_and_down() -> None:
    comparison = compared([0, 0, 1, 1, 2, 2], [1, 1, 0, 1, 2, 2], [0, 1, 1, 0, 1, 1])
    svg = change_of(comparison)
    assert [re.search(rf"{word} \((\d+)\)", svg)[1] for word in ("better", "worse", "the same")] == ["1", "1", "1"]


def test_eight_runs_can_be_told_apart() -> None:
    labels = tuple(f"run {index}" for index in range(8))
    svg = accuracy_of(together(*(predictions(0.1 * i) for i in range(8)), labels=labels))
    assert all(label in svg for label in labels)
    assert len({line[:2] for line in _LINES}) == len({line[2] for line in _LINES}) == 8


def test_neighbours_never_cross_a_group_and_leave_no_class_out() -> None:
    names = tuple(map(str, range(100)))
    classes = together(predictions(0.6, names), predictions(0.0, names)).classes
    parts = neighbors(classes, 24)
    assert np.concatenate(parts).tolist() == list(range(1, 101))
    groups = np.array(classes.group_names)[classes.order.numpy()]
    assert all(len(set(groups[part - 1])) == 1 for part in parts)


def test_a_class_without_test_images_is_left_out() -> None:
    svg = change_of(compared([0, 0, 1], [0, 1, 1], [0, 0, 1]))
    assert "better (1)" in svg
    assert "the same (1)" in svg


def accuracy_of(comparison: Comparison) -> str:
    return accuracy_chart(comparison.classes, {side.label: side.scores.per_class for side in comparison.sides})


def change_of(comparison: Comparison) -> str:
    return change_chart(comparison.classes, *(side.scores.per_class for side in comparison.pairs[0].sides))
