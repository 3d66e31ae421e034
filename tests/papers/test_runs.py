import json
import re
import shutil

import pytest
import torch

from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.papers.runs import (
    by_seed,
    check_comparable,
    classes_of,
    labels_of,
    logits_of,
    note_of,
    outputs_of,
    read_runs,
)
from longtail.report.classes import Classes


def changed(folder, **facts):
    """Return the same run with other facts in its result."""
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, **facts}))
    return folder


def test_runs_are_called_by_method_then_seed_then_folder(make_run):
    folders = [
        make_run("a"),
        make_run("b", "balanced-softmax", seed=0),
        make_run("c", "balanced-softmax", seed=1),
        make_run("d", "focal"),
        make_run("e", "focal", settings=[("stages.0.training.epochs", 2)]),
    ]
    assert list(read_runs(folders)) == [
        "ce",
        "balanced-softmax, seed 0",
        "balanced-softmax, seed 1",
        "focal (d)",
        "focal (e)",
    ]
    assert list(read_runs(folders[:2], ["one", "two"])) == ["one", "two"]


def test_classes_are_in_the_groups_of_the_scores(make_run):
    (run,) = read_runs([make_run("a")]).values()
    assert classes_of(run).group_names == ("many", "many", "medium", "medium", "few", "few")
    other = {"class_groups": {"kind": "quantile", "many": 100, "few": 20}}
    (run,) = read_runs([make_run("b", result=other)]).values()
    assert "third" in classes_of(run).limits["many"]


def test_class_names_give_labels_and_bad_names_are_refused():
    classes = Classes.grouped(("ant", "bee", "gnu"), torch.tensor([9, 300, 200]))
    assert labels_of(["gnu", "ant"], classes) == [2, 0]
    with pytest.raises(InputError, match="there is no class 'beee'; did you mean bee"):
        labels_of(["beee"], classes)
    with pytest.raises(InputError, match="each class can be given once"):
        labels_of(["bee", "bee"], classes)


def test_bad_folders_are_refused(make_run, tmp_path):
    run = make_run("a")
    with pytest.raises(InputError, match="holds no run"):
        read_runs([tmp_path / "none"])
    with pytest.raises(InputError, match="is given twice"):
        read_runs([run, run.parent / "." / "a"])
    with pytest.raises(InputError, match="2 different names, one for each run"):
        read_runs([run, make_run("b")], ["same", "same"])
    with pytest.raises(InputError, match="1 different names, one for each run"):
        read_runs([run], ["one", "two"])
    (run / "result.json").write_text('{"method": "ce"}')
    with pytest.raises(InputError, match="lacks recipe, seed"):
        read_runs([run])
    (run / "result.json").write_text("{")
    with pytest.raises(InputError, match="cannot read"):
        read_runs([run])
    (run / "result.json").unlink()
    with pytest.raises(InputError, match="is not finished"):
        read_runs([run])


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"split": {"name": "made-up", "sha256": "cd" * 32, "images": 1}}, "training images"),
        ({"backbone": {"name": "resnet32", "width": 32}}, "backbone: small_net of width 32, from scratch and resnet32"),
        ({"backbone": {"name": "small_net", "width": 64}}, "width 64"),
        ({"protocol": {"checkpoint": "best", "selected_on": "test"}}, "checkpoint: last and best"),
        ({"class_groups": {"kind": "quantile", "many": 100, "few": 20}}, "groups of classes"),
    ],
)
def test_runs_that_do_not_compare_are_refused(make_run, facts, what):
    runs = read_runs([make_run("a"), changed(make_run("b", "focal"), **facts)])
    with pytest.raises(InputError, match=what):
        check_comparable(runs)
    check_comparable({"b": list(runs.values())[1]})


def test_other_test_labels_are_refused(make_run):
    runs = read_runs([make_run("a"), make_run("b", "focal")])
    runs["focal"].predictions().targets[0] = 3
    with pytest.raises(InputError, match="test labels; such numbers are not comparable"):
        check_comparable(runs)


def test_the_note_warns_of_the_checkpoint_and_of_other_recipes(make_run):
    best = {"protocol": {"checkpoint": "best", "selected_on": "test"}}
    runs = read_runs([changed(make_run("a"), **best), changed(make_run("b", "focal"), **best, recipe="other")])
    assert (
        note_of(runs, "", "test images")
        == "test images; checkpoint chosen on the test set; training recipes differ: digits, other"
    )
    assert note_of(read_runs([make_run("c")])) == ""


def test_the_note_warns_of_other_training_lengths(make_run):
    short, long = make_run("a"), make_run("b", "focal")
    text = (long / "config.yaml").read_text()
    (long / "config.yaml").write_text(re.sub(r"epochs: \d+", "epochs: 99", text, count=1))
    assert re.fullmatch(r"training lengths differ: \d+ epochs, 99 epochs", note_of(read_runs([short, long])))


def test_runs_that_differ_in_their_seed_alone_belong_together(make_run):
    folders = [
        make_run("a", seed=0),
        make_run("b", seed=1),
        make_run("c", settings=[("stages.0.training.epochs", 2)]),
        make_run("d", "focal"),
    ]
    groups = [(name, [run.folder.name for run in runs]) for name, runs in by_seed(read_runs(folders)).items()]
    assert groups == [("ce (a)", ["a", "b"]), ("ce (c)", ["c"]), ("focal", ["d"])]
    assert list(by_seed(read_runs(folders[:2]))) == ["ce"]
    with pytest.raises(InputError, match="two methods have the name ce"):
        by_seed(read_runs([*folders[:2], folders[3]], ["x", "y", "ce"]))


def test_outputs_are_those_of_the_trained_model(trained):
    (run,) = read_runs(trained[:1]).values()
    found, saved = outputs_of(run, "test"), run.predictions()
    torch.testing.assert_close(found.logits_NC, saved.logits)
    assert torch.equal(found.targets_N, saved.targets)
    head = run.model().head
    with torch.no_grad():
        torch.testing.assert_close(head(found.embeddings_ND), found.logits_NC, rtol=1e-4, atol=1e-5)
    train = load_data(run.config.data, torch.device("cpu")).train
    assert torch.equal(outputs_of(run, "train").targets_N, train.targets)
    assert logits_of(run, "test")[0] is saved.logits


def test_data_that_have_changed_are_refused(trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    changed(folder, split={"name": "x", "sha256": "00", "images": 1})
    (run,) = read_runs([folder]).values()
    with pytest.raises(InputError, match="was trained on other images than digits-lt has now"):
        outputs_of(run, "train")
