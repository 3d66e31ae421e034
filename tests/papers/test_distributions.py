import numpy as np
import pytest
import torch

from longtail.errors import InputError
from longtail.papers.distributions import BINS, cdf_table, distributions, histogram_table, summarised

VALUES = {
    "cat\nmany, 9 images": {"ce": torch.tensor([0.0, 1.0, 4.0]), "elm": torch.tensor([2.0, 2.0])},
    "dog\nfew, 2 images": {"ce": torch.tensor([-8.0]), "elm": torch.tensor([4.0, 4.0, 4.0, -2.0])},
}


def test_bins_reach_from_the_least_to_the_greatest_value_of_all():
    rows = histogram_table(VALUES, "margin").rows
    assert len(rows) == 4 * BINS
    assert rows[0][2] == pytest.approx(-8, abs=1e-4)
    assert rows[-1][3] == pytest.approx(4, abs=1e-4)


def test_shares_are_those_of_numpy():
    table = histogram_table(VALUES, "margin")
    assert table.columns == ("class", "run", "margin_from", "margin_to", "share")
    own = [row for row in table.rows if row[:2] == ("dog", "elm")]
    expected, _ = np.histogram([4, 4, 4, -2], np.linspace(-8 - 1.2e-5, 4 + 1.2e-5, BINS + 1))
    np.testing.assert_allclose([row[4] for row in own], expected / 4)


def test_equal_values_still_make_a_histogram():
    rows = histogram_table({"a": {"ce": torch.ones(5)}}, "margin").rows
    assert sum(row[4] for row in rows) == 1


def test_a_cumulative_share_rises_to_one():
    rows = [row[2:] for row in cdf_table(VALUES, "margin").rows if row[:2] == ("cat", "ce")]
    assert rows == [(0.0, pytest.approx(1 / 3)), (1.0, pytest.approx(2 / 3)), (4.0, 1.0)]


def test_the_summary_has_a_line_for_each_class_and_run():
    lines = summarised(VALUES, "margin")
    assert lines[0] == "cat: ce margin 1.67, standard deviation 2.08 (3 images)"
    assert lines[2] == "dog: ce margin -8.00 (1 image)"
    assert len(lines) == 4


def test_a_class_without_images_is_refused():
    with pytest.raises(InputError, match="cat has too few images in this part; choose other classes"):
        distributions({"cat\nx": {"ce": torch.empty(0)}}, "margin", "margin", cumulative=True)
