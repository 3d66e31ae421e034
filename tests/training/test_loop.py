"""The training loop against a hand-written one, and each of its guarantees."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

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
from longtail.training.log import RunLog
from longtail.training.loop import train
from longtail.training.step import Step

PLAIN = TrainingConfig(
    epochs=2,
    batch_size=8,
    optimizer=OptimizerConfig(lr=0.05, weight_decay=1e-3),
    schedule=ScheduleConfig(kind="constant"),
    precision="fp32",
    channels_last=False,
)


@pytest.fixture
def data() -> Part:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Part(ResidentImages(pixels), torch.arange(20) % 3)


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(small_net(width=4), LinearHead(8, 3))


@pytest.fixture
def context(tmp_path) -> Context:
    store, log = CheckpointStore(tmp_path / "checkpoint"), RunLog(tmp_path / "log.jsonl")
    return Context(seed=1, stage=0, split="x", device=torch.device("cpu"), store=store, log=log)


def run(model: Classifier, data: Part, settings: TrainingConfig, context: Context, **options: object) -> None:
    step = Step(model, CrossEntropy([7, 7, 6]))
    train(step, data, InstanceSampler(data.targets), settings, context, **options)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in model.state_dict().values()])


def test_equals_a_loop_written_by_hand(data, model, context):
    reference = copy.deepcopy(model).train()
    run(model, data, PLAIN, context)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    stream = context_stream(context)
    for epoch in range(2):
        order = InstanceSampler(data.targets).order(stream, epoch)
        filled = torch.cat([order, order])[:24]  # three batches of eight
        for indices in filled.view(3, 8):
            optimizer.zero_grad()
            F.cross_entropy(reference(data.images.pixels[indices].float()), data.targets[indices]).backward()
            optimizer.step()
    assert torch.allclose(weights(model), weights(reference), atol=1e-5)


def context_stream(context: Context) -> int:
    from longtail import _random as randomness

    return randomness.key("stream", context.seed, context.stage)


def test_the_log_has_a_line_per_epoch_with_the_mean_loss(data, model, context):
    run(model, data, PLAIN, context)
    assert [(row["stage"], row["epoch"]) for row in context.log.rows] == [(0, 0), (0, 1)]
    assert 0 < context.log.rows[0]["loss"] < 3
    assert context.log.rows[0]["images_per_second"] > 0
    assert context.images == 2 * 24


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(data, model, context):
    first, second, third = (copy.deepcopy(model) for _ in range(3))
    run(first, data, PLAIN, context)
    run(second, data, PLAIN, context)
    run(third, data, PLAIN, replace(context, seed=2))
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(third))


def test_global_random_state_before_the_run_does_not_matter(data, model, context):
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    settings = replace(PLAIN, augment="crop-flip")
    run(first, data, settings, context)
    torch.rand(17)
    run(second, data, settings, context)
    assert torch.equal(weights(first), weights(second))


class StopAfter(nn.Module):
    """Cross-entropy that requests a stop in a given step."""

    def __init__(self, step: int, context: Context) -> None:
        super().__init__()
        self.left, self.context, self.plain = step, context, CrossEntropy([7, 7, 6])

    def forward(self, logits, targets):
        self.left -= 1
        if self.left == 0:
            self.context.stop.set()
        return self.plain(logits, targets)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("settings", [PLAIN, replace(PLAIN, ema=0.9, augment="crop-flip", clip_norm=0.5)])
def test_stopped_in_any_step_and_resumed_it_ends_in_the_same_bits(data, model, context, step, settings, tmp_path):
    unbroken, broken = copy.deepcopy(model), copy.deepcopy(model)
    run(unbroken, data, settings, replace(context, store=CheckpointStore(tmp_path / "other")))
    sampler = InstanceSampler(data.targets)
    with pytest.raises(Interrupted):
        train(Step(broken, StopAfter(step, context)), data, sampler, settings, context)
    context.stop.clear()
    again = replace(context, saved=context.store.load())
    torch.manual_seed(7)
    other = Classifier(small_net(width=4), LinearHead(8, 3))  # so that every weight must come from the checkpoint
    run(other, data, settings, again)
    assert torch.equal(weights(other), weights(unbroken))
    whole = RunLog(tmp_path / "unbroken.jsonl")
    run(model, data, settings, replace(context, log=whole, store=CheckpointStore(tmp_path / "third")))
    assert again.log.rows[-1]["loss"] == whole.rows[-1]["loss"]


class Poison(nn.Module):
    """Cross-entropy that becomes NaN in a given step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def forward(self, logits, targets):
        self.left -= 1
        return F.cross_entropy(logits, targets) * (math.nan if self.left == 0 else 1.0)


@pytest.mark.parametrize(
    ("step", "words"), [(2, "epoch 1, step 2; no checkpoint is saved yet"), (5, r"epoch 2, step 2; .*last\.pt")]
)
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(data, model, context, step, words):
    context = replace(context, checkpoint_seconds=0)
    with pytest.raises(InputError, match=words):
        train(Step(model, Poison(step)), data, InstanceSampler(data.targets), PLAIN, context)


def test_the_averaged_weights_are_returned(data, model, context):
    plain, averaged = copy.deepcopy(model), copy.deepcopy(model)
    run(plain, data, PLAIN, context)
    run(averaged, data, replace(PLAIN, ema=0.999), context)
    to_start = (weights(averaged) - weights(model)).norm()
    assert 0 < to_start < 0.2 * (weights(plain) - weights(model)).norm()


