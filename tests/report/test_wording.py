from longtail.report.wording import DASH, number, percent, several


def test_none_is_a_dash_and_never_zero() -> None:
    assert number(None) == percent(None) == DASH
    assert number(0.0) == "0.0"


def test_digits_and_thousands() -> None:
    assert number(12345.678, 2) == "12,345.68"
    assert percent(99.96) == "100.0\N{NARROW NO-BREAK SPACE}%"


def test_one_of_a_thing_is_singular() -> None:
    assert [several(n, "class", "classes") for n in (0, 1, 2)] == ["0 classes", "1 class", "2 classes"]
