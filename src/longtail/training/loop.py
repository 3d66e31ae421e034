"""The training loop, top to bottom: epochs, steps, checkpoints. It knows no method by name.

Order, augmentation and every other random number are functions of (seed, stage, epoch, step), so going on after a kill
is arithmetic and ends in the same bits. Nothing in a step waits for the device, which is read every `LOOK_EVERY` steps.
Shapes: S = steps of an epoch, B = batch (with the partners to mix with, where those are read beside it), R = random
numbers an image may use.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from longtail import _random as randomness
from longtail._logging import Bar, progress_bar
from longtail.augment.mixer import EpochMix, Mixer
from longtail.augment.mixing import Mixing
from longtail.augment.policies import Augment, policy
from longtail.config.convert import to_mapping
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Part
from longtail.errors import InputError
from longtail.samplers.base import Sampler
from longtail.training.context import Context, Interrupted
from longtail.training.schedule import learning_rate_factor
from longtail.training.step import Step

LOOK_EVERY = 100
NEVER = 2**31 - 1  # the first bad step, as long as there is none
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def train(
    step: Step,
    data: Part,
    sampler: Sampler,
    settings: TrainingConfig,
    context: Context,
    score: Callable[[nn.Module], dict[str, float]] | None = None,
    mixing: Mixing | None = None,
) -> None:
    """Train `step.model` in place; where the context holds a checkpoint of this stage, go on from it.

    Args:
        step: model and loss.
        data: images and labels to learn from.
        sampler: gives the order of each epoch.
        settings: epochs, batch size, optimizer, schedule, precision.
        context: seed, device, checkpoints, log.
        score: called with the model after each epoch; its numbers go into the log. Under the paper protocol the epoch
            of the best "top1" is what is kept.
        mixing: makes one image and a soft label of two, after augmentation.

    Raises:
        InputError: if the loss is no longer finite, with the step and the last good checkpoint.
        Interrupted: if the user asked to stop; the state is saved.
    """
    batch = min(settings.batch_size, sampler.num_samples)
    steps = -(-sampler.num_samples // batch)
    settings = settings.in_epochs(steps)
    prepare(step, settings, context)
    state = TrainState(step, settings, context)
    augment = policy(settings.augment).to(context.device)
    shape = (steps, batch)
    mixer = None if mixing is None else Mixer(mixing, data.targets, shape, settings.epochs, context.device)
    total, done = settings.epochs * steps, state.epoch * steps + state.step
    with progress_bar("training", total, done) as bar:
        for epoch in range(state.epoch, settings.epochs):
            step.set_progress(epoch / settings.epochs)
            started, first = time.perf_counter(), state.step
            plan = Plan.of_epoch(data, sampler, augment, shape, settings, context, epoch, mixer)
            for index, images, uniforms, targets in plan.batches(data, first, augment.reader_uniforms > 0):
                factor = learning_rate_factor(settings.schedule, epoch, index, settings.epochs, steps)
                torch.manual_seed(randomness.key("step", context.seed, context.stage, epoch, index))
                state.update(*plan.mixed(index, augment(images, uniforms), targets), settings.optimizer.lr * factor)
                bar.advance()
                if (index + 1) % LOOK_EVERY == 0 or index + 1 == steps:
                    look(state, bar, settings)
                if context.stop.is_set() and index + 1 < steps:
                    context.add_time(time.perf_counter() - started, (index + 1 - first) * batch)
                    save_and_stop(state, bar, settings)
            seconds, images_seen = time.perf_counter() - started, (steps - first) * batch
            context.add_time(seconds, images_seen)
            finish_epoch(state, context, score, settings.optimizer.lr * factor, images_seen / seconds, seconds)
            if context.stop.is_set():
                raise Interrupted
    state.hand_over()


@dataclass(frozen=True)
class Plan:
    """All that is random about an epoch, drawn before it begins.

    Args:
        order_SB: which images, on the CPU.
        uniforms_SBR: random numbers for augmentation, on the CPU.
        targets_SB: labels, on the device.
        device: where batches go.
        mix: how the images of each batch are mixed; None leaves them and their labels as they are.
    """

    order_SB: Tensor
    uniforms_SBR: Tensor
    targets_SB: Tensor
    device: torch.device
    mix: EpochMix | None = None

    @classmethod
    def of_epoch(
        cls,
        data: Part,
        sampler: Sampler,
        augment: Augment,
        shape: tuple[int, int],
        settings: TrainingConfig,
        context: Context,
        epoch: int,
        mixer: Mixer | None = None,
    ) -> "Plan":
        """The plan of an epoch; the last batch is filled up from the start of the order, so that all have one shape."""
        stream = randomness.key("stream", context.seed, context.stage)
        order_M = sampler.order(stream, epoch, epoch / settings.epochs)
        order_SB = order_M[torch.arange(shape[0] * shape[1]) % len(order_M)].view(shape)
        uniforms_SBR = randomness.uniforms((*shape, augment.num_uniforms), "augment", stream, epoch)
        mix = None if mixer is None else mixer.of_epoch(stream, epoch)
        if mix is not None and mix.order_SB is not None:
            beside_SBR = randomness.uniforms(tuple(uniforms_SBR.shape), "augment-partners", stream, epoch)
            order_SB = torch.cat([order_SB, mix.order_SB], dim=1)
            uniforms_SBR = torch.cat([uniforms_SBR, beside_SBR], dim=1)
        return cls(order_SB, uniforms_SBR, data.targets[order_SB].to(context.device), context.device, mix)

    def mixed(self, index: int, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What the net sees in a step, from augmented images: mixed, with soft labels, where the epoch mixes."""
        return (images, targets) if self.mix is None else self.mix(index, images, targets)

    def batches(self, data: Part, first: int, random_view: bool) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """Step, images, random numbers and labels, from the step `first` on; `random_view` lets the reader crop."""
        uniforms_SBR = self.uniforms_SBR.to(self.device)
        images = data.images.batches(self.order_SB[first:], self.uniforms_SBR[first:] if random_view else None)
        for index, images_BCHW in enumerate(images, first):
            yield index, images_BCHW, uniforms_SBR[index], self.targets_SB[index]


