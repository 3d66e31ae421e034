"""Stages of a detector: what they change, their data order, and resuming them."""

import threading

import pytest
import torch

from longtail.component import Component
from longtail.config.training import OptimizerConfig, TrainingConfig
from longtail.detection import View, shapes_lt
from longtail.detection.sampling import build_image_sampler
from longtail.detection.settings import (
    DetectionTrain,
    DetectorConfig,
    FinetuneClassifier,
    compose,
    methods,
    recipes,
)
from longtail.detection.training import DetectionSource, finetune_classifier, image_rates, train_detector
from longtail.errors import InputError
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context, Interrupted
from longtail.training.log import RunLog
from tests.detection.tiny import tiny_detector

SETTINGS = TrainingConfig(
    epochs=1, batch_size=4, precision="fp32", optimizer=OptimizerConfig(lr=0.02, weight_decay=1e-4), clip_norm=5.0
)
HEAD = TrainingConfig(epochs=2, batch_size=4, optimizer=OptimizerConfig(lr=0.02))


@pytest.fixture(scope="module")
def source():
    view = View(short_sides=(32, 40), test_side=32, max_side=64)
    return DetectionSource(shapes_lt("train", images=12), view, workers=0)


def context_in(folder, stage=0):
    folder.mkdir(exist_ok=True)
    return Context(
        seed=0,
        stage=stage,
        split="",
        device=torch.device("cpu"),
        store=CheckpointStore(folder / "checkpoint"),
        log=RunLog(folder / "log.jsonl"),
    )


def detector(classifier="sigmoid"):
    return tiny_detector(classifier, num_classes=12)


def stop_after(context, steps):
    """Request a stop after a number of looks of the loop."""

    class Counter(threading.Event):
        looks = 0

        def is_set(self):
            self.looks += 1
            return self.looks > steps

    context.stop = Counter()


def interrupted(run, folder, stage, steps=1):
    """Run a stage that is stopped after a step, and continue it in a new process state."""
    context = context_in(folder, stage)
    stop_after(context, steps)
    with pytest.raises(Interrupted):
        run(context)
    again = context_in(folder, stage)
    again.saved = again.store.load()
    assert again.saved["step"] > 0
    torch.manual_seed(99)  # a new process has another random state
    return again


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(first.values(), second.values(), strict=True))


@pytest.mark.parametrize("classifier", ["softmax", "seesaw"])
def test_training_resumes_to_the_same_bits(classifier, source, tmp_path):
    stage = DetectionTrain(Component(classifier), training=SETTINGS)
    whole = detector("softmax")
    start = {name: value.clone() for name, value in whole.state_dict().items()}
    train_detector(whole, source, stage, context_in(tmp_path / "whole"))
    assert not same(start, whole.state_dict())
    part = detector("softmax")
    context = interrupted(lambda c: train_detector(part, source, stage, c), tmp_path / "part", 0)
    resumed = detector("softmax")
    train_detector(resumed, source, stage, context)
    assert same(whole.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("cache", [True, False])
def test_the_reweigher_trains_the_classifier_alone_and_resumes(cache, source, tmp_path):
    stage = FinetuneClassifier(training=HEAD, cache=cache, reweigh=True, meta_batch_size=3, meta_lr=0.1)
    whole = detector()
    start = {name: value.clone() for name, value in whole.state_dict().items()}
    context = context_in(tmp_path / "whole", 1)
    reweigher = finetune_classifier(whole, source, stage, context)
    changed = {name for name, value in whole.state_dict().items() if not torch.equal(value, start[name])}
    assert changed == {f"net.roi_heads.box_predictor.cls_score.{part}" for part in ("weight", "bias")}
    assert whole.head_component.name == "balanced-sigmoid"
    assert all(parameter.requires_grad for parameter in whole.parameters())
    assert len(context.log.rows[-1]["rates"]) == 12
    assert (reweigher.rates != 0.5).any()
    context = interrupted(lambda c: finetune_classifier(detector(), source, stage, c), tmp_path / "part", 1)
    resumed = detector()
    again = finetune_classifier(resumed, source, stage, context)
    assert same(whole.state_dict(), resumed.state_dict())
    assert torch.equal(reweigher.rates, again.rates)


def test_plain_fine_tuning(source, tmp_path):
    model = detector()
    before = model.predictor.cls_score.weight.detach().clone()
    stage = FinetuneClassifier(training=HEAD, cache=True)
    assert finetune_classifier(model, source, stage, context_in(tmp_path)) is None
    assert not torch.equal(before, model.predictor.cls_score.weight)


@pytest.mark.parametrize("name", ["InstanceSampler", "RepeatFactorSampler", "ClassAwareSampler"])
def test_image_samplers(name):
    labels = [[0]] * 40 + [[0, 1]] * 4 + [[2]] + [[]]
    order = build_image_sampler(Component(name), labels).order(seed=0, epoch=0)
    drawn = order.bincount(minlength=46)
    if name == "InstanceSampler":
        assert (drawn == 1).all()
    elif name == "RepeatFactorSampler":
        assert drawn[44] > 1
        assert drawn[45] == 1
    else:
        assert drawn[45] == 0
        assert drawn[44] == pytest.approx(46 / 3, abs=4)


def test_rates_of_the_meta_batch():
    assert image_rates([[0], [0, 1], [], [0]], 2).tolist() == pytest.approx([4 / 3, 4, 0, 4 / 3])


def test_every_method_composes_with_every_recipe():
    for recipe in recipes():
        for method in methods():
            config = compose("some.json", method, recipe)
            assert (config.finetune is None) == (method not in ("bs-decoupled", "balms"))
    lvis = compose("lvis.json", "balms", "lvis-r50")
    assert (lvis.train.training.iterations, lvis.finetune.training.iterations) == (90_000, 22_000)
    assert lvis.train.sampler == Component("RepeatFactorSampler", {"threshold": 0.001})
    assert compose("lvis.json", "class-aware", "lvis-r50").train.sampler == Component("ClassAwareSampler")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: compose(method="balmss"), "did you mean balms"),
        (lambda: compose(recipe="lvis"), "recipe of a detector"),
        (lambda: compose(changes=[{"model": {"architecture": "yolo"}}]), "detector 'yolo'"),
        (lambda: compose(changes=[{"train": {"classifier": "CrossEntropy"}}]), "box classifier"),
        (lambda: compose(method="balms", changes=[{"train": {"classifier": "softmax"}}]), "softmax outputs"),
        (lambda: FinetuneClassifier(Component("balanced-softmax"), reweigh=True), "sigmoid outputs"),
        (lambda: FinetuneClassifier(training=SETTINGS), "clip_norm"),
        (lambda: DetectionTrain(training=TrainingConfig(augment="flip")), "`augment` must be none"),
        (lambda: DetectorConfig(weights="coco"), "`weights` must be null"),
        (lambda: DetectorConfig(anchors=(8,)), "`anchors` must hold four"),
        (lambda: build_image_sampler(Component("InstanceSampler"), [[], []]), "no image has an object"),
        (lambda: DetectorConfig(nms_threshold=2.0), "`nms_threshold`"),
    ],
)
def test_invalid_settings(build, message):
    with pytest.raises(InputError, match=message):
        build()
