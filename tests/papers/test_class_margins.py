import numpy as np
import pytest

from longtail.papers import draw, write_plot
from tests.papers.conftest import COUNTS, NAMES, made_up_logits


def test_each_class_has_its_mean_margin_fullest_first(make_run):
    logits, targets = made_up_logits(0, 0.4)
    plot = draw("class-margins", [make_run("a")])
    assert plot.table.columns == ("rank", "class", "training_images", "ce")
    assert plot.table.column("class") == list(NAMES)  # counts fall in this order
    assert plot.table.column("training_images") == list(COUNTS)
    for label, value in enumerate(plot.table.column("ce")):
        own = logits[targets == label]
        rivals = own.clone()
        rivals[:, label] = -np.inf
        assert value == pytest.approx(float((own[:, label] - rivals.amax(1)).mean()), rel=1e-5)


def test_the_summary_is_the_mean_over_the_classes_of_a_group(make_run):
    plot = draw("class-margins", [make_run("a")])
    few = np.mean(plot.table.column("ce")[4:])
    assert plot.summary[0].endswith(f"few {few:.2f}")


@pytest.mark.parametrize("count", [2, 10])
def test_many_runs_are_drawn(make_run, tmp_path, count):
    folders = [make_run(f"r{i}", seed=i) for i in range(count)]
    assert "mean logit margin" in write_plot(draw("class-margins", folders), "x", tmp_path)[0].read_text()


def test_training_images_too(trained):
    plot = draw("class-margins", trained, {"part": "train"})
    assert len(plot.table.rows) == 10
    assert plot.note == "train images"
