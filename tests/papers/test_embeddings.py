import numpy as np
import pytest
import torch

from longtail.config import recipes
from longtail.errors import InputError
from longtail.papers import draw, embeddings
from longtail.papers.runs import outputs_of, read_runs
from longtail.report.classes import Classes
from longtail.report.style import drawing
from longtail.run.fit import fit
from tests.papers.conftest import svg_of


@pytest.fixture(scope="module")
def maps(trained):
    return draw("tsne", trained, {"images_per_class": 6})


def test_the_same_images_of_each_class_are_laid_out_for_every_run(maps):
    for run in ("ce", "balanced-softmax"):
        rows = [row for row in maps.table.rows if row[0] == run]
        assert {row[1] for row in rows} == set("0123456789")
        assert max(sum(row[1] == name for row in rows) for name in "0123456789") == 6
    half = len(maps.table.rows) // 2
    assert maps.table.column("class")[:half] == maps.table.column("class")[half:]
    assert all(abs(value) < 1e4 for value in (*maps.table.column("x"), *maps.table.column("y")))


def test_the_same_seed_gives_the_same_layout(trained, maps):
    again = draw("tsne", trained, {"images_per_class": 6})
    assert again.table == maps.table
    assert draw("tsne", trained[:1], {"images_per_class": 6, "seed": 1}).table != maps.table


def test_near_images_stay_near(trained):
    """Two classes with distant embeddings do not mix on the map."""
    vectors = torch.cat([torch.randn(20, 5), torch.randn(20, 5) + 50])
    labels = torch.arange(2).repeat_interleave(20)
    places, found = embeddings._map(vectors, labels, seed=0)
    first, second = places[found == 0], places[found == 1]
    gap = abs(first.mean(0) - second.mean(0)).max()
    assert gap > 2 * max(first.std(0).max(), second.std(0).max())


def test_ten_classes_share_a_panel_and_more_are_split_by_group(maps):
    assert svg_of(maps).count(">many-shot<") == 0
    counts = torch.tensor([500 - 40 * i for i in range(12)])
    known = Classes.grouped(tuple(f"c{i}" for i in range(12)), counts)
    chosen = embeddings._chosen(known, None)
    groups = embeddings._by_group(chosen, known)
    assert {name: len(own) for name, own in groups.items()} == {"many-shot": 5, "medium-shot": 2}
    assert groups["many-shot"] == [0, 2, 4, 7, 9]  # spread over the ranks 0..9


def test_a_column_for_each_group_is_drawn(tmp_path):
    known = Classes.grouped(tuple(f"c{i}" for i in range(12)), torch.tensor([500] * 4 + [50] * 4 + [5] * 4))
    labels = torch.arange(12).repeat_interleave(3)
    layout = embeddings.Layout(torch.randn(36, 2).numpy(), labels.numpy())
    columns = embeddings._by_group(list(range(12)), known)
    with drawing(5) as figure:
        embeddings._draw_maps(figure, {"ce": layout, "elm": layout}, columns, known)
        figure.savefig(tmp_path / "x.png")
        assert [axes.get_title("left") for axes in figure.axes[:3]] == ["many-shot", "medium-shot", "few-shot"]
        drawn = sum(len(line.get_xdata()) for line in figure.axes[0].lines)
    assert drawn == 36  # its own classes in color, the others in gray


def test_what_can_not_be_laid_out_is_refused(trained):
    with pytest.raises(InputError, match="`images_per_class` must be an integer >= 1, got 0"):
        draw("tsne", trained, {"images_per_class": 0})
    with pytest.raises(InputError, match="needs at least 4 images, but the chosen classes have 1"):
        draw("tsne", trained[:1], {"images_per_class": 1, "classes": ["0"]})
    known = Classes.grouped(tuple(f"c{i}" for i in range(12)), torch.tensor([500] * 12))
    with pytest.raises(InputError, match="at most 10 classes, got 12"):
        embeddings._chosen(known, known.names)


@pytest.fixture(scope="module")
def dlsa(tmp_path_factory):
    changes = [{"training": {"epochs": 1}, "set": [("model.backbone.width", 4)]}]
    return fit(
        recipes.compose("digits-lt", "dlsa", changes=changes), tmp_path_factory.mktemp("x") / "dlsa", report=False
    ).folder


@pytest.fixture(scope="module")
def levels(dlsa):
    return draw("label-space", [dlsa])


def test_shares_and_clusters_are_those_of_the_head(levels, dlsa):
    (run,) = read_runs([dlsa]).values()
    found = outputs_of(run, "train")
    head = run.model().head
    level, (cluster,) = (values.numpy() for values in head.route(found.embeddings_ND))
    targets, counts = found.targets_N.numpy(), run.predictions().class_counts.numpy()
    shares = {row[1:3]: row[3] for row in levels.table.rows if row[0] == "share taken (%)"}
    frequent = np.argsort(-counts, kind="stable")[:2]
    name = f"{counts[frequent[0]]}-{counts[frequent[1]]}"
    own = np.isin(targets, frequent)
    assert shares[name, "level 1"] == pytest.approx(100 * (level[own] == 0).mean())
    assert shares[name, "left over"] == pytest.approx(100 * (level[own] == 1).mean())
    inside = [np.bincount(targets[cluster == k]) for k in np.unique(cluster)]
    expected = [(str(held.sum()), pytest.approx(100 * held.max() / held.sum(), rel=1e-5)) for held in inside]
    assert [row[1::2] for row in levels.table.rows if row[0] == "cluster purity (%)"] == expected


def test_levels_of_either_part_are_drawn(dlsa, levels):
    assert "images in the cluster" in svg_of(levels)
    assert draw("label-space", [dlsa], {"part": "test"}).note == "test images"


def test_a_run_without_filters_is_refused(trained):
    with pytest.raises(InputError, match="has no flow filters; give a run of the method dlsa"):
        draw("label-space", trained[:1])
    with pytest.raises(InputError, match="label-space takes 1 runs"):
        draw("label-space", trained)