def test_clipping_bounds_the_first_step(data, model, context):
    settings = replace(
        PLAIN,
        epochs=1,
        batch_size=20,
        clip_norm=0.01,
        optimizer=OptimizerConfig(lr=1.0, momentum=0.0, weight_decay=0.0),
    )
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    run(model, data, settings, context)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_almost_the_same(data, model, context, precision):
    full = copy.deepcopy(model)
    run(full, data, PLAIN, context)
    run(model, data, replace(PLAIN, precision=precision), context)
    assert torch.isfinite(weights(model)).all()
    assert (weights(model) - weights(full)).norm() < 0.1 * weights(full).norm()


def test_channels_last_changes_the_layout_and_not_the_result(data, model, context):
    plain = copy.deepcopy(model)
    run(plain, data, PLAIN, context)
    seen = []

    def score(scored):
        weight = next(scored.backbone.parameters())
        seen.append(weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous())
        return {"top1": 0.0}

    run(model, data, replace(PLAIN, channels_last=True), replace(context, watch="val"), score=score)
    assert seen == [True, True]
    assert next(model.backbone.parameters()).is_contiguous()  # as a model that is loaded later
    assert torch.allclose(weights(model), weights(plain), atol=1e-4)


def test_a_batch_larger_than_the_data_is_the_whole_data(data, model, context):
    run(model, data, replace(PLAIN, batch_size=1000, epochs=1), context)
    assert context.images == 20


def test_the_paper_protocol_keeps_the_epoch_that_scores_best(data, model, context):
    seen, wanted = [], iter([{"top1": 10.0}, {"top1": 30.0}, {"top1": 20.0}])

    def score(scored):
        seen.append(copy.deepcopy(scored.state_dict()))
        return next(wanted)

    run(model, data, replace(PLAIN, epochs=3), replace(context, watch="test"), score=score)
    assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())


def test_the_honest_protocol_keeps_the_last_epoch_whatever_it_scores(data, model, context):
    seen, wanted = [], iter([{"top1": 30.0}, {"top1": 10.0}])

    def score(scored):
        seen.append(copy.deepcopy(scored.state_dict()))
        return next(wanted)

    run(model, data, PLAIN, replace(context, watch="val"), score=score)
    assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())
    assert [row["val"]["top1"] for row in context.log.rows] == [30.0, 10.0]


def test_a_step_can_be_compiled_as_one_graph(data, model):
    step = torch.compile(Step(model, CrossEntropy([7, 7, 6])), backend="eager", fullgraph=True)
    loss = step(data.images.pixels[:8], data.targets[:8])
    assert torch.allclose(loss, Step(model, CrossEntropy([7, 7, 6]))(data.images.pixels[:8], data.targets[:8]))


class Recording(CrossEntropy):
    """Cross-entropy that records the progress it receives."""

    def __init__(self) -> None:
        super().__init__([7, 7, 6])
        self.received: list[float] = []

    def set_progress(self, progress: float) -> None:
        self.received.append(progress)


def test_the_loss_receives_the_progress_before_each_epoch(data, model, context):
    loss = Recording()
    train(Step(model, loss), data, InstanceSampler(data.targets), replace(PLAIN, epochs=4), context)
    assert loss.received == [0.0, 0.25, 0.5, 0.75]


class Counting(CheckpointStore):
    """Store that counts the checkpoints of each kind."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.places: list[tuple[int, int]] = []

    def save_in_background(self, state):
        self.places.append((state["epoch"], state["step"]))
        super().save_in_background(state)


@pytest.mark.parametrize(
    ("seconds", "places"),
    [(0, [(1, 0), (2, 0)]), (60, []), (1e-9, [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)])],
)
def test_checkpoints_are_written_by_time_or_after_each_epoch(data, model, context, seconds, places, tmp_path):
    store = Counting(tmp_path / "counted")
    run(model, data, PLAIN, replace(context, store=store, checkpoint_seconds=seconds))
    assert store.places == places


def test_the_time_of_an_epoch_with_checkpoints_within_it_is_counted_once(data, model, context, tmp_path):
    context = replace(context, store=Counting(tmp_path / "counted"), checkpoint_seconds=1e-9)
    run(model, data, PLAIN, context)
    assert context.images == 2 * 24
    assert context.seconds == pytest.approx(sum(row["seconds"] for row in context.log.rows), abs=0.01)
    context.store.wait()
    last = context.store.load()
    assert (last["images"], last["seconds"]) == (48, pytest.approx(context.seconds))


def test_a_checkpoint_within_an_epoch_resumes_to_the_same_bits(data, model, context, tmp_path):
    unbroken, broken, settings = copy.deepcopy(model), copy.deepcopy(model), replace(PLAIN, ema=0.9)
    run(unbroken, data, settings, replace(context, store=CheckpointStore(tmp_path / "other")))

    class KilledError(Exception):
        pass

    class KillAfter(Counting):
        def save_in_background(self, state):
            super().save_in_background(state)
            if len(self.places) == 5:
                self.wait()
                raise KilledError

    store = KillAfter(tmp_path / "killed")
    with pytest.raises(KilledError):
        run(broken, data, settings, replace(context, store=store, checkpoint_seconds=1e-9))
    assert store.places[-1] == (1, 2)
    run(model, data, settings, replace(context, saved=store.load()))
    assert torch.equal(weights(model), weights(unbroken))
