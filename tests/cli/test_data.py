"""`longtail inspect`, `longtail list` and `longtail data`."""

import json

from .calling import call


def test_inspect_hands_its_options_on(capsys):
    assert call("inspect", "digits-lt", "--imbalance-factor", 10) == 0
    assert "next: longtail train digits-lt --imbalance-factor 10" in capsys.readouterr().out


def test_inspect_says_what_is_there_and_what_to_do(capsys):
    assert call("inspect", "digits-lt") == 0
    printed = capsys.readouterr().out
    for words in (
        "417 training images of 10 classes, 41 of them held out for validation",
        "imbalance factor 20.7, Gini 0.47; most frequent class 124, least frequent class 6",
        "has 21 times the images of the least frequent one (124 and 6)",
        "recommended: balanced-softmax",
        "next: ",
    ):
        assert words in printed
    assert call("inspect", "digits-lt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["recommended"]["method"] == "balanced-softmax"


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


def test_names_are_printed_as_they_are(exported, tmp_path, capsys):
    rows = ["path,label"]
    for folder, name in (("0", "animal:dog:poodle"), ("1", "siamese [tabby]"), ("2", "kitchen [/bath]")):
        rows += [f"{path},{name}" for path in sorted(exported.glob(f"train/{folder}/*.png"))]
    table = tmp_path / "a [v] :dog:.csv"
    table.write_text("\n".join(rows))
    assert call("inspect", table, "--root", exported) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{table}: ")
    for name in ("animal:dog:poodle", "siamese [tabby]", "kitchen [/bath]"):
        assert name in printed
