"""Bilevel training against the six steps of the authors, written out with copies of the head and autograd."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail import _random as randomness
from longtail.config.schema import OptimizerConfig, ScheduleConfig, TrainingConfig
from longtail.data.dataset import Part
from longtail.data.resident import ResidentImages
from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, CrossEntropy, FocalLoss, LogitAdjustedLoss
from longtail.losses.base import Loss
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier
from longtail.models.heads import CosineHead, LinearHead
from longtail.samplers import ClassBalancedSampler, MetaSampler
from longtail.training.balms.bilevel import train_bilevel
from longtail.training.balms.lookahead import SGDStep, call_with, sgd_lookahead, velocities_of
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context, Interrupted
from longtail.training.features import FeatureImages
from longtail.training.log import RunLog
from longtail.training.step import Step

COUNTS = (40, 15, 5)
TARGETS = torch.repeat_interleave(torch.tensor(COUNTS))
PLAIN = TrainingConfig(
    epochs=2,
    batch_size=16,
    optimizer=OptimizerConfig(lr=0.3, weight_decay=1e-3, nesterov=True),
    schedule=ScheduleConfig(kind="cosine"),
)


def features() -> Tensor:
    """Return learnable embeddings (60, 6) in float64."""
    generator = torch.Generator().manual_seed(0)
    centres_CD = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    return centres_CD[TARGETS] + torch.randn(60, 6, generator=generator, dtype=torch.float64)


def feature_part() -> Part:
    return Part(FeatureImages(features()), TARGETS)


def image_part() -> Part:
    generator = torch.Generator().manual_seed(0)
    return Part(ResidentImages(torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=generator)), TARGETS)


def classifier(head_class: type[nn.Module] = LinearHead, num_classes: int = 3) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(small_net(width=3), head_class(6, num_classes))
    model.backbone.requires_grad_(False)
    return model


@pytest.fixture
def context(tmp_path: Path) -> Context:
    store, log = CheckpointStore(tmp_path / "checkpoint"), RunLog(tmp_path / "log.jsonl")
    return Context(seed=1, stage=1, split="x", device=torch.device("cpu"), store=store, log=log)


def run(
    model: Classifier, context: Context, settings: TrainingConfig = PLAIN, *, images: bool = False, **options: int
) -> MetaSampler:
    sampler = MetaSampler(TARGETS, lr=0.05)
    step = Step(model, BalancedSoftmax(COUNTS), "freeze" if images else "skip")
    part = image_part() if images else feature_part()
    train_bilevel(step, part, sampler, settings, context, meta_batch_size=options.pop("meta_batch_size", 12), **options)
    return sampler


def weights(model: nn.Module) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


LOSSES = {
    "balanced": partial(BalancedSoftmax, COUNTS),
    "plain": partial(CrossEntropy, COUNTS),
    "adjusted": partial(LogitAdjustedLoss, COUNTS, tau=0.5),
    "focal": partial(FocalLoss, COUNTS),
    "absent": partial(BalancedSoftmax, (*COUNTS, 0), absent="mask"),
}


@pytest.mark.parametrize("head_class", [LinearHead, CosineHead])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("make_loss", LOSSES.values(), ids=LOSSES)
def test_equals_the_six_steps_of_the_authors(
    context: Context, head_class: type[nn.Module], nesterov: bool, make_loss: Callable[..., Loss]
) -> None:
    settings = replace(PLAIN, optimizer=replace(PLAIN.optimizer, nesterov=nesterov))
    loss, embeddings_ND = make_loss(reduction="none"), features()
    model = classifier(head_class, len(loss.counts_C)).double()
    head, sampler = copy.deepcopy(model.head), MetaSampler(TARGETS, lr=0.05)
    train_bilevel(Step(model, make_loss(), "skip"), feature_part(), sampler, settings, context, meta_batch_size=12)

    learner, balanced = MetaSampler(TARGETS, lr=0.05), ClassBalancedSampler(TARGETS, num_samples=12)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-3, nesterov=nesterov)
    meta_optimizer = torch.optim.Adam([learner.logits_K], lr=0.05, betas=(0.9, 0.99))
    stream = randomness.key("stream", context.seed, context.stage)
    for index in range(8):
        epoch, step = divmod(index, 4)
        optimizer.param_groups[0]["lr"] = 0.3 * 0.5 * (1 + math.cos(math.pi * index / 8))
        draw = learner.draw_batch(16, randomness.generator("bilevel", "draw", stream, epoch, step))  # 1
        x_BD, y_B = embeddings_ND[draw.indices_B], TARGETS[draw.indices_B]
        samples_B = draw.weights(learner.log_rates)
        ahead = sgd_lookahead(  # 2 and 3
            dict(head.named_parameters()),
            lambda p, x=x_BD, y=y_B, s=samples_B: (loss(call_with(head, p, x), y) * s).mean(),
            SGDStep.next_of(optimizer),
            velocities_of(optimizer, head),
        )
        meta = balanced.draw(randomness.generator("bilevel", "meta", stream, epoch, step), 0.0)
        meta_loss = F.cross_entropy(call_with(head, ahead, embeddings_ND[meta]), TARGETS[meta])  # 4
        (learner.logits_K.grad,) = torch.autograd.grad(meta_loss, learner.logits_K)  # 5
        meta_optimizer.step()
        optimizer.zero_grad()
        loss(head(x_BD), y_B).mean().backward()  # 6
        optimizer.step()
    torch.testing.assert_close(dict(model.head.state_dict()), dict(head.state_dict()), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(sampler.logits_K, learner.logits_K, rtol=1e-4, atol=1e-6)
    assert (sampler.rates - 0.5).abs().max() > 0.02


def test_the_backbone_stays_as_it_is(context: Context) -> None:
    model = classifier()
    before = copy.deepcopy(model.backbone.state_dict())
    run(model, context, images=True)
    torch.testing.assert_close(dict(model.backbone.state_dict()), dict(before), rtol=0, atol=0)


def test_in_training_mode_batch_norm_follows_the_images_and_the_weights_stay(context: Context) -> None:
    model = classifier()
    before = copy.deepcopy(model.backbone)
    step = Step(model, BalancedSoftmax(COUNTS), "train")
    train_bilevel(step, image_part(), MetaSampler(TARGETS), PLAIN, context)
    assert all(torch.equal(a, b) for a, b in zip(model.backbone.parameters(), before.parameters(), strict=True))
    assert not torch.equal(weights(model.backbone), weights(before))


@pytest.mark.parametrize("images", [False, True])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(context: Context, images: bool) -> None:
    first, second, third = classifier(), classifier(), classifier()
    settings = replace(PLAIN, augment="crop" if images else "none")
    rates = [
        run(model.float() if images else model.double(), replace(context, seed=seed), settings, images=images).logits_K
        for model, seed in ((first, 1), (second, 1), (third, 2))
    ]
    assert torch.equal(weights(first), weights(second))
    assert torch.equal(rates[0], rates[1])
    assert not torch.equal(weights(first), weights(third))
    assert not torch.equal(rates[0], rates[2])


NEVER = -1


class StopAfter(nn.Module):
    """Loss that requests a stop in a given step."""

    def __init__(self, step: int, context: Context) -> None:
        super().__init__()
        self.loss, self.left, self.context = BalancedSoftmax(COUNTS), step, context

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            self.context.stop.set()
        value: Tensor = self.loss(logits, targets)
        return value


@pytest.mark.parametrize(("stop", "draw_ahead"), [(1, 1), (4, 1), (6, 1), (3, 2), (5, 2)])
def test_an_interrupted_run_resumes_to_the_same_bits(context: Context, stop: int, draw_ahead: int) -> None:
    def learn(model: Classifier, stop: int, context: Context) -> MetaSampler:
        step, sampler = Step(model, StopAfter(stop, context), "freeze"), MetaSampler(TARGETS, lr=0.05)
        settings = replace(PLAIN, augment="crop")
        train_bilevel(step, image_part(), sampler, settings, context, meta_batch_size=12, draw_ahead=draw_ahead)
        return sampler

    unbroken, broken, resumed = classifier(), classifier(), classifier()
    expected = learn(unbroken, NEVER, context)
    with pytest.raises(Interrupted):
        learn(broken, stop, context)
    context.stop.clear()
    nn.init.zeros_(resumed.head.weight)  # so that every weight must come from the checkpoint
    again = learn(resumed, NEVER, replace(context, saved=context.store.load()))
    assert torch.equal(weights(resumed), weights(unbroken))
    assert again.state_dict() == expected.state_dict()


def test_the_log_holds_the_rates(context: Context) -> None:
    sampler = run(classifier().double(), context)
    assert [(row["stage"], row["epoch"]) for row in context.log.rows] == [(1, 0), (1, 1)]
    assert context.log.rows[-1]["rates"] == pytest.approx(sampler.rates.tolist(), abs=1e-4)


def test_drawing_ahead_draws_by_older_rates_and_the_record_stays_with_its_batch(context: Context) -> None:
    now, ahead = run(classifier().double(), context), run(classifier().double(), context, draw_ahead=4)
    assert not torch.equal(now.logits_K, ahead.logits_K)
    torch.testing.assert_close(now.logits_K, ahead.logits_K, atol=0.1, rtol=0)


def test_softmax_pulls_the_rates_further_apart_than_balanced_softmax(context: Context) -> None:
    """Supplement, Fig. 1: with plain softmax the sampler must balance alone, with Balanced Softmax hardly."""
    settings = replace(PLAIN, epochs=40)
    variances = {}
    for loss in (CrossEntropy, BalancedSoftmax):
        sampler = MetaSampler(TARGETS, lr=0.05)
        step = Step(classifier().double(), loss(COUNTS), "skip")
        train_bilevel(step, feature_part(), sampler, settings, context, meta_batch_size=32)
        variances[loss] = float(sampler.rates.var())
        if loss is CrossEntropy:
            assert sampler.rates[0] < sampler.rates[2]
    assert variances[BalancedSoftmax] < 0.5 * variances[CrossEntropy]


@pytest.mark.parametrize("options", [{"meta_batch_size": 0}, {"draw_ahead": 0}])
def test_refuses_sizes_below_one(context: Context, options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be >= 1"):
        run(classifier().double(), context, **options)
