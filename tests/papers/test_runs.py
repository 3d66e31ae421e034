import json
import re
import shutil

import pytest
import torch

from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.papers.runs import by_seed, check_comparable, read_runs, warnings_of
from longtail.run.run import Run


def changed(folder, **facts):
    """The same run with other facts in its result."""
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
    labels = [run.label for run in read_runs(folders)]
    assert labels == ["ce", "balanced-softmax, seed 0", "balanced-softmax, seed 1", "focal (d)", "focal (e)"]
    assert [run.label for run in read_runs(folders[:2], ["one", "two"])] == ["one", "two"]


def test_a_run_knows_its_classes_and_their_accuracies(make_run):
    (run,) = read_runs([make_run("a")])
    assert run.classes.group_names == ("many", "many", "medium", "medium", "few", "few")
    correct = run.predictions.predicted == run.predictions.targets
    expected = [100 * float(correct[run.predictions.targets == label].float().mean()) for label in range(6)]
    torch.testing.assert_close(run.per_class, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


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
    with pytest.raises(InputError, match=r"is not finished; go on with: longtail train --resume"):
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
    check_comparable(runs[1:])


def test_other_test_labels_are_refused(make_run):
    first, second = read_runs([make_run("a"), make_run("b", "focal")])
    second.predictions.targets[0] = 3
    with pytest.raises(InputError, match="test labels; such numbers do not compare"):
        check_comparable([first, second])


def test_what_a_reader_must_know_is_said(make_run):
    best = {"protocol": {"checkpoint": "best", "selected_on": "test"}}
    runs = read_runs([changed(make_run("a"), **best), changed(make_run("b", "focal"), **best, recipe="other")])
    assert warnings_of(runs) == "checkpoint chosen on the test set; training recipes differ: digits, other"
    assert warnings_of(read_runs([make_run("c")])) == ""


def test_lengths_of_training_that_differ_are_said(make_run):
    short, long = make_run("a"), make_run("b", "focal")
    text = (long / "config.yaml").read_text()
    (long / "config.yaml").write_text(re.sub(r"epochs: \d+", "epochs: 99", text, count=1))
    assert re.fullmatch(r"lengths of training differ: \d+ epochs, 99 epochs", warnings_of(read_runs([short, long])))


def test_runs_that_differ_in_their_seed_alone_belong_together(make_run):
    folders = [
        make_run("a", seed=0),
        make_run("b", seed=1),
        make_run("c", settings=[("stages.0.training.epochs", 2)]),
        make_run("d", "focal"),
    ]
    groups = [(name, [run.folder.name for run in runs]) for name, runs in by_seed(read_runs(folders))]
    assert groups == [("ce (a)", ["a", "b"]), ("ce (c)", ["c"]), ("focal", ["d"])]
    assert by_seed(read_runs(folders[:2]))[0][0] == "ce"


def test_outputs_are_those_of_the_trained_model(trained):
    (run,) = read_runs(trained[:1])
    found = run.outputs("test")
    torch.testing.assert_close(found.logits_NC, run.predictions.logits)
    assert torch.equal(found.targets_N, run.predictions.targets)
    head = Run(run.folder).trained(torch.device("cpu")).model.head
    with torch.no_grad():
        torch.testing.assert_close(head(found.embeddings_ND), found.logits_NC, rtol=1e-4, atol=1e-5)
    train = load_data(run.config.data, torch.device("cpu")).train
    assert torch.equal(run.outputs("train").targets_N, train.targets)
    assert run.logits("test")[0] is run.predictions.logits


def test_data_that_have_changed_are_refused(trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    changed(folder, split={"name": "x", "sha256": "00", "images": 1})
    (run,) = read_runs([folder])
    with pytest.raises(InputError, match="was trained on other images than digits-lt now has"):
        run.outputs("train")