class TrainState:
    """All that changes during a stage: weights, optimizer, averages, running sums and the place."""

    def __init__(self, step: Step, settings: TrainingConfig, context: Context) -> None:
        self.task, self.settings, self.context = step, settings, context
        options = settings.optimizer
        self.optimizer = torch.optim.SGD(
            [parameter for parameter in step.parameters() if parameter.requires_grad],
            lr=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            nesterov=options.nesterov,
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(context.device.type, enabled=settings.precision == "fp16")
        average = None if settings.ema is None else get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
        self.ema = average and AveragedModel(step.model, multi_avg_fn=average, use_buffers=True)
        self.epoch, self.step = 0, 0
        self.loss_sum = torch.zeros((), device=context.device)
        self.first_bad = torch.full((), NEVER, device=context.device)
        self.best: dict[str, Any] | None = None
        if context.saved is not None:
            self.load_state_dict(context.saved)

    def update(self, images_BCHW: Tensor, targets_B: Tensor, lr: float) -> None:
        """One step of gradient descent. No value is read back from the device."""
        dtype = AUTOCAST[self.settings.precision]
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.context.device.type, dtype, enabled=dtype is not None):
            loss = self.task(images_BCHW, targets_B)
        self.scaler.scale(loss).backward()
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update_parameters(self.task.model)
        self.count(loss.detach())

    def count(self, loss: Tensor) -> None:
        """Take note of the loss of a step that has been taken."""
        self.loss_sum += loss
        self.first_bad = torch.where(loss.isfinite(), self.first_bad, self.first_bad.clamp(max=self.step))
        self.step += 1

    @property
    def scored_model(self) -> nn.Module:
        """What is evaluated: the averaged weights where an average is kept."""
        return self.task.model if self.ema is None else self.ema.module

    def remarks(self) -> dict[str, Any]:
        """What the row of an epoch says beside loss and speed; a method with more to say overrides it."""
        return {}

    def hand_over(self) -> None:
        """Leave in the model what the stage is to give back: the best epoch's weights, the average, or the last."""
        weights = self.best["model"] if self.best is not None else self.scored_model.state_dict()
        self.task.model.load_state_dict(weights)
        self.task.model.eval()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: tensors and plain values."""
        return {
            **self.context.place(),
            "epoch": self.epoch,
            "step": self.step,
            "model": self.task.model.state_dict(),
            "head": to_mapping(self.task.model.head_component),
            **{name: module.state_dict() for name, module in self.task.beside_model().items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "loss_sum": self.loss_sum,
            "best": self.best,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint of this stage."""
        self.epoch, self.step = saved["epoch"], saved["step"]
        self.task.model.load_state_dict(saved["model"])
        for name, module in self.task.beside_model().items():
            module.load_state_dict(saved[name])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(saved["ema"])
        self.loss_sum = saved["loss_sum"].to(self.context.device)
        self.best = saved["best"]


