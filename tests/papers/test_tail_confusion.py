import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from longtail.errors import InputError
from longtail.papers import draw, tail_confusion, write_plot
from longtail.papers.runs import read_runs
from longtail.report.classes import Classes
from tests.papers.conftest import made_up_logits


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
    assert np.isnan(tail_confusion.shares_among(torch.tensor([0]), torch.tensor([0]), [1, 0])[0]).all()


def test_the_class_of_the_paper_is_taken_where_the_data_have_it():
    """Figure 3 of SMART: train against the ten classes of most Lin similarity (CIFAR-100's names)."""

    class Run:
        classes = Classes.grouped(("apple", *reversed(tail_confusion.TRAIN)), torch.arange(500, 500 - 12 * 40, -40))

    names = [Run.classes.names[label] for label in tail_confusion._chosen(Run, None, None)]
    assert names[:3] == ["train", "bus", "bicycle"]
    assert len(names) == 11


def test_by_default_the_rarest_class_and_the_nearest_fuller_ones(trained):
    plot = draw("tail-confusion", trained)
    (run, *_) = read_runs(trained)
    found = run.outputs("train")
    means = np.stack([found.embeddings_ND[found.targets_N == label].numpy().mean(0) for label in range(10)])
    tail = int(run.classes.order[-1])
    similar = cosine_similarity(means)[tail]
    order = sorted((label for label in range(10) if label != tail), key=lambda label: -similar[label])
    shown = list(dict.fromkeys(plot.table.column("true_class")))
    assert shown == [str(tail), *map(str, order)]


def test_many_shot_classes_are_the_heads_where_there_are_enough():
    counts = torch.tensor([5, *[300] * 10, *[50] * 5])
    embeddings = torch.eye(16)
    embeddings[:, 0] = torch.linspace(1, 2, 16)  # the medium-shot classes are the nearest
    heads = tail_confusion.nearest_heads(embeddings, torch.arange(16), 0, counts)
    assert sorted(heads) == list(range(1, 11))
    assert heads == list(range(10, 0, -1))


def test_what_is_no_head_is_refused(make_run):
    with pytest.raises(InputError, match="no class has more training images than the tail class"):
        tail_confusion.nearest_heads(torch.eye(2), torch.arange(2), 0, torch.tensor([9, 3]))
    with pytest.raises(InputError, match="no class 'fax'; did you mean fox"):
        draw("tail-confusion", [make_run("a")], {"tail": "fax"})
    with pytest.raises(InputError, match="each class can be given once"):
        draw("tail-confusion", [make_run("b")], {"tail": "fox", "heads": ["fox"]})
    with pytest.raises(InputError, match="names of one or more head classes"):
        draw("tail-confusion", [make_run("c")], {"tail": "fox", "heads": []})


@pytest.mark.parametrize("count", [1, 2, 10])
def test_one_to_ten_runs_are_drawn(make_run, tmp_path, count):
    folders = [make_run(f"r{i}", seed=i) for i in range(count)]
    plot = draw("tail-confusion", folders, {"tail": "fox", "heads": ["bee", "ant"]})
    assert len(plot.summary) == count
    assert "fox  0" in write_plot(plot, "x", tmp_path)[0].read_text()
