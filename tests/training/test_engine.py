"""Engines: a recorded step gives the bits of the eager one for every method, and every failure falls back to it."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from longtail.config import recipes
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.losses import CrossEntropy
from longtail.run.fit import fit
from longtail.stages import Filter, Train
from longtail.training import engine
from longtail.training.context import Interrupted
from tests.runs import bits
from tests.training.recording import RecordingGraph

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = [
    method
    for method in recipes.names("methods")
    if any(stage.training_settings() is not None for stage in recipes.compose("digits-lt", method).stages)
]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data(short("ce").data, torch.device("cpu"))


@pytest.fixture
def recorder(monkeypatch):
    """Let the CPU record steps."""
    monkeypatch.setitem(engine.GRAPHS, "cpu", RecordingGraph)
    monkeypatch.setattr(RecordingGraph, "made", 0)


def short(method: str, epochs: int = 3, *sets: tuple[str, object], **top: object) -> Config:
    """Return a method on a tiny model, with few epochs in each stage that trains, so that its phases change."""
    changes: list[tuple[str, object]] = [("model.backbone.width", 4)]
    for index, stage in enumerate(recipes.compose("digits-lt", method).stages):
        if stage.training_settings() is not None:
            changes.append((f"stages.{index}.training.epochs", epochs))
        if "reweight_from" in getattr(getattr(stage, "loss", None), "options", {}):
            changes.append((f"stages.{index}.loss.reweight_from", 0.5))
        if isinstance(stage, Filter):
            changes += [(f"stages.{index}.{part}.epochs", 1) for part in ("flow", "learning")]
        if isinstance(stage, Train) and stage.mixing is not None and stage.mixing.name == "CMO":
            changes += [(f"stages.{index}.mixing.off_first", 1), (f"stages.{index}.mixing.off_last", 1)]
    return recipes.compose("digits-lt", method, changes=[{"set": [*changes, *sets], **top}])


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", METHODS)
def test_recorded_steps_give_the_bits_of_eager_ones(method, digits, tmp_path, recorder, caplog):
    eager = fit(short(method, engine="eager"), tmp_path / "eager", data=digits, report=False)
    assert RecordingGraph.made == 0
    captured = fit(short(method, engine="captured"), tmp_path / "captured", data=digits, report=False)
    assert losses(captured.folder) == losses(eager.folder)
    assert bits(captured.folder) == bits(eager.folder)
    assert RecordingGraph.made >= 1
    assert "cannot be recorded" not in caplog.text


def test_a_recorded_step_is_recorded_again_where_a_method_changes_its_branch(digits, tmp_path, recorder):
    made = []
    for method in ("ce", "ldam-drw", "smart", "bs-cmo", "isda"):
        RecordingGraph.made = 0
        fit(short(method, engine="captured"), tmp_path / method, data=digits, report=False)
        made.append(RecordingGraph.made)
    # deferred weights, the start of a transfer, mixing on and off again; the ramp of ISDA is a tensor
    assert made == [1, 2, 2, 3, 1]


def stop_in(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Request a stop in a given step."""
    steps, original = [0], engine.CapturedEngine.update

    def update(self, *arguments):
        original(self, *arguments)
        steps[0] += 1
        if steps[0] == step:
            self.state.context.stop.set()

    monkeypatch.setattr(engine.CapturedEngine, "update", update)


ALL = tuple(
    (f"stages.0.training.{key}", value) for key, value in [("ema", 0.9), ("precision", "fp16"), ("clip_norm", 1.0)]
)


@pytest.mark.parametrize(("method", "sets"), [("smart", ()), ("ldam-drw", ALL), ("gcl-loss", ())])
def test_a_captured_run_resumes_bit_identically(method, sets, digits, tmp_path, recorder, monkeypatch, caplog):
    config = short(method, 3, *sets, engine="captured")
    whole = fit(config, tmp_path / "whole", data=digits, report=False)
    eager = fit(short(method, 3, *sets, engine="eager"), tmp_path / "eager", data=digits, report=False)
    assert bits(whole.folder) == bits(eager.folder)
    for step in (1, 3, 6, 8, 17):
        folder = tmp_path / str(step)
        with monkeypatch.context() as patch:
            stop_in(step, patch)
            with pytest.raises(Interrupted):
                fit(config, folder, data=digits, report=False)
        assert fit(config, folder, data=digits, resume=True, report=False).scores == whole.scores
        assert bits(folder) == bits(whole.folder)
    assert "cannot be recorded" not in caplog.text


class Failing(RecordingGraph):
    """Recorder that fails in the middle of a step, whose operations have been executed."""

    def record(self, step):
        super().record(step)
        raise RuntimeError("out of memory")


