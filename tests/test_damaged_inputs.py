"""Kinds of damaged inputs that the fuzz has found, one example of each."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from longtail.bench.plan import read_plan
from longtail.bench.results import older_cells
from longtail.config.convert import read_yaml
from longtail.data.counts import ClassCounts
from longtail.data.files import find_images
from longtail.data.formats.features import load_features
from longtail.data.scan import EVERYTHING, PassedOver, walk
from longtail.errors import InputError
from longtail.evaluation import read_predictions
from longtail.run import resolve
from longtail.training.checkpoint import CheckpointStore, applying
from longtail.training.log import read_rows
from tests.cli.calling import call


def store_with(folder: Path, state: object) -> CheckpointStore:
    torch.save(state, folder / "last.pt")
    return CheckpointStore(folder)


def test_a_value_that_a_checkpoint_lacks_is_named_with_the_file(tmp_path):
    saved = store_with(tmp_path, {"model": {}}).load()
    with pytest.raises(InputError, match=r"last\.pt lacks 'stage'"):
        saved["stage"]


@pytest.mark.parametrize(
    "change",
    [{"stage": "0"}, {"epoch": -1}, {"model": [1]}, {"class_names": [1]}, {"threads": "x"}, {"compute": {"0": "fp8"}}],
)
def test_a_checkpoint_with_values_of_other_types_is_refused(tmp_path, change):
    with pytest.raises(InputError, match=f"last\\.pt: its '{next(iter(change))}'"):
        store_with(tmp_path, {"stage": 0, **change}).load()


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path):
    saved = store_with(tmp_path, {"model": {"weight": torch.ones(2, 2)}}).load()
    with pytest.raises(InputError, match=r"last\.pt does not fit the run: .*size mismatch"), applying(saved):
        torch.nn.Linear(3, 2, bias=False).load_state_dict(saved["model"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else '1'}]\n" for i in range(9)), "aliases"),
        ("a: &a [*a]", "refers to itself"),
        ("[" * 200 + "]" * 200, "levels deep"),
        ("seed: 1\nname: x\nseed: 2\n", "line 3 sets 'seed' a second time"),
    ],
)
def test_yaml_that_is_no_small_tree_is_refused(text, problem):
    with pytest.raises(yaml.YAMLError, match=problem):
        read_yaml(text)


@pytest.mark.parametrize("text", ["seed: " + "9" * 5000, "a: 2001-99-99", "a: !!python/name:os.system", "a: !!int x"])
def test_values_that_yaml_cannot_hold_are_refused_by_file(tmp_path, capsys, text):
    (tmp_path / "odd.yaml").write_text(text)
    assert call("show", "--config", tmp_path / "odd.yaml") == 2
    assert "odd.yaml" in capsys.readouterr().err


def test_a_refused_setting_names_its_configuration(tmp_path):
    (tmp_path / "odd.yaml").write_text("seed: x\n")
    with pytest.raises(InputError, match=r"`seed` must be an integer.*odd\.yaml"):
        resolve.resolve("digits-lt", "ce", None, {}, files=[tmp_path / "odd.yaml"])


@pytest.mark.parametrize("key", ["method", "recipe", "published", "set"])
def test_a_plan_with_values_of_other_types_is_refused_by_name(tmp_path, key):
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump({"data": "digits-lt", "methods": [{"name": "a", key: [1]}]}))
    with pytest.raises(InputError, match=r"odd\.yaml: "):
        read_plan(str(tmp_path / "odd.yaml"))


def test_a_method_with_a_huge_name_is_refused(tmp_path):
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump({"data": "digits-lt", "methods": [{"name": "a" * 101}]}))
    with pytest.raises(InputError, match="at most 100 characters"):
        read_plan(str(tmp_path / "odd.yaml"))


def test_a_pipe_among_images_is_passed_over_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    passed = PassedOver()
    assert list(walk(tmp_path, "", EVERYTHING, passed)) == []
    assert passed.others == {"pipe or device": 2}
    with pytest.raises(InputError, match=r"pipe\.png is a pipe or device"):
        find_images([tmp_path / "pipe.png"])


def test_features_with_odd_facts_are_refused(tmp_path):
    arrays = {"embeddings": np.eye(2, dtype=np.float32), "labels": np.array([0, 1])}
    np.savez(tmp_path / "odd.npz", **arrays, class_counts=np.array(["a", "b"]))
    with pytest.raises(InputError, match="class_counts must be integers"):
        load_features(tmp_path / "odd.npz")
    np.savez(tmp_path / "odd.npz", **arrays, about=np.array("of another tool"))
    assert load_features(tmp_path / "odd.npz").rows.about == {}


def test_counts_beyond_any_data_set_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"at most 2\*\*53"):
        ClassCounts([1e30, 1.0])
    with pytest.raises(InputError, match="at most 10,000,000"):
        ClassCounts({0: 1, 2**40: 1})
    np.savez(tmp_path / "odd.npz", targets=[0], logits=[[1.0, 0.0]], class_counts=[0, 0])
    with pytest.raises(InputError, match=r"odd\.npz"):
        read_predictions(tmp_path / "odd.npz")


@pytest.mark.parametrize("content", ["[", "[]", "{}", json.dumps({"a": 1}), "[" * 100_000])
def test_a_damaged_cell_is_refused_by_name(tmp_path, content):
    (tmp_path / "cells" / "a").mkdir(parents=True)
    (tmp_path / "cells" / "a" / "cell.json").write_text(content)
    with pytest.raises(InputError, match=r"cell\.json"):
        older_cells(tmp_path)


def test_a_message_that_quotes_a_huge_value_is_cut(capsys):
    assert call("inspect", "x" * 100_000) == 2
    assert len(capsys.readouterr().err) < 6000


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        archive.writestr("targets.npy", b"text")
    with pytest.raises(InputError, match="'targets', which is not an array"):
        read_predictions(tmp_path / "odd.npz", [2, 1])


def test_a_log_row_without_a_place_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"stage": 0, "epoch": "1"}\n')
    with pytest.raises(InputError, match=r"line 1 of .*log\.jsonl is not a row"):
        read_rows(tmp_path / "log.jsonl")
