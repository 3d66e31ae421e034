"""The second stage of BALMS in a run: on features and on images, resumed, restored and refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtail.component import Component
from longtail.config import recipes
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.models.classifier import Classifier, build_classifier
from longtail.run.fit import fit
from longtail.run.run import Run
from longtail.stages.meta import RetrainMeta
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.log import RunLog, read_rows


def config(**settings: str) -> Config:
    """Return one epoch of plain training and two of the meta stage, with settings of the latter by dotted path."""
    changes = {"training.epochs": 2, **settings}
    paths = [(f"stages.1.{path}", value) for path, value in changes.items()]
    return recipes.compose("digits-lt", "balms", changes=[{"training": {"epochs": 1}, "set": paths}])


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data(config().data, torch.device("cpu"))


def context(folder: Path) -> Context:
    store, log = CheckpointStore(folder / "checkpoint"), RunLog(folder / "log.jsonl")
    return Context(seed=0, stage=1, split="x", device=torch.device("cpu"), store=store, log=log)


def model_of(data: Dataset) -> Classifier:
    return build_classifier(config().model, data, 0)


@pytest.mark.parametrize(
    "stage", [{}, {"training.augment": "crop", "batch_norm": "update"}], ids=["features", "images"]
)
def test_a_run_learns_the_rates_and_writes_them(tmp_path: Path, data: Dataset, stage: dict[str, str]) -> None:
    run = fit(config(**stage), tmp_path / "run", data=data, report=not stage)
    rates = json.loads((run.folder / "result.json").read_text())["chosen"]["sample_rates"]
    assert len(rates) == 10
    assert all(0 < rate < 1 and rate != 0.5 for rate in rates)
    last = read_rows(run.folder / "log.jsonl")[-1]
    assert (last["stage"], last["epoch"]) == (1, 1)
    assert last["rates"] == pytest.approx(rates, abs=1e-4)
    assert (run.folder / "report.html").exists() == (not stage)
    assert isinstance(Run(run.folder).trained(torch.device("cpu")).model, Classifier)


@pytest.mark.parametrize("initialize", ["new", "keep"])
def test_the_head_starts_from_new_or_kept_weights(tmp_path: Path, data: Dataset, initialize: str) -> None:
    model = model_of(data)
    before = model.head.weight.detach().clone()
    stage = RetrainMeta(initialize=initialize)  # type: ignore[arg-type]
    tiny = replace(stage.training, epochs=1, batch_size=512, optimizer=replace(stage.training.optimizer, lr=1e-9))
    replace(stage, training=tiny)(model, data, context(tmp_path))
    assert torch.allclose(model.head.weight, before, atol=1e-6) == (initialize == "keep")


def test_the_backbone_learns_nothing_and_may_learn_afterwards(tmp_path: Path, data: Dataset) -> None:
    model = model_of(data)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    RetrainMeta(training=replace(RetrainMeta().training, epochs=1))(model, data, context(tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.backbone.parameters())
    assert not model.training


def test_features_are_computed_once_for_two_stages(tmp_path: Path, data: Dataset) -> None:
    shared, model = context(tmp_path), model_of(data)
    stage = RetrainMeta(training=replace(RetrainMeta().training, epochs=1))
    stage(model, data, shared)
    before = shared.cache["features of train"][1]
    stage(model, data, shared)
    assert shared.cache["features of train"][1] is before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": Component("InstanceSampler")}, "must be a MetaSampler, got InstanceSampler; use Retrain"),
        ({"training": replace(RetrainMeta().training, clip_norm=1.0)}, "supports neither `clip_norm` nor `ema`"),
        ({"training": replace(RetrainMeta().training, ema=0.9)}, "supports neither `clip_norm` nor `ema`"),
        ({"meta_batch_size": 0}, "`meta_batch_size` must be >= 1, got 0"),
        ({"draw_ahead": 0}, "`draw_ahead` must be >= 1, got 0"),
        ({"loss": Component("BalancedSoftmx")}, "did you mean"),
        ({"sampler": Component("MetaSampler", {"levle": "class"})}, "levle"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        RetrainMeta(**options)


def test_the_recipes_are_those_of_the_supplement() -> None:
    """C.3: 2,000 iterations of 512 for CIFAR, 10 epochs at lr 0.2 for ImageNet-LT, 10 of 128 at 0.01 for Places-LT."""
    cifar = recipes.compose("cifar100-lt", "balms", "balms").stages[1]
    assert (cifar.training.iterations, cifar.training.batch_size) == (2000, 512)
    for data, lr, batch_size in (("imagenet-lt", 0.2, 512), ("places-lt", 0.01, 128)):
        training = recipes.compose(data, "balms").stages[1].training
        assert (training.epochs, training.optimizer.lr, training.batch_size) == (10, lr, batch_size)
    assert cifar.meta_batch_size == 512
    end_to_end = recipes.compose("cifar100-lt", "balms-e2e", "balms").stages
    assert end_to_end == recipes.compose("cifar100-lt", "balanced-softmax", "balms").stages
