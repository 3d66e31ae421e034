import base64
import io
import re

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import confusion_matrix

from longtail.data import long_tailed_counts
from longtail.report.classes import Classes
from longtail.report.style import GROUP_COLORS
from longtail.report.plots import (
    _draw_accuracy,
    confusion_figure,
    confusion_shares,
    counts_figure,
    groups_figure,
    smoothed,
)

from .conftest import EVIL

COUNTS = torch.tensor([4, 300, 60, 150])
CLASSES = Classes.grouped(("eel", "cat", "fox", "dog"), COUNTS)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def many_classes(number: int) -> Classes:
    counts = long_tailed_counts(500, number, 100)
    return Classes.grouped(tuple(f"class {c}" for c in range(number)), counts)


def test_named_classes_stand_in_the_order_of_their_counts_with_their_accuracy() -> None:
    found = texts(counts_figure(CLASSES, [10.0, 90.0, 51.0, 70.0]))
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


def test_bars_wear_the_colours_of_their_groups() -> None:
    svg = counts_figure(CLASSES, [10.0, 90.0, 51.0, 70.0])
    for colour, bars in zip(GROUP_COLORS.values(), (4, 2, 2), strict=True):
        # a bar above and one below for each class, and one mark in the legend
        assert len(re.findall(rf'<path [^>]*style="fill: {colour}"', svg)) == bars


@pytest.mark.parametrize("number", [10, 100, 8142])
def test_counts_are_drawn_for_few_and_for_thousands_of_classes(number: int) -> None:
    classes = many_classes(number) if number < 500 else _inaturalist(number)
    svg = counts_figure(classes, [50.0] * number)
    assert len(svg) < 200_000
    assert ("smoothed" in svg) == (number > 20)


def _inaturalist(number: int) -> Classes:
    counts = long_tailed_counts(1000, number, 500, "pareto")
    return Classes.grouped(tuple(map(str, range(number))), counts)


def test_classes_without_a_test_image_or_a_training_image_do_no_harm() -> None:
    classes = Classes.grouped(("a", "b", "c"), torch.tensor([200, 5, 0]))
    assert "nan" not in counts_figure(classes, [None, 5.0, None]).lower()
    assert "nan" not in counts_figure(many_classes(30), [None] * 30).lower()


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
    found = texts(groups_figure(CLASSES, values))
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
    svg = confusion_figure(CLASSES, predicted, targets)
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(code))) for code in re.findall(r"base64,([A-Za-z0-9+/=\s]+)", svg)
    ]
    picture = np.asarray(max(pictures, key=lambda found: found.width))
    assert picture.shape[0] == picture.shape[1] >= 1000
    cell = picture.shape[0] // 4
    opacity = picture[cell // 2 :: cell, cell // 2 :: cell, 3] / 255
    # order cat, dog, fox, eel; dog is right once and taken for eel once; eel has no image
    expected = np.sqrt([[1, 0, 0, 0], [0, 0.5, 0, 0.5], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(opacity, expected, atol=0.01)


def test_cells_are_numbered_while_there_are_few() -> None:
    predicted, targets = torch.tensor([1, 1, 3, 2, 0]), torch.tensor([1, 1, 3, 2, 3])
    assert texts(confusion_figure(CLASSES, predicted, targets)).count("50") >= 2
    labels = torch.arange(100)
    # on the axes alone
    assert texts(confusion_figure(many_classes(100), labels, labels)).count("100") <= 3


@pytest.mark.parametrize("name", EVIL)
def test_names_cannot_leave_a_figure(name: str) -> None:
    classes = Classes.grouped((name, "b"), torch.tensor([200, 5]))
    for svg in (
        counts_figure(classes, [1.0, 2.0]),
        confusion_figure(classes, torch.tensor([0, 1]), torch.tensor([0, 1])),
    ):
        assert "<script" not in svg
        assert svg.count("</svg>") == 1
        assert "\x00" not in svg


def test_a_warning_is_written_into_each_figure() -> None:
    note, labels = "chosen on the test set", torch.tensor([0, 1])
    values = dict.fromkeys(("top1", "balanced", "many", "medium", "few"), 1.0)
    assert note in counts_figure(CLASSES, [1.0] * 4, note)
    assert note in groups_figure(CLASSES, values, note)
    assert note in confusion_figure(CLASSES, labels, labels, note)
