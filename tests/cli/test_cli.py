"""The command line as a user types it: what it prints, what it writes, how it ends."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from longtail.arguments import COMMANDS
from longtail.cli import build_parser, main

DIGITS = ("digits-lt", "--method", "balanced-softmax", "--epochs", "2")


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert call("train", *DIGITS, "--out", folder) == 0
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "digits"
    assert call("data", "export", "digits-lt", "--target", folder) == 0
    return folder


def test_train_prints_the_table_and_where_the_report_is(tmp_path, capsys):
    assert call("train", *DIGITS, "--out", tmp_path / "run") == 0
    printed = capsys.readouterr()
    assert "balanced-softmax" in printed.out
    assert f"report: {tmp_path / 'run' / 'report.html'}" in printed.out
    assert "training balanced-softmax on digits-lt (small_net; recipe digits, 2 epochs; seed 0)" in printed.err


def test_without_a_method_the_choice_is_explained_and_runs_are_numbered(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert call("train", "digits-lt", "--epochs", 1) == 0
    assert "chosen: balanced-softmax: the fullest class has 22 times" in capsys.readouterr().err
    assert {path.name for path in Path("runs").iterdir()} == {
        "digits-lt-balanced-softmax-seed0",
        "digits-lt-balanced-softmax-seed0-2",
    }


def test_the_bare_command_compares_with_plain_cross_entropy(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("train", "--epochs", 1) == 0
    assert "best of its column" in capsys.readouterr().out
    assert len(list(Path("runs").iterdir())) == 2


def test_a_folder_and_the_table_exported_with_it_give_equal_results(exported, tmp_path, capsys):
    results = []
    for name in ("digits-lt", exported, exported / "dataset.csv"):
        out = tmp_path / f"run{len(results)}"
        options = ("--recipe", "digits", "--backbone", "small_net", "--val-share", 0)
        assert call("train", name, "--method", "ce", "--epochs", 2, *options, "--out", out) == 0
        model = torch.load(out / "checkpoint" / "last.pt", weights_only=True)["model"]
        results.append((model, json.loads((out / "result.json").read_text())))
    # what was exported had given a tenth of its training images for choices
    counts = [result["split"]["images"] for _, result in results]
    assert counts == [417, 376, 376]
    (folder_model, folder_result), (table_model, table_result) = results[1:]
    assert folder_result["test"] == table_result["test"]
    assert folder_result["split"]["sha256"] == table_result["split"]["sha256"]
    assert all(torch.equal(value, table_model[name]) for name, value in folder_model.items())


def test_settings_of_own_data_reach_the_data_and_the_configuration(exported, tmp_path, capsys):
    given = ("--val-share", 0.2, "--on-bad-image", "skip", "--set", "data.test_per_class=3")
    assert call("train", exported / "train", "--epochs", 1, *given, "--out", tmp_path / "run") == 0
    data = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]
    assert (data["val_share"], data["on_bad_image"], data["test_per_class"]) == (0.2, "skip", 3)
    assert data["name"] == str(exported / "train")
    assert "30 images, 3 per class, was held out" in capsys.readouterr().err


def test_own_images_need_no_method(exported, tmp_path, capsys):
    assert call("train", exported / "train", "--epochs", 1, "--out", tmp_path / "run") == 0
    printed = capsys.readouterr()
    assert "chosen: balanced-softmax" in printed.err
    assert "chosen: small_net from scratch: images of 8 pixels" in printed.err
    assert "(small_net; recipe digits, 1 epoch; seed 0)" in printed.err
    assert "note: The data bring no test part" in printed.err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["notes"]


def test_large_own_images_take_a_pretrained_net_or_say_why_not(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    for label, count in (("cat", 8), ("dog", 3)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.jpg")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-weights"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    small = ("--image-size", 72, "--epochs", 1, "--workers", 0)
    assert call("train", tmp_path / "photos", *small, "--out", tmp_path / "run") == 0
    printed = capsys.readouterr().err
    assert "chosen: resnet18 from ImageNet weights" in printed
    assert "chosen: from scratch" in printed
    assert "cannot load the pretrained weights" in printed
    insisting = ("--backbone", "resnet18", "--pretrained", "true")
    assert call("train", tmp_path / "photos", *small, *insisting, "--out", tmp_path / "other") == 2
    assert "cannot load the pretrained weights of resnet18" in capsys.readouterr().err


def test_predict_writes_path_class_probability_and_the_likeliest(run, exported, tmp_path, capsys):
    answers = tmp_path / "answers.csv"
    assert call("predict", run, exported / "test", "--output", answers) == 0
    rows = list(csv.DictReader(answers.open()))
    assert len(rows) == 500
    assert list(rows[0])[:5] == ["path", "class", "probability", "class_2", "probability_2"]
    stored = np.load(run / "predictions.npz")
    shares = np.exp(stored["logits"]) / np.exp(stored["logits"]).sum(1, keepdims=True)
    by_class = {(row["path"].split("/")[-2], round(float(row["probability"]), 4)) for row in rows}
    expected = {(str(t), round(float(s.max()), 4)) for t, s in zip(stored["targets"], shares, strict=True)}
    assert len(by_class & expected) > 0.98 * len(expected)
    assert f"500 images -> {answers}" in capsys.readouterr().out


def test_evaluate_a_run_and_its_predictions_agree(run, capsys):
    assert call("evaluate", run, "--json") == 0
    of_run = json.loads(capsys.readouterr().out)
    assert call("evaluate", run / "predictions.npz", "--json") == 0
    assert json.loads(capsys.readouterr().out) == of_run
    stored = json.loads((run / "result.json").read_text())["test"]
    assert {key: of_run[key] for key in stored} == stored
    assert (of_run["class_names"], of_run["test_images"]) == ([str(digit) for digit in range(10)], 500)


def test_evaluate_under_another_test_prior_moves_towards_the_head(run, capsys):
    values = {}
    for prior in ("uniform", "train", "forward-50", "backward-50"):
        assert call("evaluate", run, "--test-prior", prior, "--json") == 0
        values[prior] = json.loads(capsys.readouterr().out)["top1"]
    assert call("evaluate", run, "--json") == 0
    assert values["uniform"] == pytest.approx(json.loads(capsys.readouterr().out)["top1"])
    assert len(set(values.values())) == 4


def test_evaluate_predictions_of_another_tool(tmp_path, capsys):
    (tmp_path / "p.csv").write_text("label,predicted\ncat,cat\ncat,dog\ndog,dog\n")
    (tmp_path / "counts.csv").write_text("class,count\ncat,500\ndog,5\n")
    assert call("evaluate", tmp_path / "p.csv", "--counts", tmp_path / "counts.csv", "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["many"], scores["few"], scores["ece"]) == (50.0, 100.0, None)
    assert call("report", tmp_path / "p.csv", "--counts", tmp_path / "counts.csv") == 0
    assert "<html" in (tmp_path / "p.html").read_text()
    assert call("evaluate", tmp_path / "p.csv") == 2
    assert "counts" in capsys.readouterr().err


def test_report_writes_the_page_anew_and_elsewhere(run, tmp_path, capsys):
    page = run / "report.html"
    page.unlink()
    assert call("report", run) == 0
    assert page.exists()
    assert call("report", run, "--output", tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").read_text() == page.read_text()
    assert call("report", run, "--output", tmp_path / "no" / "page.html") == 2
    assert str(tmp_path / "no") in capsys.readouterr().err


def test_predict_leaves_unreadable_images_out_when_told_to(run, exported, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = next((exported / "test").rglob("*.png"))
    answers = tmp_path / "answers.csv"
    assert call("predict", run, tmp_path / "bad.png", good, "--output", answers) == 2
    assert "bad.png" in capsys.readouterr().err
    assert call("predict", run, tmp_path / "bad.png", good, "--output", answers, "--on-bad-image", "skip") == 0
    printed = capsys.readouterr()
    assert "1 could not be read" in printed.out
    assert "bad.png" in printed.err
    assert len(answers.read_text().splitlines()) == 2
    assert call("predict", run, good, "--output", tmp_path / "no" / "x.csv") == 2
    assert "can not be written" in capsys.readouterr().err


def test_inspect_hands_its_options_on(capsys):
    assert call("inspect", "digits-lt", "--imbalance-factor", 10) == 0
    assert "go: longtail train digits-lt --imbalance-factor 10" in capsys.readouterr().out


def test_inspect_says_what_is_there_and_what_to_do(capsys):
    assert call("inspect", "digits-lt") == 0
    printed = capsys.readouterr().out
    for words in (
        "376 training images of 10 classes",
        "imbalance factor 22.4",
        "recommended: balanced-softmax",
        "go: ",
    ):
        assert words in printed
    assert call("inspect", "digits-lt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["recommended"]["method"] == "balanced-softmax"


def test_show_prints_yaml_that_trains(tmp_path, capsys):
    assert call("show", *DIGITS, "--seed", 3, "--set", "stages.0.training.clip_norm=1.5") == 0
    text = capsys.readouterr().out
    shown = yaml.safe_load(text)
    assert (shown["seed"], shown["stages"][0]["training"]["clip_norm"]) == (3, 1.5)
    (tmp_path / "mine.yaml").write_text(text)
    assert call("train", "--config", tmp_path / "mine.yaml", "--epochs", 1, "--out", tmp_path / "run") == 0
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (written["seed"], written["method"]) == (3, "balanced-softmax")
    assert written["stages"][0]["training"]["epochs"] == 1


def test_list_names_everything(capsys):
    assert call("list") == 0
    everything = capsys.readouterr().out
    for name in (
        "ce",
        "ldam",
        "cifar100-lt",
        "BalancedSoftmax",
        "InstanceSampler",
        "resnet32",
        "CosineHead",
        "crop-flip",
    ):
        assert name in everything
    assert call("list", "losses") == 0
    only = capsys.readouterr().out
    assert "BalancedSoftmax" in only
    assert "cifar100-lt" not in only


def test_resume_without_other_words_keeps_the_configuration(tmp_path, capsys):
    out = tmp_path / "run"
    assert call("train", *DIGITS, "--seed", 5, "--out", out) == 0
    assert call("train", "--resume", "--out", out) == 0
    assert json.loads((out / "result.json").read_text())["seed"] == 5
    assert call("train", "--resume", "--out", out, "--seed", 6) == 2
    assert "seed: 5 -> 6" in capsys.readouterr().err


def test_tensorboard_gets_the_rows(tmp_path):
    assert call("train", *DIGITS, "--log", "tensorboard", "--out", tmp_path / "run") == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere"], "no file or folder 'nowhere'; give one of"),
        (["train", "cifr100-lt"], "no file or folder 'cifr100-lt'; did you mean cifar100-lt"),
        (["train", "digits-lt", "--method", "balanced-sofmax"], "did you mean balanced-softmax"),
        (["train", "digits-lt", "--loss", "Crossentropy"], "did you mean CrossEntropy"),
        (["train", "digits-lt", "--method", "ce", "--recipe", "ldm"], "did you mean ldam"),
        (["train", "digits-lt", "--method", "ce", "--backbone", "resnet23"], "did you mean"),
        (["train", "digits-lt", "--method", "ce", "--log", "tensorbord"], "did you mean tensorboard"),
        (["train", "digits-lt", "--methd", "ce"], "did you mean --method"),
        (["train", "digits-lt", "--epochs", "many"], "--epochs can not be 'many'; it takes a whole number"),
        (["train", "digits-lt", "--protocol", "cheat"], "--protocol can not be 'cheat'; it takes one of honest, paper"),
        (["train", "digits-lt", "--epoch", "3"], "did you mean --epochs"),
        (["train", "digits-lt", "--epochs", "0"], "at least 1"),
        (["train", "digits-lt", "--set", "seed"], "--set takes KEY=VALUE"),
        (["train", "digits-lt", "--data", "cifar100-lt"], "two data sets are given"),
        (["train", "--resume"], "--resume needs --out"),
        (["train", "digits-lt", "--device", "cuda:99"], "no device 'cuda:99'"),
        (["train", "digits-lt", "--imbalance-factor", "1000"], "leaves no image for the rarest class"),
        (["train", "cifar100-lt", "--method", "ce", "--root", "nowhere"], "longtail data get cifar100"),
        (["train", "--config", "nowhere.yaml"], "can not read the configuration nowhere.yaml"),
        (["evaluate", "nowhere"], "nowhere"),
        (["evaluate", "nowhere.csv"], "nowhere.csv"),
        (["predict", "nowhere", "a.png"], "holds no run"),
        (["report", "nowhere"], "nowhere"),
        (["data", "get", "cifar1000"], "did you mean cifar100"),
        (["list", "loses"], "did you mean losses"),
        (["train", "--resume", "--out", "nowhere"], "nowhere holds no run to go on with"),
        (["trian"], "there is no command 'trian'; did you mean train?"),
        ([], "give one of train, evaluate"),
    ],
)
def test_mistakes_end_with_a_message_and_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not list(tmp_path.glob("runs/*/result.json"))


def test_every_command_has_help_with_examples(capsys):
    for command in COMMANDS:
        assert call(command.name, "--help") == 0
        assert f"longtail {command.name}" in capsys.readouterr().out.split("examples:")[1]


def test_the_version_is_printed(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("longtail 0.")


def test_the_parser_can_be_built_without_importing_torch():
    assert build_parser().prog == "longtail"
