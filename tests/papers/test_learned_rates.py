import numpy as np
import pytest

from longtail.errors import InputError
from longtail.papers import draw, write_plot

RATES = [0.1, 0.3, 0.5, 0.7, 0.9, 0.95]


def test_rates_are_shown_fullest_class_first_with_their_variance(make_run):
    first = make_run("a", result={"chosen": {"sample_rates": RATES}})
    second = make_run("b", "focal", result={"chosen": {"sample_rates": [0.5] * 6}})
    plot = draw("learned-rates", [first, second], labels=["softmax", "balanced"])
    assert plot.table.columns == ("rank", "class", "training_images", "softmax", "balanced")
    assert plot.table.column("softmax") == RATES
    assert plot.table.column("balanced") == [0.5] * 6
    variance = np.var(RATES)
    assert plot.summary[0] == f"softmax: variance {variance:.4f}, from 0.100 (fullest) to 0.950 (rarest)"


def test_classes_in_another_order_are_sorted(make_run, monkeypatch):
    from longtail.papers.runs import FinishedRun
    from longtail.report.classes import Classes

    run = make_run("a", result={"chosen": {"sample_rates": RATES}})

    def upside_down(self):
        import torch

        return Classes.grouped(tuple("abcdef"), torch.tensor([1, 2, 3, 4, 5, 600]))

    monkeypatch.setattr(FinishedRun, "classes", property(upside_down))
    plot = draw("learned-rates", [run])
    assert plot.table.column("class") == list("fedcba")
    assert plot.table.column("ce") == RATES[::-1]


def test_a_run_without_rates_is_refused(make_run):
    with pytest.raises(InputError, match=r"has learnt no sample rates; .* --method balms"):
        draw("learned-rates", [make_run("a")])


@pytest.mark.parametrize("count", [1, 10])
def test_one_to_ten_runs_are_drawn(make_run, tmp_path, count):
    folders = [make_run(f"r{i}", seed=i, result={"chosen": {"sample_rates": RATES}}) for i in range(count)]
    text = write_plot(draw("learned-rates", folders), "x", tmp_path)[0].read_text()
    assert text.count("variance 0.09") == count
