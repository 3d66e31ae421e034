import numpy as np
import pytest
import torch

from longtail.errors import InputError
from longtail.papers import draw, write_plot
from tests.papers.conftest import NAMES, made_up_logits


def slow_margins(logits, targets, label):
    """gamma = f_y - max_{j != y} f_j, image by image."""
    margins = []
    for row, target in zip(logits.double().tolist(), targets.tolist(), strict=True):
        if target == label:
            others = row[:target] + row[target + 1 :]
            margins.append(row[target] - max(others))
    return np.array(margins)


def test_the_cumulative_figure_holds_every_margin(make_run):
    plot = draw("margin-cdfs", [make_run("a"), make_run("b", "focal", lean=0.0)], {"classes": ["bee", "fox"]})
    for run, lean in (("ce", 0.4), ("focal", 0.0)):
        for name in ("bee", "fox"):
            rows = [row for row in plot.table.rows if row[:2] == (name, run)]
            expected = np.sort(slow_margins(*made_up_logits(0, lean), NAMES.index(name)))
            np.testing.assert_allclose([row[2] for row in rows], expected, atol=1e-5)
            np.testing.assert_allclose([row[3] for row in rows], np.arange(1, 21) / 20, atol=1e-6)


def test_histograms_hold_each_image_once_and_share_their_bins(make_run):
    plot = draw("margin-histograms", [make_run("a"), make_run("b", "focal")], {"classes": ["bee", "fox"]})
    bins = {}
    for name, run, low, high, share in plot.table.rows:
        bins.setdefault((name, run), []).append((low, high, share))
    assert len(bins) == 4
    assert all(sum(share for *_, share in rows) == pytest.approx(1) for rows in bins.values())
    assert len({tuple((low, high) for low, high, _ in rows) for rows in bins.values()}) == 1
    fox = slow_margins(*made_up_logits(0, 0.4), NAMES.index("fox"))
    low, high, share = bins["fox", "ce"][8]
    assert share == pytest.approx(np.mean((fox >= low) & (fox < high)))


def test_by_default_one_class_of_each_group_is_shown(make_run):
    plot = draw("margin-histograms", [make_run("a")])
    assert list(dict.fromkeys(plot.table.column("class"))) == ["bee", "dog", "fox"]
    assert plot.note == "test images"
    assert "fox: ce margin" in plot.summary[2]


def test_training_images_are_looked_at_on_demand(trained):
    plot = draw("margin-cdfs", trained, {"part": "train", "classes": ["0", "9"]})
    images = [row for row in plot.table.rows if row[:2] == ("9", "ce")]
    assert 1 <= len(images) < 20  # digits-lt has few nines to train on
    assert plot.note == "train images"


def test_every_panel_is_whole_in_the_histogram(make_run):
    """Panels share one vertical axis, which must reach above the tallest bar of any."""
    from longtail.report.style import drawing

    sharp = torch.full((120, 6), -20.0)
    sharp[torch.arange(120), torch.arange(6).repeat_interleave(20)] = 20.0
    plot = draw("margin-histograms", [make_run("a"), make_run("b", "focal", logits=sharp)])
    tallest = max(plot.table.column("share"))
    with drawing(plot.height) as figure:
        plot.draw(figure)
        assert all(axes.get_ylim()[1] >= tallest for axes in figure.axes)


def test_what_can_not_be_shown_is_refused(make_run):
    with pytest.raises(InputError, match="no class 'foxx'; did you mean fox"):
        draw("margin-cdfs", [make_run("a")], {"classes": ["foxx"]})


@pytest.mark.parametrize("name", ["margin-histograms", "margin-cdfs"])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_one_to_ten_runs_are_drawn(make_run, tmp_path, name, count):
    folders = [make_run(f"r{i}", seed=i, lean=i / 10) for i in range(count)]
    svg = write_plot(draw(name, folders), name, tmp_path)[0].read_text()
    assert svg.count("seed") == (count if count > 1 else 0)
