import html
import re

import pytest

from longtail.evaluation import Difference
from longtail.report.comparison.wording import interval, points, verdict

from .made_up import predictions, together, told


def plain(text: str) -> str:
    return (
        html.unescape(re.sub("<[^>]*>", "", text))
        .replace("\N{NARROW NO-BREAK SPACE}", " ")
        .replace("\N{MINUS SIGN}", "-")
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.04, "+8.0"), (-5.56, "\N{MINUS SIGN}5.6"), (0.04, "0.0"), (-0.04, "0.0"), (0, "0.0"), (None, "\N{EN DASH}")],
)
def test_points(value: float | None, text: str) -> None:
    assert points(value) == text


def test_interval() -> None:
    assert plain(interval(Difference(-1.0, -2.5, 0.4, 0.2))) == "-1.0 (-2.5 to +0.4)"


def test_the_verdict_of_a_hand_made_case() -> None:
    targets = [0] * 20 + [2] * 20
    before = [0] * 40
    after = [0] * 18 + [2] * 2 + [2] * 20
    text = plain(verdict(told(targets, before, after).pairs[0]))
    assert text.startswith("two is right on 95.0 % of 40 test images, 45.0 points more than one (95 % interval +")
    assert "Of 2 classes, 1 got better and 1 worse; 1 of the gains and 0 of the losses are clearly more" in text
    assert "Classes with many training images lost 10.0 points (perhaps by chance), rare classes gained 100.0" in text
    assert "Of the images of rare classes, 100 % were taken for classes with many training images, now 0 %." in text
    assert "The largest gain is 2 (0 to 100 %), the largest loss is 0 (100 to 90 %)." in text


def test_what_may_be_chance_is_called_so() -> None:
    targets = [0] * 20 + [2] * 20
    one, two = list(targets), list(targets)
    one[:2], two[3] = [2, 2], 2
    text = plain(verdict(told(targets, one, two).pairs[0]))
    assert "2.5 points more than one, which may be chance (95 % interval -" in text


def test_of_two_that_are_alike_nothing_is_claimed() -> None:
    text = plain(verdict(together(predictions(0.3), predictions(0.3)).pairs[0]))
    assert "as is one (95 % interval 0.0 to 0.0)" in text
    assert "0 got better and 0 worse" in text
    assert "rare classes stayed as they were" in text
    assert "largest" not in text


def test_a_single_group_is_not_told_apart() -> None:
    text = plain(verdict(told([0, 1, 2], [0, 0, 0], [0, 1, 2], counts=(5, 4, 3)).pairs[0]))
    assert "rare classes" not in text
