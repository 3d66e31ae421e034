import math
import re

import numpy as np
import pytest
import torch

from longtail.evaluation import reliability
from longtail.report.curves import _series, margins_figure, reliability_figure, training_figure
from longtail.report.style import GROUP_COLORS, INK


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def lines(svg: str, colour: str) -> list[str]:
    """Drawn paths of a colour that are no marks, axes or legend handles: those clipped to their axes."""
    return re.findall(rf'<path d="([^"]*)" clip-path="[^"]*" style="[^"]*stroke: {colour}', svg)


def test_the_legend_gives_the_calibration_error_of_each_group() -> None:
    sure = reliability(torch.full((10,), 0.9), torch.tensor([True] * 4 + [False] * 6))
    nobody = reliability(torch.tensor([]), torch.tensor([]))
    found = texts(reliability_figure({"all": sure, "few": sure, "many": nobody}))
    assert "all images, ECE 50.00 %" in found
    assert "few-shot, ECE 50.00 %" in found
    assert not any("many" in text for text in found)


def test_a_bin_of_too_few_images_is_not_drawn() -> None:
    confidence = torch.tensor([0.95] * 6 + [0.5] * 4 + [0.3] * 5)
    found = reliability(confidence, torch.ones(15, dtype=torch.bool))
    [path] = lines(reliability_figure({"few": found}), GROUP_COLORS["few"])
    assert len(re.findall("[ML]", path)) == 2


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_margins_say_how_many_are_right_at_any_scale(scale: float) -> None:
    margins = {"many": np.array([3.0, 2.0, 1.0, -1.0]) * scale, "few": np.array([-1.0, -2.0]) * scale}
    found = texts(margins_figure(margins))
    assert ("75 % right" in found) == (scale > 0)
    assert "0 % right" in found
    assert "100 % wrong" in found


def test_infinite_margins_count_and_do_not_stretch_the_axis() -> None:
    svg = margins_figure({"few": np.array([-np.inf, np.inf, 1.0, 2.0])})
    assert "75 % right" in texts(svg)
    assert "inf" not in svg


def test_margins_that_are_all_infinite() -> None:
    assert "50 % right" in texts(margins_figure({"few": np.array([-np.inf, np.inf])}))


def entry(stage: str, loss: float | None, **more: object) -> dict[str, object]:
    return {"stage": stage, "loss": loss, "lr": 0.1, **more}


def test_the_loss_is_broken_between_stages() -> None:
    one = [entry("train", float(9 - e)) for e in range(4)]
    two = [entry("retrain", float(9 - e)) for e in range(4)]
    # a line of loss and one of the rate for each stage
    assert len(lines(training_figure(one), INK)) == 2
    assert len(lines(training_figure(one + two), INK)) == 4


def test_held_out_accuracy_is_drawn_where_it_was_measured() -> None:
    log = [entry("train", 1.0, val={"top1": 50.0, "balanced": 40.0}), entry("train", 1.0)]
    found = texts(training_figure(log))
    assert "accuracy on the held-out part (%)" in found
    assert {"all images", "mean of classes"} <= set(found)
    assert "accuracy on the held-out part (%)" not in texts(training_figure([entry("train", 1.0)]))


def test_accuracy_that_was_watched_on_the_test_set_is_called_so() -> None:
    found = texts(training_figure([entry("train", 1.0, test={"top1": 50.0, "balanced": 40.0})]))
    assert "accuracy on the test set (%)" in found
    assert "accuracy on the held-out part (%)" not in found


def test_what_is_missing_or_not_finite_is_a_gap() -> None:
    log = [{"loss": 1.5}, {"loss": None}, {"loss": math.inf}, {"loss": "x"}, {}, {"val": {"top1": 3}}, {"val": 3}]
    np.testing.assert_array_equal(_series(log, "loss"), [1.5] + [math.nan] * 6)
    np.testing.assert_array_equal(_series(log, "val", "top1"), [math.nan] * 5 + [3.0, math.nan])
    assert "nan" not in training_figure(log)