class Forgetful(RecordingGraph):
    """Recorder that loses an operation."""

    def record(self, step):
        super().record(step)
        del self.operations[-1]


@pytest.mark.parametrize(("graph", "reason"), [(Failing, "out of memory"), (Forgetful, "gives other values")])
def test_a_failed_recording_falls_back_to_eager_with_one_warning(graph, reason, digits, tmp_path, monkeypatch, caplog):
    eager = fit(short("equalization", engine="eager"), tmp_path / "eager", data=digits, report=False)
    monkeypatch.setitem(engine.GRAPHS, "cpu", graph)
    fallen = fit(short("equalization", engine="captured"), tmp_path / "fallen", data=digits, report=False)
    assert bits(fallen.folder) == bits(eager.folder)
    warnings = [record.getMessage() for record in caplog.records if "cannot be recorded" in record.getMessage()]
    assert len(warnings) == 1
    assert reason in warnings[0]


class Replacing(CrossEntropy):
    """Cross-entropy with a buffer that each step replaces, which a recorded step would not see."""

    def __init__(self, class_counts, **options):
        super().__init__(class_counts, **options)
        self.register_buffer("seen", torch.zeros(()))

    def per_example(self, logits_BC, targets):
        self.seen = self.seen + 1
        return super().per_example(logits_BC, targets) / self.seen


def test_a_component_that_replaces_its_state_is_not_replayed(digits, tmp_path, recorder, caplog):
    loss = ("stages.0.loss", {"name": "tests.training.test_engine.Replacing"})
    eager = fit(short("ce", 2, loss, engine="eager"), tmp_path / "eager", data=digits, report=False)
    captured = fit(short("ce", 2, loss, engine="captured"), tmp_path / "captured", data=digits, report=False)
    assert "replaces tensors" in caplog.text
    assert bits(captured.folder) == bits(eager.folder)


def test_the_engine_stands_in_the_result_and_not_in_the_configuration(digits, tmp_path, recorder):
    run = fit(short("ce", 1, engine="captured"), tmp_path, data=digits, report=False)
    assert run.result["compute"] == {"0": {"precision": "fp32", "channels_last": False, "engine": "captured"}}
    assert "engine" not in recipes.to_yaml(short("ce"))


def test_a_device_without_graphs_refuses_to_capture_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="`engine` must be auto, eager or compiled on the device cpu, got 'captured'"):
        fit(short("ce", 1, engine="captured", device="cpu"), tmp_path / "run", report=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["compiled", "captured+compiled"])
def test_a_compiled_step_learns_the_same(name, digits, tmp_path, recorder, monkeypatch):
    eager = fit(short("bsce-smart", 2, engine="eager"), tmp_path / "eager", data=digits, report=False)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # without the minutes of inductor
    compiled = fit(short("bsce-smart", 2, engine=name), tmp_path / "compiled", data=digits, report=False)
    assert compiled.result["compute"]["0"]["engine"] == name
    assert losses(compiled.folder) == pytest.approx(losses(eager.folder), rel=1e-4)


def test_a_step_that_cannot_be_compiled_runs_eagerly_with_one_warning(digits, tmp_path, monkeypatch, caplog):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler")

    eager = fit(short("ce", 1, engine="eager"), tmp_path / "eager", data=digits, report=False)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    compiled = fit(short("ce", 1, engine="compiled"), tmp_path / "compiled", data=digits, report=False)
    assert caplog.text.count("cannot be compiled") == 1
    assert bits(compiled.folder) == bits(eager.folder)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_steps_captured_on_a_gpu_give_the_losses_of_eager_ones(method, tmp_path, caplog):
    eager = fit(short(method, 34, engine="eager", device="cuda"), tmp_path / "eager", report=False)  # 204 steps
    captured = fit(short(method, 34, engine="captured", device="cuda"), tmp_path / "captured", report=False)
    assert "cannot be recorded" not in caplog.text
    assert losses(captured.folder) == pytest.approx(losses(eager.folder), rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_after_a_failed_capture_the_gpu_can_still_draw_random_numbers(tmp_path, monkeypatch, caplog):
    class FailingOnGPU(engine.CUDAStepGraph):
        def record(self, step):
            super().record(lambda: (step(), float(torch.rand(1, device="cuda"))))

    monkeypatch.setitem(engine.GRAPHS, "cuda", FailingOnGPU)
    run = fit(short("gcl-loss", 2, engine="captured", device="cuda"), tmp_path, report=False)
    assert "cannot be recorded" in caplog.text
    assert run.result["test"]
