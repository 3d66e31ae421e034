import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from longtail.errors import InputError
from longtail.papers import distributions as module
from longtail.papers import draw
from longtail.papers.distributions import (
    BINS,
    cdf_table,
    chosen_labels,
    distributions,
    histogram_table,
    panel_title,
    summary_of,
)
from longtail.papers.runs import Outputs, first_of, outputs_of, read_runs
from longtail.report.classes import Classes
from longtail.report.style import drawing
from tests.papers.conftest import NAMES, made_up_logits, svg_of

CLASSES = Classes.grouped(
    ("ant", "bee", "cat", "dog", "eel", "fox", "gnu"), torch.tensor([9, 300, 40, 500, 60, 4, 200])
)
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
    lines = summary_of(VALUES, "margin")
    assert lines[0] == "cat: ce margin 1.67, standard deviation 2.08 (3 images)"
    assert lines[2] == "dog: ce margin -8.00 (1 image)"
    assert len(lines) == 4


def test_a_class_without_images_is_refused():
    with pytest.raises(InputError, match="cat has too few images; choose other `classes`"):
        distributions({"cat\nx": {"ce": torch.empty(0)}}, "margin", "margin", cumulative=True)


def test_by_default_the_middle_class_of_each_group_is_taken():
    # many: dog 500, bee 300, gnu 200; medium: eel 60, cat 40; few: ant 9, fox 4
    assert chosen_labels(None, CLASSES) == [1, 2, 5]


def test_a_group_without_a_class_gets_no_panel():
    classes = Classes.grouped(("ant", "bee"), torch.tensor([500, 3]))
    assert chosen_labels(None, classes) == [0, 1]


def test_named_classes_keep_their_order():
    assert chosen_labels(["gnu", "ant"], CLASSES) == [6, 0]


def test_a_figure_has_one_to_six_panels():
    with pytest.raises(InputError, match="1 to 6 names, got 7"):
        chosen_labels(CLASSES.names, CLASSES)
    with pytest.raises(InputError, match="1 to 6 names, got 0"):
        chosen_labels([], CLASSES)


def test_a_panel_names_the_class_its_group_and_its_images():
    assert panel_title(3, CLASSES) == "dog\nmany, 500 images"
    long = Classes.grouped(("a" * 40, "b"), torch.tensor([5, 4]))
    assert len(panel_title(0, long).splitlines()[0]) == 22


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


def test_training_images_can_be_drawn(trained):
    plot = draw("margin-cdfs", trained, {"part": "train", "classes": ["0", "9"]})
    images = [row for row in plot.table.rows if row[:2] == ("9", "ce")]
    assert 1 <= len(images) < 20  # digits-lt has few nines to train on
    assert plot.note == "train images"


def test_every_panel_is_whole_in_the_histogram(make_run):
    """Panels share one vertical axis, which must reach above the tallest bar of any."""
    sharp = torch.full((120, 6), -20.0)
    sharp[torch.arange(120), torch.arange(6).repeat_interleave(20)] = 20.0
    plot = draw("margin-histograms", [make_run("a"), make_run("b", "focal", logits=sharp)])
    tallest = max(plot.table.column("share"))
    with drawing(plot.height) as figure:
        plot.draw(figure)
        assert all(axes.get_ylim()[1] >= tallest for axes in figure.axes)


def test_an_unknown_class_is_refused(make_run):
    with pytest.raises(InputError, match="no class 'foxx'; did you mean fox"):
        draw("margin-cdfs", [make_run("a")], {"classes": ["foxx"]})


@pytest.mark.parametrize("name", ["margin-histograms", "margin-cdfs"])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_one_to_ten_runs_are_drawn(make_run, name, count):
    folders = [make_run(f"r{i}", seed=i, lean=i / 10) for i in range(count)]
    svg = svg_of(draw(name, folders))
    assert svg.count("seed") == (count if count > 1 else 0)


def test_the_summary_is_of_the_farthest_image_of_the_class_over_the_largest_norm(trained):
    plot = draw("intra-class-distances", trained, {"classes": ["3", "8"]})
    found = outputs_of(first_of(read_runs(trained)), "train")
    embeddings = found.embeddings_ND.double().numpy()
    own = embeddings[found.targets_N.numpy() == 8]
    farthest = cdist(own, own).max(axis=1) / np.linalg.norm(embeddings, axis=1).max()
    line = next(line for line in plot.summary if line.startswith("8: ce"))
    assert f"distance {farthest.mean():.2f}" in line
    assert f"({len(own)} images)" in line
    shares = [row[4] for row in plot.table.rows if row[:2] == ("8", "ce")]
    edges = [row[2] for row in plot.table.rows if row[:2] == ("8", "ce")]
    assert sum(shares) == pytest.approx(1)
    mean_of_bins = np.dot(shares, edges) + (edges[1] - edges[0]) / 2
    assert mean_of_bins == pytest.approx(farthest.mean(), abs=edges[1] - edges[0])


def test_distances_of_test_images(trained):
    plot = draw("intra-class-distances", trained, {"part": "test"})
    assert plot.note == "test images"
    assert "largest distance" in svg_of(plot)


def test_a_class_of_one_image_has_no_distance(trained, monkeypatch):
    def without_nines(run, part):
        found = outputs_of(run, part)
        kept = (found.targets_N != 9).nonzero().flatten()
        kept = np.append(kept, int((found.targets_N == 9).nonzero()[0]))
        return Outputs(*(values[kept] for values in found))

    monkeypatch.setattr(module, "outputs_of", without_nines)
    with pytest.raises(InputError, match="9 has too few images"):
        draw("intra-class-distances", trained, {"classes": ["9"]})
