import numpy as np
import pytest
import torch

from longtail.config import recipes
from longtail.errors import InputError
from longtail.papers import draw, write_plot
from longtail.papers.runs import read_runs
from longtail.run.fit import fit
from longtail.run.run import Run


@pytest.fixture(scope="module")
def dlsa(tmp_path_factory):
    changes = [{"training": {"epochs": 1}, "set": [("model.backbone.width", 4)]}]
    return fit(recipes.compose("digits-lt", "dlsa", changes=changes), tmp_path_factory.mktemp("x") / "dlsa").folder


@pytest.fixture(scope="module")
def plot(dlsa):
    return draw("label-space", [dlsa])


def test_shares_and_clusters_are_those_of_the_head(plot, dlsa):
    (run,) = read_runs([dlsa])
    found = run.outputs("train")
    head = Run(dlsa).trained(torch.device("cpu")).model.head
    level, (cluster,) = (values.numpy() for values in head.route(found.embeddings_ND))
    targets, counts = found.targets_N.numpy(), run.predictions.class_counts.numpy()
    shares = {row[1:3]: row[3] for row in plot.table.rows if row[0] == "share taken (%)"}
    fullest = np.argsort(-counts, kind="stable")[:2]
    name = f"{counts[fullest[0]]}-{counts[fullest[1]]}"
    own = np.isin(targets, fullest)
    assert shares[name, "level 1"] == pytest.approx(100 * (level[own] == 0).mean())
    assert shares[name, "left over"] == pytest.approx(100 * (level[own] == 1).mean())
    inside = [np.bincount(targets[cluster == k]) for k in np.unique(cluster)]
    expected = [(str(held.sum()), pytest.approx(100 * held.max() / held.sum(), rel=1e-5)) for held in inside]
    assert [row[1::2] for row in plot.table.rows if row[0] == "cluster purity (%)"] == expected


def test_it_draws_either_part(dlsa, plot, tmp_path):
    assert "images in the cluster" in write_plot(plot, "x", tmp_path)[0].read_text()
    assert draw("label-space", [dlsa], {"part": "test"}).note == "test images"


def test_a_run_without_filters_is_refused(trained):
    with pytest.raises(InputError, match=r"has no flow filters; give a run of longtail train --method dlsa"):
        draw("label-space", trained[:1])
    with pytest.raises(InputError, match="label-space takes 1 runs"):
        draw("label-space", trained)
