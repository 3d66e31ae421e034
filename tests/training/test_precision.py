"""Precision and layout that are left to the device: what is chosen, stated, recorded and kept by a resumed run."""

import json
import logging
from pathlib import Path

import pytest
import torch

from longtail.config import recipes
from longtail.config.schema import Config
from longtail.models.cifar import small_net
from longtail.run.fit import fit
from longtail.training import precision
from longtail.training.context import Interrupted
from longtail.training.state import TrainState

CPU = torch.device("cpu")
AUTO = [("stages.0.training.precision", "auto"), ("stages.0.training.channels_last", None)]


def config(**changes: object) -> Config:
    sets = [("model.backbone.width", 4), *AUTO]
    return recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 2}, "set": sets, **changes}])


def trained_in(folder: Path) -> dict[str, object]:
    return json.loads((folder / "result.json").read_text())["compute"]["0"]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch):
    """Return a function that sets what the device is able to do."""

    def able(bf16: bool, channels_last: bool = True) -> None:
        monkeypatch.setattr(precision, "computes_bf16", lambda device: bf16)
        monkeypatch.setattr(precision, "channels_last_is_faster", lambda device, backbone: channels_last)

    return able


@pytest.mark.parametrize(
    ("bf16", "wanted", "text"),
    [
        (True, "bf16", "precision: bf16, channels-last (this CPU computes bf16 natively)"),
        (False, "fp32", "precision: fp32, channels-last (this CPU does not compute bf16 natively)"),
    ],
)
def test_the_choice_is_stated_once_and_stands_in_the_result(bf16, wanted, text, device, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="longtail")
    device(bf16)
    fit(config(device="cpu"), tmp_path, report=False)
    assert trained_in(tmp_path) == {"precision": wanted, "channels_last": True, "engine": "eager"}
    assert [line for line in caplog.messages if "precision" in line] == [text]


def test_autocast_is_used_as_chosen(device, tmp_path, monkeypatch):
    seen = []
    original = TrainState.count
    monkeypatch.setattr(TrainState, "count", lambda state, loss: (seen.append(state.settings), original(state, loss)))
    device(True, channels_last=False)
    fit(config(device="cpu"), tmp_path, report=False)
    assert {(settings.precision, settings.channels_last) for settings in seen} == {("bf16", False)}


def test_a_run_resumed_on_another_machine_keeps_its_precision(device, tmp_path, monkeypatch):
    device(True)
    with monkeypatch.context() as patch:
        original = TrainState.update

        def stopping(state, *arguments):
            original(state, *arguments)
            state.context.stop.set()

        patch.setattr(TrainState, "update", stopping)
        with pytest.raises(Interrupted):
            fit(config(device="cpu"), tmp_path / "stopped", report=False)
    device(False, channels_last=False)
    fit(config(device="cpu"), tmp_path / "stopped", resume=True, report=False)
    assert trained_in(tmp_path / "stopped")["precision"] == "bf16"
    assert trained_in(tmp_path / "stopped")["channels_last"]
    device(True)
    fit(config(device="cpu"), tmp_path / "whole", report=False)
    ends = [
        torch.load(tmp_path / name / "checkpoint/last.pt", weights_only=True)["model"] for name in ("stopped", "whole")
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(end.values() for end in ends), strict=True))


def test_a_head_on_features_is_trained_in_single_precision(device, tmp_path):
    device(True)
    crt = recipes.compose(
        "digits-lt", "crt", changes=[{"training": {"epochs": 1, "precision": "auto"}, "device": "cpu"}]
    )
    compute = fit(crt, tmp_path, report=False).result["compute"]
    assert (compute["0"]["precision"], compute["1"]["precision"]) == ("bf16", "fp32")


@pytest.mark.parametrize("recipe", ["ldam", "balms", "elm", "elm-full"])
@pytest.mark.parametrize("method", ["ce", "crt", "balms"])
def test_recipes_of_papers_train_in_single_precision(recipe, method):
    stages = recipes.compose("cifar100-lt", method, recipe).stages
    assert {stage.training.precision for stage in stages} == {"fp32"}


def test_own_images_leave_precision_and_layout_to_the_device():
    training = recipes.compose("cifar100-lt", "ce", "small").stages[0].training
    assert (training.precision, training.channels_last) == ("auto", None)


@pytest.mark.parametrize(
    ("flags", "native"), [("fpu avx2 fma", False), ("avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True)]
)
def test_without_a_probe_of_torch_the_flags_of_the_cpu_decide(flags, native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", None, raising=False)
    monkeypatch.setattr(precision, "_cpu_flags", lambda: set(flags.split()))
    precision.computes_bf16.cache_clear()
    assert precision.computes_bf16(CPU) == native
    precision.computes_bf16.cache_clear()


def test_channels_last_is_for_convolutional_backbones(monkeypatch):
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    assert precision.channels_last_is_faster(CPU, small_net())
    assert not precision.channels_last_is_faster(CPU, torch.nn.Linear(2, 2))
    monkeypatch.setattr(precision.platform, "machine", lambda: "arm64")
    assert not precision.channels_last_is_faster(CPU, small_net())
