import pytest

from longtail.errors import InputError
from longtail.papers import draw
from longtail.papers.runs import read_runs
from longtail.papers.sweeps import _value_axis
from longtail.report.style import drawing
from tests.papers.conftest import svg_of

LAMBDA = "stages.0.embedding_loss.weight"
ALPHA = "stages.0.embedding_loss.alpha_scale"
TAU = "stages.0.transfer.tau"


def elm(make_run, name, weight, alpha=1.0, seed=0):
    return make_run(name, "elm", seed=seed, lean=weight * 10, settings=[(LAMBDA, weight), (ALPHA, alpha)])


def test_a_curve_for_each_alpha_through_all_lambdas(make_run):
    folders = [elm(make_run, f"r{w}-{a}", w, a) for w in (0.1, 0.001, 0.01) for a in (1.0, 2.0)]
    plot = draw("lambda-sweep", folders)
    balanced = {run.folder.name: run.result["test"]["balanced"] for run in read_runs(folders).values()}
    points = {(row[0], row[1]): row[2] for row in plot.table.rows}
    assert points == {
        (f"alpha_scale {a}", w): pytest.approx(balanced[f"r{w}-{a}"]) for w in (0.1, 0.001, 0.01) for a in (1.0, 2.0)
    }
    first = [row[1] for row in plot.table.rows if row[0] == "alpha_scale 1.0"]
    assert first == [0.001, 0.01, 0.1]


def test_seeds_are_averaged_and_another_metric_can_be_asked_for(make_run):
    folders = [elm(make_run, f"r{w}-{s}", w, seed=s) for w in (0.01, 0.1) for s in (0, 1)]
    plot = draw("lambda-sweep", folders, {"metric": "few"})
    few = [run.result["test"]["few"] for run in read_runs(folders).values()]
    assert [row[2] for row in plot.table.rows] == [
        pytest.approx((few[0] + few[1]) / 2),
        pytest.approx(sum(few[2:]) / 2),
    ]
    assert [row[4] for row in plot.table.rows] == [2, 2]
    assert plot.table.column("curve") == ["PullLoss"] * 2
    assert "up to 2 seeds" in plot.note


def test_a_lambda_that_was_not_given_is_the_default_of_the_loss(make_run):
    plot = draw("lambda-sweep", [make_run("a", "elm", settings=[(ALPHA, 1.0)]), elm(make_run, "b", 0.5)])
    assert plot.table.column("value") == [0.01, 0.5]


def test_methods_without_the_setting_are_level_lines(make_run):
    folders = [elm(make_run, "a", 0.01), elm(make_run, "b", 0.1), make_run("c"), make_run("d", seed=1)]
    plot = draw("lambda-sweep", folders)
    assert plot.table.rows[-1][:2] == ("ce", None)
    assert plot.table.rows[-1][4] == 2
    svg = svg_of(plot)
    assert "lambda" in svg
    assert "0.01" in svg


def test_tau_online_against_another_pairing(make_run):
    def smart(name, tau, pairing):
        return make_run(name, "smart", settings=[(TAU, tau), ("stages.0.transfer.pairing", pairing)])

    folders = [smart(f"r{t}-{p}", t, p) for t in (1.0, 10.0, 100.0) for p in ("uniform", "covariance")]
    plot = draw("tau-sweep", folders)
    assert {row[:2] for row in plot.table.rows} == {
        (f"pairing {p}", t) for t in (1.0, 10.0, 100.0) for p in ("uniform", "covariance")
    }


def test_tau_that_was_not_given_is_the_default_of_the_transfer(make_run):
    folders = [make_run("a", "smart"), make_run("b", "smart", settings=[(TAU, 5.0)])]
    assert draw("tau-sweep", folders).table.column("value") == [5.0, 10.0]


def test_runs_without_anything_to_sweep_are_refused(make_run):
    with pytest.raises(InputError, match=r"none of the runs has the setting embedding_loss.weight; .*method elm"):
        draw("lambda-sweep", [make_run("a"), make_run("b", "focal")])


def test_an_empty_group_is_refused(make_run):
    run = elm(make_run, "a", 0.01)
    empty = run / "result.json"
    few = read_runs([run])["elm"].result["test"]["few"]
    empty.write_text(empty.read_text().replace(f'"few": {few}', '"few": null'))
    with pytest.raises(InputError, match="no class in the group few"):
        draw("lambda-sweep", [run, elm(make_run, "b", 0.1)], {"metric": "few"})


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.001, 0.01, 0.1], ["0.001", "0.01", "0.1"]),
        ([0.0, 1.0, 10.0, 100.0], ["0", "1", "10", "100"]),
        ([1.0, 2.0, 5.0], None),
        ([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5], ["0.001", "0.01", "0.1"]),
    ],
)
def test_ticks_stand_at_values_tried(values, shown):
    with drawing(2) as figure:
        axes = figure.subplots()
        axes.plot(values, values)
        _value_axis(axes, values)
        figure.draw_without_rendering()
        ticks = [tick.get_text() for tick in axes.get_xticklabels()]
        assert axes.get_xscale() == ("linear" if shown is None else "symlog" if values[0] == 0 else "log")
    assert shown is None or ticks == shown


def test_curves_that_differ_in_the_loss_say_so(make_run):
    folders = [make_run(f"{m}{t}", m, settings=[(TAU, t)]) for m in ("smart", "bsce-smart") for t in (1.0, 10.0)]
    curves = set(draw("tau-sweep", folders).table.column("curve"))
    assert curves == {"loss CrossEntropy", "loss BalancedSoftmax"}


def test_more_curves_than_a_reader_can_tell_apart_are_refused(make_run):
    folders = [elm(make_run, f"r{a}", 0.01, alpha=float(a)) for a in range(1, 12)]
    with pytest.raises(InputError, match="at most 10 runs, got 11"):
        draw("lambda-sweep", folders)
