"""`longtail train` and `longtail show`."""

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from .calling import DIGITS, call


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
    assert "chosen: balanced-softmax: the most frequent class has 21 times" in capsys.readouterr().err
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
    assert "note: The data have no test split" in printed.err
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
