"""Every method recipe trains on the digits, and runs of one or two stages resume bit-identically from any step."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from longtail import losses, posthoc
from longtail.config import recipes
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.run.fit import fit
from longtail.run.run import Run
from longtail.stages import Filter, Train
from longtail.training.context import Interrupted
from longtail.training.predict import predict
from longtail.training.schedule import learning_rate_factor
from longtail.training.state import TrainState
from tests.runs import bits

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = recipes.names("methods")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data(short("ce").data, torch.device("cpu"))


def short(method: str, epochs: int = 2, *sets: tuple[str, object]) -> Config:
    """Return a method on a tiny model, with few epochs in each stage that trains, and mixing in all of them."""
    changes: list[tuple[str, object]] = [("model.backbone.width", 4)]
    for index, stage in enumerate(recipes.compose("digits-lt", method).stages):
        if stage.training_settings() is not None:
            changes.append((f"stages.{index}.training.epochs", epochs))
        if isinstance(stage, Filter):
            changes += [(f"stages.{index}.{part}.epochs", epochs) for part in ("flow", "learning")]
        if isinstance(stage, Train) and stage.mixing is not None and stage.mixing.name == "CMO":
            changes += [(f"stages.{index}.mixing.off_first", 0), (f"stages.{index}.mixing.off_last", 0)]
    return recipes.compose("digits-lt", method, changes=[{"set": [*changes, *sets]}])


@pytest.mark.parametrize("method", METHODS)
def test_two_epochs_on_the_digits_give_a_model_that_loads_and_predicts_the_same(method, digits, tmp_path):
    run = fit(short(method), tmp_path, data=digits, report=False)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert run.result["method"] == method
    trained = Run(tmp_path).trained(torch.device("cpu"))
    logits, _ = predict(trained.model, digits.test.images)
    assert np.array_equal(np.load(tmp_path / "predictions.npz")["logits"], logits.numpy())


def test_every_loss_and_every_correction_has_a_recipe():
    used = {
        str(option if isinstance(option, str) else option["name"])
        for method in METHODS
        for stage in recipes.read("methods", method)["stages"]
        for key, option in stage.items()
        if key in ("loss", "method")
    }
    assert used >= set(losses.__all__) | set(posthoc.CORRECTIONS)


@pytest.mark.parametrize("method", METHODS)
def test_the_first_comment_of_a_recipe_describes_it(method):
    assert len(recipes.about("methods", method)) > 20


WITH_TRAINING = [name for name in recipes.names("training") if "training" in recipes.stage_defaults(name, "Train")]


@pytest.mark.parametrize("training", WITH_TRAINING)
def test_every_training_recipe_retrains_a_head_for_a_shorter_time(training):
    first, second = (recipes.stage_defaults(training, stage)["training"] for stage in ("Train", "Retrain"))
    length = "iterations" if "iterations" in first else "epochs"
    assert second[length] < first[length]


def test_decoupled_recipes_keep_the_published_settings():
    crt = recipes.compose("cifar100-lt", "crt", "balms").stages[1]
    assert crt.training.iterations == 2_000
    assert (crt.training.optimizer.lr, crt.batch_norm, crt.initialize) == (0.1, "update", "new")
    drw = recipes.compose("cifar100-lt", "ldam-drw").stages[0].loss.build(losses, [500, 5])
    switched = []
    for epoch in range(200):
        drw.set_progress(epoch / 200)
        switched.append(drw.reweights)
    assert switched.index(True) == 160


class _StopAt:
    """Counter of the steps of a run that requests a stop in a given one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        self.steps, original = 0, TrainState.update

        def update(state: TrainState, *arguments: object) -> None:
            original(state, *arguments)
            self.steps += 1
            if self.steps == step:
                state.context.stop.set()

        monkeypatch.setattr(TrainState, "update", update)


