from statistics import mean, stdev

import pytest

from longtail.errors import InputError
from longtail.papers import draw, write_plot
from longtail.papers.runs import read_runs


def test_bars_are_the_scores_of_the_runs(make_run):
    folders = [make_run("a"), make_run("b", "focal", seed=1, lean=0.0)]
    plot = draw("group-bars", folders)
    runs = read_runs(folders)
    for method, group, accuracy, deviation, seeds in plot.table.rows:
        run = runs[0] if method == "ce" else runs[1]
        expected = run.predictions.scores()
        members = run.per_class if group == "all" else run.per_class[run.classes.masks[group]]
        assert accuracy == pytest.approx(float(members.mean()))
        assert accuracy == pytest.approx(expected.balanced if group == "all" else getattr(expected, group))
        assert (deviation, seeds) == (None, 1)
    assert [row[1] for row in plot.table.rows] == ["all", "many", "medium", "few"] * 2


def test_seeds_are_averaged(make_run):
    folders = [make_run(f"s{seed}", seed=seed) for seed in range(3)]
    plot = draw("group-bars", [*folders, make_run("b", "focal")])
    few = [run.result["test"]["few"] for run in read_runs(folders)]
    row = next(row for row in plot.table.rows if row[:2] == ("ce", "few"))
    assert row[2:] == (pytest.approx(mean(few)), pytest.approx(stdev(few)), 3)
    assert "mean and standard deviation of 1 or 3 seeds" in plot.note


def test_a_group_without_a_class_is_left_out(make_run):
    groups = {"class_groups": {"kind": "fixed", "many": 1_000, "few": 20}}
    plot = draw("group-bars", [make_run("a", result=groups)])
    assert [row[1] for row in plot.table.rows] == ["all", "medium", "few"]


def test_twelve_methods_are_too_many(make_run):
    folders = [make_run(f"r{i}", settings=[("stages.0.training.epochs", i + 1)]) for i in range(12)]
    with pytest.raises(InputError, match="at most 10 runs apart, not 12"):
        draw("group-bars", folders)


def test_it_says_what_the_groups_are(make_run, tmp_path):
    plot = draw("group-bars", [make_run("a")])
    assert "few: fewer than 20 training images" in plot.summary[0]
    assert "few-shot" in write_plot(plot, "x", tmp_path)[0].read_text()
