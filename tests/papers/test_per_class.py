from statistics import mean, stdev

import numpy as np
import pytest
import torch

from longtail.errors import InputError
from longtail.papers import draw, per_class
from longtail.papers.runs import classes_of, read_runs
from longtail.report.classes import Classes
from tests.papers.conftest import COUNTS, NAMES, made_up_logits, svg_of

RATES = [0.1, 0.3, 0.5, 0.7, 0.9, 0.95]


def test_bars_are_the_scores_of_the_runs(make_run):
    folders = [make_run("a"), make_run("b", "focal", seed=1, lean=0.0)]
    plot = draw("group-bars", folders)
    runs = read_runs(folders)
    for method, group, accuracy, deviation, seeds in plot.table.rows:
        expected = runs[method].predictions().scores()
        per_class = torch.tensor(runs[method].result["test"]["per_class"])
        members = per_class if group == "all" else per_class[classes_of(runs[method]).masks[group]]
        assert accuracy == pytest.approx(float(members.mean()))
        assert accuracy == pytest.approx(expected.balanced if group == "all" else getattr(expected, group))
        assert (deviation, seeds) == (None, 1)
    assert [row[1] for row in plot.table.rows] == ["all", "many", "medium", "few"] * 2


def test_seeds_are_averaged(make_run):
    folders = [make_run(f"s{seed}", seed=seed) for seed in range(3)]
    plot = draw("group-bars", [*folders, make_run("b", "focal")])
    few = [run.result["test"]["few"] for run in read_runs(folders).values()]
    row = next(row for row in plot.table.rows if row[:2] == ("ce", "few"))
    assert row[2:] == (pytest.approx(mean(few)), pytest.approx(stdev(few)), 3)
    assert "mean and standard deviation of 1 or 3 seeds" in plot.note


def test_a_group_without_a_class_is_left_out(make_run):
    groups = {"class_groups": {"kind": "fixed", "many": 1_000, "few": 20}}
    plot = draw("group-bars", [make_run("a", result=groups)])
    assert [row[1] for row in plot.table.rows] == ["all", "medium", "few"]


def test_twelve_methods_are_too_many(make_run):
    folders = [make_run(f"r{i}", settings=[("stages.0.training.epochs", i + 1)]) for i in range(12)]
    with pytest.raises(InputError, match="at most 10 runs, got 12"):
        draw("group-bars", folders)


def test_the_summary_describes_the_groups(make_run):
    plot = draw("group-bars", [make_run("a")])
    assert "few: fewer than 20 training images" in plot.summary[0]
    assert "few-shot" in svg_of(plot)


def test_each_class_has_its_mean_margin_most_frequent_first(make_run):
    logits, targets = made_up_logits(0, 0.4)
    plot = draw("class-margins", [make_run("a")])
    assert plot.table.columns == ("rank", "class", "training_images", "ce")
    assert plot.table.column("class") == list(NAMES)  # in descending order of counts
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
def test_margins_of_many_runs_are_drawn(make_run, count):
    folders = [make_run(f"r{i}", seed=i) for i in range(count)]
    assert "mean logit margin" in svg_of(draw("class-margins", folders))


def test_margins_of_training_images(trained):
    plot = draw("class-margins", trained, {"part": "train"})
    assert len(plot.table.rows) == 10
    assert plot.note == "train images"


def test_rates_are_shown_most_frequent_class_first_with_their_variance(make_run):
    first = make_run("a", result={"chosen": {"sample_rates": RATES}})
    second = make_run("b", "focal", result={"chosen": {"sample_rates": [0.5] * 6}})
    plot = draw("learned-rates", [first, second], labels=["softmax", "balanced"])
    assert plot.table.columns == ("rank", "class", "training_images", "softmax", "balanced")
    assert plot.table.column("softmax") == RATES
    assert plot.table.column("balanced") == [0.5] * 6
    variance = np.var(RATES)
    assert (
        plot.summary[0]
        == f"softmax: variance {variance:.4f}, from 0.100 (most frequent class) to 0.950 (least frequent)"
    )


def test_classes_in_another_order_are_sorted(make_run, monkeypatch):
    run = make_run("a", result={"chosen": {"sample_rates": RATES}})

    def upside_down(run):
        return Classes.grouped(tuple("abcdef"), torch.tensor([1, 2, 3, 4, 5, 600]))

    monkeypatch.setattr(per_class, "classes_of", upside_down)
    plot = draw("learned-rates", [run])
    assert plot.table.column("class") == list("fedcba")
    assert plot.table.column("ce") == RATES[::-1]


def test_a_run_without_rates_is_refused(make_run):
    with pytest.raises(InputError, match=r"has no learned sample rates; .*method balms"):
        draw("learned-rates", [make_run("a")])


@pytest.mark.parametrize("count", [1, 10])
def test_rates_of_one_to_ten_runs_are_drawn(make_run, count):
    folders = [make_run(f"r{i}", seed=i, result={"chosen": {"sample_rates": RATES}}) for i in range(count)]
    text = svg_of(draw("learned-rates", folders))
    assert text.count("variance 0.09") == count