def _fit_stopped(config: Config, folder: Path, data: Dataset, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _StopAt(patch, step)
        with pytest.raises(Interrupted):
            fit(config, folder, data=data, report=False)


UPDATE = (("stages.1.batch_norm", "update"), ("stages.1.training.augment", "crop"))


@pytest.mark.parametrize(
    ("method", "sets"),
    [
        ("crt", ()),
        ("crt", UPDATE),
        ("lws", (("stages.1.training.ema", 0.9),)),
        ("disalign", ()),
        ("weight-balancing", UPDATE),
        ("tau-norm", ()),
        ("ldam-drw", ()),
        ("gcl", ()),
        ("dlsa", ()),
        ("elm", (("stages.0.embedding_loss", {"name": "PullLoss", "pairs": "memory"}),)),
        ("elm-balanced", ()),
        ("dro-lt", ()),
        ("smart", (("stages.0.transfer", {"name": "SemanticTransfer", "start": 0.5}),)),
        ("isda", ()),
        ("risda", (("stages.1.training.batch_size", 64), ("stages.1.training.optimizer.lr", 0.1))),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(str(path) for path, _ in value) or "plain",
)
def test_stopped_in_either_stage_and_resumed_the_bits_are_the_same(method, sets, digits, tmp_path, monkeypatch):
    config = short(method, 2, *sets)
    with monkeypatch.context() as patch:
        counter = _StopAt(patch, -1)
        unbroken = fit(config, tmp_path / "unbroken", data=digits, report=False)
    per_epoch = 6  # 376 images in batches of 64
    assert counter.steps in (2 * per_epoch, 4 * per_epoch)
    for step in {2, counter.steps // 2, counter.steps - per_epoch + 2, counter.steps}:
        folder = tmp_path / f"stopped-{step}"
        _fit_stopped(config, folder, digits, step, monkeypatch)
        resumed = fit(config, folder, data=digits, resume=True, report=False)
        assert bits(folder) == bits(unbroken.folder), f"stopped in step {step}"
        assert resumed.result["chosen"] == unbroken.result["chosen"]
        assert resumed.scores == unbroken.scores


def test_what_an_earlier_stage_chose_survives_a_stop_in_a_later_one(digits, tmp_path, monkeypatch):
    retrain = {"name": "Retrain", "initialize": "keep", "training": {"epochs": 1}}
    mapping = yaml.safe_load(recipes.to_yaml(short("tau-norm")))
    config = recipes.typed({**mapping, "stages": [*mapping["stages"], retrain]})
    _fit_stopped(config, tmp_path / "run", digits, 14, monkeypatch)  # in the third stage
    result = fit(config, tmp_path / "run", data=digits, resume=True, report=False).result
    assert 0 <= result["chosen"]["TauNormalization"]["tau"] <= 2


def test_impossible_stages_are_refused_before_the_first_one_runs(tmp_path):
    without = short("tau-norm", 2, ("data.val_share", 0.0))
    with pytest.raises(InputError, match="set `val_share` to 0"):
        fit(without, tmp_path / "tau", report=False)
    cosine = short("lws", 2, ("model.head", "CosineHead"))
    with pytest.raises(
        InputError, match="LWSHead can start only from the weights of a LinearHead, not from those of a CosineHead"
    ):
        fit(cosine, tmp_path / "lws", report=False)
    assert not (tmp_path / "tau" / "log.jsonl").exists()
    assert not (tmp_path / "lws" / "log.jsonl").exists()


def rates(training, steps_per_epoch=1):
    """Return the learning rate of each epoch."""
    schedule, epochs = training.schedule, training.in_epochs(steps_per_epoch).epochs
    factors = (learning_rate_factor(schedule, epoch, 0, epochs, steps_per_epoch) for epoch in range(epochs))
    return [training.optimizer.lr * factor for factor in factors]


def test_influence_balanced_keeps_the_published_schedule():
    (stage,) = recipes.compose("cifar100-lt", "influence-balanced").stages
    assert stage.loss.options == {"balance_from": 0.5}
    lrs = rates(stage.training)
    assert len(lrs) == 200
    assert [lrs[e] for e in (0, 5, 99, 100, 159, 160, 179, 180, 199)] == pytest.approx(
        [0.02, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5, 1e-7, 1e-7]
    )


def test_gcl_keeps_the_published_pipeline():
    config = recipes.compose("cifar100-lt", "gcl")
    first, second = config.stages
    assert config.model.head.options == {"scale": 1.0, "unit_start": True}
    assert (first.mixing.name, second.mixing.name) == ("Mixup", "Mixup")
    assert (first.training.batch_size, second.training.batch_size) == (64, 64)
    assert (first.training.augment, second.training.augment) == ("crop-flip", "crop-flip")
    assert [rates(first.training)[e] for e in (4, 159, 160, 180)] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert second.loss.options == {"margin": 0.1, "scale": 20.0, "gamma": 1.0}
    assert (second.sampler.name, second.initialize, second.batch_norm) == ("ClassBalancedSampler", "keep", "freeze")
    lrs = rates(second.training)
    assert lrs == pytest.approx([0.1 * 0.1 * 0.1 * (1 + math.cos(epoch / 30 * math.pi)) for epoch in range(30)])


def test_ldam_and_gcl_start_with_class_vectors_of_length_1():
    for method in ("ldam", "ldam-drw", "gcl"):
        assert recipes.compose("cifar100-lt", method).model.head.options["unit_start"] is True


def test_the_second_stage_of_balms_steps_its_scheduler_before_each_epoch():
    """The authors' `CosineAnnealingLR` of 91 epochs is at epoch 1 of 91 in the first and at 0 in the last epoch."""
    for data, method in (("cifar100-lt", "balms"), ("cifar100-lt", "bs-decoupled")):
        lrs = rates(recipes.compose(data, method, "balms").stages[1].training, 22)
        assert lrs == pytest.approx([0.05 * (1 + math.cos(math.pi * epoch / 91)) for epoch in range(1, 92)])
