import pytest
import torch

from longtail.errors import InputError
from longtail.papers import draw, tsne, write_plot
from longtail.report.classes import Classes


@pytest.fixture(scope="module")
def plot(trained):
    return draw("tsne", trained, {"images_per_class": 6})


def test_the_same_images_of_each_class_are_laid_out_for_every_run(plot):
    for run in ("ce", "balanced-softmax"):
        rows = [row for row in plot.table.rows if row[0] == run]
        assert {row[1] for row in rows} == set("0123456789")
        assert max(sum(row[1] == name for row in rows) for name in "0123456789") == 6
    half = len(plot.table.rows) // 2
    assert plot.table.column("class")[:half] == plot.table.column("class")[half:]
    assert all(abs(value) < 1e4 for value in (*plot.table.column("x"), *plot.table.column("y")))


def test_the_same_seed_gives_the_same_layout(trained, plot):
    again = draw("tsne", trained, {"images_per_class": 6})
    assert again.table == plot.table
    assert draw("tsne", trained[:1], {"images_per_class": 6, "seed": 1}).table != plot.table


def test_near_images_stay_near(trained):
    """A class far from another in the embedding is not mixed with it on the plane."""
    embeddings = torch.cat([torch.randn(20, 5), torch.randn(20, 5) + 50])
    labels = torch.arange(2).repeat_interleave(20)
    places, found = tsne._laid_out(embeddings, labels, seed=0)
    first, second = places[found == 0], places[found == 1]
    gap = abs(first.mean(0) - second.mean(0)).max()
    assert gap > 2 * max(first.std(0).max(), second.std(0).max())


def test_ten_classes_share_a_panel_and_more_are_split_by_group(plot, tmp_path):
    assert write_plot(plot, "x", tmp_path)[0].read_text().count(">many-shot<") == 0
    counts = torch.tensor([500 - 40 * i for i in range(12)])
    known = Classes.grouped(tuple(f"c{i}" for i in range(12)), counts)
    chosen = tsne._chosen(known, None)
    groups = tsne._by_group(chosen, known)
    assert {name: len(own) for name, own in groups.items()} == {"many-shot": 5, "medium-shot": 2}
    assert groups["many-shot"] == [0, 2, 4, 7, 9]  # spread over the ranks 0..9


def test_a_column_for_each_group_is_drawn(tmp_path):
    from longtail.report.style import drawing

    known = Classes.grouped(tuple(f"c{i}" for i in range(12)), torch.tensor([500] * 4 + [50] * 4 + [5] * 4))
    labels = torch.arange(12).repeat_interleave(3)
    layout = tsne.Layout(torch.randn(36, 2).numpy(), labels.numpy())
    columns = tsne._by_group(list(range(12)), known)
    with drawing(5) as figure:
        tsne._draw(figure, {"ce": layout, "elm": layout}, columns, known)
        figure.savefig(tmp_path / "x.png")
        assert [axes.get_title("left") for axes in figure.axes[:3]] == ["many-shot", "medium-shot", "few-shot"]
        drawn = sum(len(line.get_xdata()) for line in figure.axes[0].lines)
    assert drawn == 36  # its own classes in colour, the others in grey


def test_what_can_not_be_laid_out_is_refused(trained):
    with pytest.raises(InputError, match="--images-per-class must be at least 1, not 0"):
        draw("tsne", trained, {"images_per_class": 0})
    with pytest.raises(InputError, match="needs at least 4 images, but the chosen classes have 1"):
        draw("tsne", trained[:1], {"images_per_class": 1, "classes": ["0"]})
    known = Classes.grouped(tuple(f"c{i}" for i in range(12)), torch.tensor([500] * 12))
    with pytest.raises(InputError, match="at most 10 classes apart, not 12"):
        tsne._chosen(known, known.names)
