import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from sklearn.metrics.pairwise import cosine_similarity

from longtail.errors import InputError
from longtail.papers import confusions, draw
from longtail.papers.runs import classes_of, first_of, outputs_of, read_runs
from longtail.report.classes import Classes
from tests.papers.conftest import COUNTS, made_up_logits, svg_of


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


def test_the_summary_has_the_changes(plot):
    difference = matrix(-0.3) - matrix(0.6)
    assert f"correct {np.trace(difference) / 6:+.2f}" in plot.summary[0]
    assert f"less frequent class {np.triu(difference, 1).sum() / 6:+.2f}" in plot.summary[0]
    assert f"more frequent class {np.tril(difference, -1).sum() / 6:+.2f}" in plot.summary[0]


def test_the_change_between_groups_is_drawn_as_numbers(plot):
    svg = svg_of(plot)
    difference = matrix(-0.3) - matrix(0.6)
    many_to_few = difference[:2, 4:].sum(axis=1).mean()
    assert f">{many_to_few:+.1f}<".replace("-", "\N{MINUS SIGN}") in svg.replace("-", "\N{MINUS SIGN}")


def test_it_takes_two_runs(make_run):
    with pytest.raises(InputError, match="confusions takes 2 runs"):
        draw("confusions", [make_run("a")])


def test_confusion_of_training_images(trained):
    plot = draw("confusions", trained, {"part": "train"})
    assert plot.note.startswith("train images")
    svg_of(plot)


def test_shares_among_the_chosen_classes_and_all_others(make_run):
    plot = draw("tail-confusion", [make_run("a", lean=0.6)], {"tail": "fox", "heads": ["bee", "ant"]})
    logits, targets = made_up_logits(0, 0.6)
    names = {"fox": 5, "bee": 1, "ant": 0}
    for run, true, predicted, share in plot.table.rows:
        own = logits[targets == names[true]].argmax(1)
        hits = own == names[predicted] if predicted in names else ~torch.isin(own, torch.tensor([5, 1, 0]))
        assert run == "ce"
        assert share == pytest.approx(100 * float(hits.float().mean()))
    assert [row[1] for row in plot.table.rows[::4]] == ["fox", "bee", "ant"]


def test_a_class_without_images_has_no_shares():
    assert np.isnan(confusions.shares_among(torch.tensor([0]), torch.tensor([0]), [1, 0])[0]).all()


def test_the_class_of_the_paper_is_taken_where_the_data_have_it():
    """Figure 3 of SMART: "train" and the ten classes of highest Lin similarity (names of CIFAR-100)."""

    classes = Classes.grouped(("apple", *reversed(confusions.TRAIN)), torch.arange(500, 500 - 12 * 40, -40))
    names = [classes.names[label] for label in confusions._chosen(None, classes, None, None)]
    assert names[:3] == ["train", "bus", "bicycle"]
    assert len(names) == 11


def test_by_default_the_least_frequent_class_and_the_nearest_more_frequent_ones(trained):
    plot = draw("tail-confusion", trained)
    run = first_of(read_runs(trained))
    found = outputs_of(run, "train")
    means = np.stack([found.embeddings_ND[found.targets_N == label].numpy().mean(0) for label in range(10)])
    tail = int(classes_of(run).order[-1])
    similar = cosine_similarity(means)[tail]
    order = sorted((label for label in range(10) if label != tail), key=lambda label: -similar[label])
    shown = list(dict.fromkeys(plot.table.column("true_class")))
    assert shown == [str(tail), *map(str, order)]


def test_many_shot_classes_are_the_heads_where_there_are_enough():
    counts = torch.tensor([5, *[300] * 10, *[50] * 5])
    embeddings = torch.eye(16)
    embeddings[:, 0] = torch.linspace(1, 2, 16)  # the medium-shot classes are the nearest
    heads = confusions.nearest_heads(embeddings, torch.arange(16), 0, counts)
    assert sorted(heads) == list(range(1, 11))
    assert heads == list(range(10, 0, -1))


def test_what_is_no_head_is_refused(make_run):
    with pytest.raises(InputError, match="no class has more training images than the tail class"):
        confusions.nearest_heads(torch.eye(2), torch.arange(2), 0, torch.tensor([9, 3]))
    with pytest.raises(InputError, match="no class 'fax'; did you mean fox"):
        draw("tail-confusion", [make_run("a")], {"tail": "fax"})
    with pytest.raises(InputError, match="each class can be given once"):
        draw("tail-confusion", [make_run("b")], {"tail": "fox", "heads": ["fox"]})
    with pytest.raises(InputError, match="must name at least one head class"):
        draw("tail-confusion", [make_run("c")], {"tail": "fox", "heads": []})


@pytest.mark.parametrize("count", [1, 2, 10])
def test_the_tail_of_one_to_ten_runs_is_drawn(make_run, count):
    folders = [make_run(f"r{i}", seed=i) for i in range(count)]
    plot = draw("tail-confusion", folders, {"tail": "fox", "heads": ["bee", "ant"]})
    assert len(plot.summary) == count
    assert "fox  0" in svg_of(plot)
