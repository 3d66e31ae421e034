"""The toy of ELM agrees with the paper (Sec. 2.3, Fig. 1); with pairs of the batch, it neglects the tail."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from longtail.errors import InputError
from longtail.papers import draw, two_moons
from tests.papers.conftest import svg_of


@pytest.fixture(scope="module")
def plot():
    return draw("two-moons", options={"seeds": 1, "epochs": 40})


def mean_of(plot, method, column):
    rows = zip(plot.table.column("method"), plot.table.column(column), strict=True)
    return np.mean([value for name, value in rows if name == method])


def test_five_percent_of_the_points_are_in_the_tail():
    points, targets = two_moons.moons(two_moons.HEAD, two_moons.TAIL, seed=0)
    assert points.shape == (2_000, 2)
    assert int(targets.sum()) == 100


def test_with_balanced_pairs_the_tail_is_more_compact_than_with_logit_margins_alone(plot):
    for column in ("tail", "tail_scaled", "tail_ratio"):
        assert mean_of(plot, "ELM, balanced pairs", column) < 0.7 * mean_of(plot, "LogAdj", column)


def test_pairs_of_the_batch_tighten_the_head_more_than_the_tail(plot):
    """Pairs of the batch neglect the rare class, which is why the figure has two panels of ELM."""
    logadj, batch, balanced = two_moons.METHODS
    assert mean_of(plot, batch, "head_ratio") < 0.5 * mean_of(plot, logadj, "head_ratio")
    assert mean_of(plot, balanced, "tail_ratio") < mean_of(plot, batch, "tail_ratio")


def test_every_method_still_classifies(plot):
    assert min(plot.table.column("accuracy")) > 97


def test_distances_are_those_of_the_embeddings():
    points, targets = two_moons.moons(60, 20, seed=1)
    net = two_moons.train(points, targets, None, seed=1, epochs=2)
    trial = two_moons._measure("LogAdj", 1, net, points, targets)
    with torch.no_grad():
        embeddings = net(points)[0].double().numpy()
    head, tail = embeddings[targets == 0], embeddings[targets == 1]
    between = np.linalg.norm(head.mean(0) - tail.mean(0))
    assert (len(head), len(tail)) == (60, 20)
    assert trial.head == pytest.approx(pdist(head).mean(), rel=1e-5)
    assert trial.between == pytest.approx(between, rel=1e-5)
    assert trial.tail_ratio == pytest.approx(pdist(tail).mean() / between, rel=1e-5)
    largest = np.linalg.norm(embeddings, axis=1).max()
    assert trial.tail_scaled == pytest.approx(pdist(tail).mean() / largest, rel=1e-5)


def test_the_same_seed_gives_the_same_net_and_methods_start_alike():
    points, targets = two_moons.moons(90, 10, seed=0)

    def weights(pairs, epochs):
        net = two_moons.train(points, targets, pairs, seed=3, epochs=epochs)
        return torch.cat([parameter.flatten() for parameter in net.parameters()])

    assert torch.equal(weights("balanced", 1), weights("balanced", 1))
    assert torch.equal(weights(None, 0), weights("batch", 0))
    assert not torch.equal(weights(None, 1), weights("batch", 1))


def test_a_balanced_batch_holds_both_classes_alike():
    targets = torch.tensor([0] * 1_900 + [1] * 100)
    first, second = two_moons._batches(targets, seed=0, epoch=0, balanced=True)
    assert len(first) == len(second) == 15
    assert all(int(targets[rows].sum()) == 64 for rows in second)


def test_the_figure_and_its_summary(plot):
    assert "balanced pairs" in svg_of(plot)
    assert len(plot.summary) == 3
    assert "(n = 1)" in plot.summary[0]


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match="integers >= 1, got 0 and 5"):
        draw("two-moons", options={"seeds": 0, "epochs": 5})
    with pytest.raises(InputError, match="weight"):
        draw("two-moons", options={"seeds": 1, "epochs": 1, "weight": -1.0})