def prepare(step: Step, settings: TrainingConfig, context: Context) -> None:
    """Bring a step to the device, into its memory layout and into training mode."""
    step.to(context.device)
    if settings.channels_last:
        step.to(memory_format=torch.channels_last)
    step.train()
    torch.backends.cudnn.deterministic = settings.deterministic
    torch.backends.cudnn.benchmark = not settings.deterministic


def look(state: TrainState, bar: Bar, settings: TrainingConfig) -> None:
    """Read the running loss from the device, the only wait of the loop, and stop where it has become useless."""
    first_bad, mean = int(state.first_bad), float(state.loss_sum) / state.step
    if first_bad != NEVER:
        last = state.context.store.last
        raise InputError(
            f"the loss is no longer finite at epoch {state.epoch + 1}, step {first_bad + 1}; "
            f"{f'the last good checkpoint is {last}' if last.exists() else 'none is saved yet'}; "
            "a lower learning rate, clip_norm, or bf16 in place of fp16 may help"
        )
    bar.note(f"epoch {state.epoch + 1}/{settings.epochs}  loss {mean:.3f}")


def save_and_stop(state: TrainState, bar: Bar, settings: TrainingConfig) -> NoReturn:
    """Save in mid-epoch, as the user wishes to stop; weights that have become useless are refused, not saved.

    Raises:
        InputError: if the loss is no longer finite.
        Interrupted: once the state is saved.
    """
    look(state, bar, settings)
    state.context.store.save(state.state_dict())
    raise Interrupted


def finish_epoch(
    state: TrainState,
    context: Context,
    score: Callable[[nn.Module], dict[str, float]] | None,
    lr: float,
    images_per_second: float,
    seconds: float,
) -> None:
    """Write the row of an epoch, score it where that is asked for, and save the state."""
    row: dict[str, Any] = {
        "stage": context.stage,
        "epoch": state.epoch,
        "loss": float(state.loss_sum) / state.step,
        "lr": lr,
        "images_per_second": round(images_per_second, 1),
        "seconds": round(seconds, 3),
        **state.remarks(),
    }
    if score is not None:
        numbers = score(state.scored_model)
        row[context.watch or "score"] = numbers
        if context.watch == "test" and (state.best is None or numbers["top1"] > state.best["top1"]):
            weights = {name: tensor.detach().clone() for name, tensor in state.scored_model.state_dict().items()}
            state.best = {"top1": numbers["top1"], "epoch": state.epoch, "model": weights}
    context.log.write(row)
    state.epoch, state.step = state.epoch + 1, 0
    state.loss_sum.zero_()
    context.store.save(state.state_dict())
