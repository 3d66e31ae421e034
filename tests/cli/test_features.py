"""`longtail features` as a user types it, and `longtail train` on what it writes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.data.formats.features import load_features
from longtail.data.load import load_data
from longtail.run.folder import load_config
from longtail.run.run import Run
from longtail.training.predict import predict

from .calling import call

CPU = torch.device("cpu")


def test_features_of_a_run_are_those_of_its_net_with_all_about_them(run, tmp_path, capsys):
    assert call("features", run, "--output", tmp_path / "f.npz") == 0
    assert f"917 rows of 64 features -> {tmp_path / 'f.npz'}" in capsys.readouterr().out
    found, data, model = (
        load_features(tmp_path / "f.npz"),
        load_data(load_config(run).data, CPU),
        Run(run).trained(CPU),
    )
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        logits, embeddings = predict(model.model, part.images)
        assert np.array_equal(found.tensors(name)[0], embeddings)
        assert np.array_equal(found.logits(name), logits)
        assert torch.equal(found.tensors(name)[1], part.targets)
    assert np.array_equal(found.logits("test"), np.load(run / "predictions.npz")["logits"])
    assert torch.equal(found.rows.class_counts.counts, data.class_counts.counts)
    about, result = found.rows.about, json.loads((run / "result.json").read_text())
    assert about["split"] == result["split"]
    assert about["checkpoint_sha256"] == hashlib.sha256((run / "checkpoint" / "last.pt").read_bytes()).hexdigest()
    expected = {"run": str(run), "method": "balanced-softmax", "backbone": "small_net", "data": "digits-lt"}
    assert {key: about[key] for key in expected} == expected


def test_parts_views_format_and_type_are_as_asked_for(run, tmp_path):
    options = ("--parts", "test", "train", "--augment", 2, "--format", "parquet", "--dtype", "float16")
    assert call("features", run, *options, "--output", tmp_path / "f.parquet") == 0
    found = load_features(tmp_path / "f.parquet")
    assert (found.parts, found.embeddings_ND.dtype, len(found)) == (("train", "test"), np.float16, 3 * 376 + 500)
    assert found.rows.about["augment"] == {"policy": "crop", "views": 2, "seed": 0}
    assert not torch.equal(found.tensors("train", 1)[0], found.tensors("train", 2)[0])
    assert call("features", run, *options, "--output", tmp_path / "again.parquet") == 0
    assert np.array_equal(load_features(tmp_path / "again.parquet").embeddings_ND, found.embeddings_ND)


def test_other_data_are_seen_at_the_size_of_the_run(run, tmp_path, capsys):
    folder = tmp_path / "digits"
    assert call("data", "export", "digits-lt", "--target", folder) == 0
    assert call("features", run, folder, "--output", tmp_path / "same.npz") == 0
    same = load_features(tmp_path / "same.npz")
    assert same.logits_NC.shape == (917, 10)
    for label in (folder / "train" / "9", folder / "test" / "9", folder / "val" / "9"):
        if label.exists():
            label.rename(label.with_name("ten"))
    assert call("features", run, folder, "--output", tmp_path / "other.npz") == 0
    assert load_features(tmp_path / "other.npz").logits_NC is None
    assert "no logits are written" in capsys.readouterr().err


def test_a_backbone_has_no_logits_and_its_seed_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 0, 1):
        options = ("--pretrained", "false", "--seed", seed, "--parts", "test")
        assert call("features", "small_net", "digits-lt", *options) == 0
        Path("features.npz").rename(f"{len(list(tmp_path.iterdir()))}.npz")
    first, again, other = (load_features(path) for path in sorted(tmp_path.iterdir()))
    assert first.logits_NC is None
    assert np.array_equal(first.embeddings_ND, again.embeddings_ND)
    assert not np.array_equal(first.embeddings_ND, other.embeddings_ND)
    assert first.rows.about["weights_sha256"] == again.rows.about["weights_sha256"]
    assert (first.rows.about["pretrained"], first.rows.class_counts.counts.sum()) == (False, 376)


def test_a_torchvision_net_is_a_backbone(tmp_path):
    options = ("--pretrained", "false", "--parts", "val")
    assert call("features", "squeezenet1_1", *options, "--output", tmp_path / "f.npz") == 2
    assert call("features", "resnet18", *options, "--output", tmp_path / "f.npz") == 0
    assert load_features(tmp_path / "f.npz").embeddings_ND.shape == (41, 512)


def test_a_head_is_trained_on_the_file(run, tmp_path, capsys):
    assert call("features", run, "--output", tmp_path / "f.npz") == 0
    options = ("--method", "tau-norm", "--epochs", 1)
    assert call("train", "--features", tmp_path / "f.npz", *options, "--out", tmp_path / "a") == 0
    assert call("train", tmp_path / "f.npz", *options, "--out", tmp_path / "b") == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in "ab"]
    assert results[0]["test"] == results[1]["test"]
    assert results[0]["backbone"]["name"] == "FeatureBackbone"
    assert "Only a head is trained, on features of small_net on digits-lt (64 dimensions)." in results[0]["notes"]
    for page in (tmp_path / "a" / "report.html", tmp_path / "b" / "page.html"):
        page.exists() or call("report", tmp_path / "b", "--output", page)
        assert "no images were available" in page.read_text()
    assert call("inspect", tmp_path / "f.npz") == 0
    assert "417 training images of 10 classes, 41 of them held out for validation" in capsys.readouterr().out
    image = tmp_path / "digits"
    assert call("data", "export", "digits-lt", "--target", image) == 0
    assert call("predict", tmp_path / "a", image / "test", "--output", tmp_path / "x.csv") == 2
    assert "for images, use the run that computed the features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonet"], "there is no run or backbone 'nonet'"),
        (["."], "holds no run (no config.yaml)"),
        (["small_net"], "small_net has no pretrained weights; set `pretrained` to false"),
        (
            ["small_net", "--pretrained", "false", "--augment", "1"],
            "a backbone has no augmentation of its own; set `policy`",
        ),
        (["small_net", "--pretrained", "false", "--parts", "tset"], "did you mean test"),
        (["small_net", "--pretrained", "false", "--parts", "val", "--val-share", "0"], "there is no val part"),
        (["small_net", "--pretrained", "false", "--parts", "test", "--augment", "1"], "the parts must include train"),
        (
            ["small_net", "--pretrained", "false", "--augment", "1", "--policy", "none"],
            "`policy` must change the images, got 'none'",
        ),
        (["small_net", "--pretrained", "false", "--augment", "1", "--policy", "corp"], "did you mean crop"),
        (["vit_b_16", "--pretrained", "false"], "vit_b_16 does not accept images of 8 pixels"),
        (
            ["resnet18", "--output", "features.txt"],
            "`output` must end in .npz, the suffix of its format, got features.txt",
        ),
        (["resnet18", "--output", "no/f.npz"], "cannot be written"),
        (["resnet18", "--format", "csv"], "`--format` must be one of npz, safetensors, parquet, got 'csv'"),
    ],
)
def test_mistakes_end_with_a_message_and_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call("features", *arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_its_weights_and_a_file_of_features_is_one(run, tmp_path, capsys):
    assert call("features", run, "--pretrained", "true", "--output", tmp_path / "f.npz") == 2
    assert "a run has its own weights; leave it out (command line: --pretrained)" in capsys.readouterr().err
    assert call("train", "--features", "photos", "--method", "ce") == 2
    assert "`--features` must be an NPZ, safetensors or Parquet file, got photos" in capsys.readouterr().err
    assert call("train", "digits-lt", "--features", "f.npz") == 2
    assert "two data sets are given: digits-lt and --features f.npz" in capsys.readouterr().err
