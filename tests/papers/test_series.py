import pytest
from matplotlib.colors import to_rgb

from longtail.errors import InputError
from longtail.papers.series import COLOURS, MOST, looks


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_ten_runs_are_told_apart_without_any_colour():
    assert MOST == 10
    assert len({look.marker for look in looks(MOST)}) == MOST
    assert len({look.hatch for look in looks(MOST)}) == MOST
    assert len({(look.colour, look.dash) for look in looks(MOST)}) == MOST


def test_neighbours_have_another_colour_and_another_dash():
    for one, other in zip(looks(MOST), looks(MOST)[1:], strict=False):
        assert one.colour != other.colour
        assert one.dash != other.dash


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_shows_on_white_paper(colour):
    assert 1.05 / (luminance(colour) + 0.05) > 2.0


def test_more_runs_than_a_reader_can_tell_apart_are_refused():
    with pytest.raises(InputError, match="at most 10 runs apart, not 11"):
        looks(11)
