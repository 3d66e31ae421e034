"""Mixing in the training loop: partners, epochs without mixing, and the same result after a resume."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from longtail import augment
from longtail.augment import CMO, CutMix, Mixup, Remix
from longtail.augment.mixer import Mixer
from longtail.augment.mixing import Mixing
from longtail.config.schema import OptimizerConfig, ScheduleConfig, TrainingConfig
from longtail.data.dataset import Part
from longtail.data.resident import ResidentImages
from longtail.errors import InputError
from longtail.losses import CrossEntropy
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier
from longtail.models.heads import LinearHead
from longtail.samplers import InstanceSampler
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context, Interrupted
from longtail.training.feed import EpochFeed
from longtail.training.log import RunLog
from longtail.training.loop import train
from longtail.training.step import Step

COUNTS = (12, 5, 3)
TARGETS = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
CPU = torch.device("cpu")
SETTINGS = TrainingConfig(
    epochs=3,
    batch_size=8,
    augment="crop-flip",
    optimizer=OptimizerConfig(lr=0.05, weight_decay=1e-3),
    schedule=ScheduleConfig(kind="constant"),
)
EVERY = {
    "Mixup": Mixup(COUNTS, alpha=0.4),
    "Remix": Remix(COUNTS),
    "CutMix": CutMix(COUNTS),
    "CMO": CMO(COUNTS, off_first=1, off_last=0),
}
every = pytest.mark.parametrize("one", EVERY.values(), ids=list(EVERY))


@pytest.fixture
def data() -> Part:
    generator = torch.Generator().manual_seed(0)
    return Part(ResidentImages(torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=generator)), TARGETS)


@pytest.fixture
def context(tmp_path) -> Context:
    store, log = CheckpointStore(tmp_path / "checkpoint"), RunLog(tmp_path / "log.jsonl")
    return Context(seed=1, stage=0, split="x", device=CPU, store=store, log=log)


def fresh(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(small_net(width=4), LinearHead(8, 3))


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in model.state_dict().values()])


class Watch(nn.Module):
    """Cross-entropy that records its targets and can request a stop in a given step."""

    def __init__(self, context: Context, stop_after: int = 0) -> None:
        super().__init__()
        self.context, self.left, self.seen = context, stop_after, []

    def forward(self, logits, targets):
        self.seen.append(targets)
        self.left -= 1
        if self.left == 0:
            self.context.stop.set()
        return CrossEntropy(COUNTS)(logits, targets)


def run(model: Classifier, data: Part, context: Context, one: Mixing | None, stop_after: int = 0) -> list:
    watch = Watch(context, stop_after)
    train(Step(model, watch), data, InstanceSampler(data.targets), SETTINGS, context, mixing=one)
    return watch.seen


def test_all_that_is_public_is_tested_here():
    assert sorted(EVERY) == sorted(augment.MIXINGS)


@pytest.mark.parametrize("one", [EVERY["Mixup"], EVERY["CutMix"], EVERY["Remix"]])
def test_partners_are_the_same_batch_in_another_order(one):
    mix = Mixer(one, TARGETS, (50, 8), 3, CPU).of_epoch(7, 0)
    assert mix.order_SB is None
    assert torch.equal(mix.partners_SB.sort(1).values, torch.arange(8).expand(50, 8))
    assert len(mix.partners_SB.unique(dim=0)) == 50
    itself = float((mix.partners_SB == torch.arange(8)).float().mean())
    assert itself == pytest.approx(1 / 8, abs=0.05)  # as likely as any other


def test_partners_of_cmo_are_read_in_addition_to_the_batch():
    one = EVERY["CMO"]
    mix = Mixer(one, TARGETS, (3, 8), 3, CPU).of_epoch(7, 1)
    assert mix.order_SB.shape == (3, 8)
    assert torch.equal(mix.partners_SB[2], torch.arange(8, 16))
    assert Mixer(one, TARGETS, (3, 8), 3, CPU).of_epoch(7, 0) is None


@every
def test_an_epoch_is_a_function_of_stream_and_epoch(one):
    first, again = (Mixer(one, TARGETS, (3, 8), 4, CPU).of_epoch(7, 1) for _ in range(2))
    assert torch.equal(first.numbers_SBR, again.numbers_SBR)
    assert torch.equal(first.partners_SB, again.partners_SB)
    for other in (Mixer(one, TARGETS, (3, 8), 4, CPU).of_epoch(*place) for place in ((7, 2), (8, 1))):
        assert not torch.equal(first.numbers_SBR, other.numbers_SBR)
    numbers = first.numbers_SBR.flatten(0, 1)
    assert len(numbers.unique(dim=0)) == 24  # no two images share theirs


def test_foregrounds_that_instances_draw_are_not_the_backgrounds(data, context):
    one = CMO(COUNTS, off_first=0, off_last=0, foregrounds="InstanceSampler")
    plan = EpochFeed(data, InstanceSampler(TARGETS), replace(SETTINGS, augment="none"), context, one).plan(0)
    assert float((plan.order_SB[:, :8] == plan.order_SB[:, 8:]).float().mean()) < 0.3


@every
def test_the_batch_itself_is_read_and_augmented_as_without_mixing(data, context, one):
    arguments = (data, InstanceSampler(TARGETS), SETTINGS, context)
    plain, mixed = EpochFeed(*arguments).plan(1), EpochFeed(*arguments, one).plan(1)
    assert torch.equal(mixed.order_SB[:, :8], plain.order_SB)
    assert torch.equal(mixed.uniforms_SBR[:, :8], plain.uniforms_SBR)
    assert torch.equal(mixed.targets_SB, TARGETS[mixed.order_SB])
    width = 16 if one.partner_sampler else 8
    assert mixed.order_SB.shape == (3, width)
    added = mixed.uniforms_SBR[:, 8:]
    assert not any(torch.equal(row, other) for row in added.flatten(0, 1) for other in plain.uniforms_SBR.flatten(0, 1))


def test_a_step_mixes_each_image_with_its_partner():
    one = CMO(COUNTS, off_first=0, off_last=0, probability=1.0)
    mix = Mixer(one, TARGETS, (2, 4), 1, CPU).of_epoch(3, 0)
    images, labels = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 8, 8), torch.tensor([0, 1, 2, 0, 2, 2, 1, 1])
    mixed, soft = mix(1, images, labels)
    expected = one(images[:4], labels[:4], images[4:], labels[4:], mix.numbers_SBR[1])
    assert torch.equal(mixed, expected[0])
    assert torch.equal(soft, expected[1])


@every
def test_labels_are_soft_in_the_epochs_that_mix_and_only_there(data, context, one):
    seen = run(fresh(), data, context, one)
    shapes = [tuple(targets.shape) for targets in seen]
    assert shapes == [(8, 3) if one.acts_in(step // 3, 3) else (8,) for step in range(9)]
    assert context.images == 72  # partners are not counted


@every
def test_it_changes_what_is_learnt_and_the_same_seed_repeats_it(data, context, one):
    models = [fresh() for _ in range(3)]
    for model, used in zip(models, (None, one, one), strict=True):
        run(model, data, context, used)
    plain, first, second = map(weights, models)
    assert torch.equal(first, second)
    assert not torch.equal(first, plain)


@every
@pytest.mark.parametrize("step", [2, 4, 8])
def test_stopped_in_a_step_and_resumed_it_ends_in_the_same_bits(data, context, one, step, tmp_path):
    unbroken, broken, other = fresh(), fresh(), fresh(7)
    run(unbroken, data, replace(context, store=CheckpointStore(tmp_path / "other")), copy.deepcopy(one))
    with pytest.raises(Interrupted):
        run(broken, data, context, copy.deepcopy(one), step)
    context.stop.clear()
    run(other, data, replace(context, saved=context.store.load()), copy.deepcopy(one))
    assert torch.equal(weights(other), weights(unbroken))


def test_a_stage_too_short_for_the_mixing_to_act_is_refused(data, context):
    words = "CMO is off in the first 3 and last 3 epochs, which leaves none of 3. Train longer"
    with pytest.raises(InputError, match=words):
        run(fresh(), data, context, CMO(COUNTS))
