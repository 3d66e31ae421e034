import pytest

from longtail.evaluation import Difference
from longtail.report.wording import DASH, clean, interval, number, percent, points, several


def test_none_is_a_dash_and_never_zero() -> None:
    assert number(None) == percent(None) == DASH
    assert number(0.0) == "0.0"


def test_digits_and_thousands() -> None:
    assert number(12345.678, 2) == "12,345.68"
    assert percent(99.96) == "100.0\N{NARROW NO-BREAK SPACE}%"


def test_one_of_a_thing_is_singular() -> None:
    assert [several(n, "class", "classes") for n in (0, 1, 2)] == ["0 classes", "1 class", "2 classes"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.04, "+8.0"), (-5.56, "\N{MINUS SIGN}5.6"), (0.04, "0.0"), (-0.04, "0.0"), (0, "0.0"), (None, "\N{EN DASH}")],
)
def test_points(value: float | None, text: str) -> None:
    assert points(value) == text


def test_interval() -> None:
    assert interval(Difference(-1.0, -2.5, 0.4, 0.2)) == "\N{MINUS SIGN}2.5 to +0.4"


@pytest.mark.parametrize("text", ["caf\udce9", "a\x00b", "\x1b[31m", "\ud83d"])
def test_cleaned_text_can_be_written_and_shows_that_something_was_there(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.encode("utf-8")
    assert "\ufffd" in cleaned


def test_cleaning_leaves_sound_text_alone() -> None:
    assert clean("naïve 🦉\tfish\n") == "naïve 🦉\tfish\n"
