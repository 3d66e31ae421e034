import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from longtail.errors import InputError
from longtail.papers import draw, write_plot
from tests.papers.conftest import COUNTS, made_up_logits


def matrix(lean):
    logits, targets = made_up_logits(0, lean)
    return 100 * confusion_matrix(targets, logits.argmax(1), normalize="true")


@pytest.fixture
def plot(make_run):
    return draw("confusions", [make_run("a", lean=0.6), make_run("b", "focal", lean=-0.3)])


def test_cells_are_shares_of_the_true_class_and_their_difference(plot):
    assert plot.table.columns == ("true_rank", "predicted_rank", "ce", "focal", "difference")
    for true, predicted, *values in plot.table.rows:
        before, after = matrix(0.6)[true - 1, predicted - 1], matrix(-0.3)[true - 1, predicted - 1]
        assert values == pytest.approx([before, after, after - before], abs=1e-6)
    assert len(plot.table.rows) == len(COUNTS) ** 2


def test_the_summary_says_what_moved(plot):
    difference = matrix(-0.3) - matrix(0.6)
    assert f"recognised {np.trace(difference) / 6:+.2f}" in plot.summary[0]
    assert f"rarer class {np.triu(difference, 1).sum() / 6:+.2f}" in plot.summary[0]
    assert f"fuller one {np.tril(difference, -1).sum() / 6:+.2f}" in plot.summary[0]


def test_the_change_between_groups_is_written_out(plot, tmp_path):
    svg = write_plot(plot, "x", tmp_path)[0].read_text()
    difference = matrix(-0.3) - matrix(0.6)
    many_to_few = difference[:2, 4:].sum(axis=1).mean()
    assert f">{many_to_few:+.1f}<".replace("-", "\N{MINUS SIGN}") in svg.replace("-", "\N{MINUS SIGN}")


def test_it_takes_two_runs(make_run):
    with pytest.raises(InputError, match="confusions takes 2 runs"):
        draw("confusions", [make_run("a")])


def test_training_images_too(trained, tmp_path):
    plot = draw("confusions", trained, {"part": "train"})
    assert plot.note.startswith("train images")
    write_plot(plot, "x", tmp_path)
