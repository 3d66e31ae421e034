"""The training loop, top to bottom: epochs, steps, checkpoints. No method is named here.

Order, augmentation and every other random number are functions of (seed, stage, epoch, step). Resuming an interrupted
run is therefore arithmetic and gives bit-identical weights. No step waits for the device; it is read every
`SYNC_EVERY` steps. Checkpoints are written at intervals of time, at the end of a stage and when the user stops the run.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from longtail import _random as randomness
from longtail._logging import progress_bar
from longtail.augment.mixing import Mixing
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Part
from longtail.samplers.base import Sampler
from longtail.training.context import Context, Interrupted
from longtail.training.engine import make_engine
from longtail.training.feed import EpochFeed, Feed, shape_of_epoch
from longtail.training.precision import resolve_precision
from longtail.training.schedule import learning_rate_factor
from longtail.training.state import TrainState
from longtail.training.step import Step

SYNC_EVERY = 100
SETTLING_STEPS, ESTIMATE_AFTER = 2, 5.0
"""First steps that the estimate leaves out, and the seconds of further steps that it is based on."""

Score = Callable[[nn.Module], dict[str, float]]


def train(
    step: Step,
    data: Part,
    sampler: Sampler,
    settings: TrainingConfig,
    context: Context,
    score: Score | None = None,
    mixing: Mixing | None = None,
) -> None:
    """Train `step.model` in place. If the context holds a checkpoint of this stage, continue from it.

    Args:
        step: Model and loss.
        data: Training images and labels.
        sampler: Sampler that gives the order of each epoch.
        settings: Epochs, batch size, optimizer, schedule and precision.
        context: Seed, device, checkpoints and log.
        score: Function of the model that is called after each epoch. Its metrics are logged. Under the paper protocol
            the epoch with the best "top1" is kept.
        mixing: Mixing that makes one image and a soft label of two, after augmentation.

    Raises:
        InputError: If a loss is not finite, with the step and the last good checkpoint.
        Interrupted: If the user asked to stop. The state is saved.
    """
    settings = resolve_precision(settings.in_epochs(shape_of_epoch(settings, sampler)[1]), step, context)
    prepare(step, settings, context)
    state = TrainState(step, settings, context)
    run_epochs(EpochFeed(data, sampler, settings, context, mixing), state, score)


def run_epochs(feed: Feed, state: TrainState, score: Score | None = None) -> None:
    """Run the remaining epochs of a stage: every method and every kind of update uses this loop.

    Args:
        feed: Source of the batches.
        state: State of the stage; its settings give the length in epochs.
        score: Function of the model that is called after each epoch.

    Raises:
        InputError: If a loss is not finite.
        Interrupted: If the user asked to stop. The state is saved.
    """
    settings, context, steps = state.settings, state.context, feed.steps
    engine, clock = make_engine(state, feed), Clock(context, feed.batch_size)
    lr = settings.optimizer.lr
    total, done = settings.epochs * steps, state.epoch * steps + state.step
    with progress_bar("training", total, done, images_per_unit=feed.batch_size, unit="step") as bar:
        bar.note(f"epoch {state.epoch + 1}/{settings.epochs}")
        for epoch in range(state.epoch, settings.epochs):
            state.task.set_progress(epoch / settings.epochs)
            clock.start_epoch()
            first = state.step
            for index, batch in enumerate(engine.batches(epoch, first), first):
                lr = settings.optimizer.lr * learning_rate_factor(
                    settings.schedule, epoch, index, settings.epochs, steps
                )
                torch.manual_seed(randomness.key("step", context.seed, context.stage, epoch, index))
                engine.update(lr, *batch)
                bar.advance()
                clock.count_step(state, total - epoch * steps - index - 1)
                if (index + 1) % SYNC_EVERY == 0 or index + 1 == steps:
                    bar.note(f"epoch {epoch + 1}/{settings.epochs}  loss {state.sync_and_check():.3f}")
                if (index + 1) % feed.stop_every == 0 and index + 1 < steps:
                    _save_within_epoch(state, clock)
            clock.add_time()
            _finish_epoch(state, score, lr, clock)
            if context.stop.is_set():
                raise Interrupted
    state.finalize()


def prepare(step: Step, settings: TrainingConfig, context: Context) -> None:
    """Move a step to the device and its memory layout, and set it to training mode."""
    step.to(context.device)
    if settings.channels_last:
        step.to(memory_format=torch.channels_last)
    step.train()
    torch.backends.cudnn.deterministic = settings.deterministic
    torch.backends.cudnn.benchmark = not settings.deterministic


class Clock:
    """Time and images of an epoch, and the estimate after the first steps of a stage.

    Args:
        context: Run state that receives the totals.
        batch_size: Images of a step.
    """

    def __init__(self, context: Context, batch_size: int) -> None:
        self.context, self.batch_size = context, batch_size
        self.seconds, self.images = 0.0, 0
        self._steps, self._settled, self._is_estimated = 0, 0.0, context.estimate is None

    def start_epoch(self) -> None:
        """Start the time of an epoch."""
        self.seconds, self.images = 0.0, 0
        self._started, self._images_to_add = time.perf_counter(), 0

    def count_step(self, state: TrainState, steps_left: int) -> None:
        """Count a step. Once the rate has settled, give the estimate of the rest of the stage."""
        self._images_to_add += self.batch_size
        if self._is_estimated:
            return
        self._steps += 1
        if self._steps == SETTLING_STEPS:
            self._settled = time.perf_counter()
        elif self._steps > SETTLING_STEPS and time.perf_counter() - self._settled > ESTIMATE_AFTER:
            state.sync_and_check()
            per_step = (time.perf_counter() - self._settled) / (self._steps - SETTLING_STEPS)
            self._is_estimated = True
            assert self.context.estimate is not None
            self.context.estimate(self.batch_size / per_step, steps_left * per_step)

    def add_time(self) -> None:
        """Add the time and images since the last call to those of the epoch and of the run."""
        now = time.perf_counter()
        self.context.add_time(now - self._started, self._images_to_add)
        self.seconds, self.images = self.seconds + now - self._started, self.images + self._images_to_add
        self._started, self._images_to_add = now, 0


def _save_within_epoch(state: TrainState, clock: Clock) -> None:
    """Save the state if the user has asked to stop or a checkpoint is due. Weights that are not finite are refused."""
    context = state.context
    if context.stop.is_set():
        clock.add_time()
        state.sync_and_check()
        context.store.save(state.state_dict())
        raise Interrupted
    if 0 < context.checkpoint_seconds <= context.store.age:
        clock.add_time()
        state.sync_and_check()
        context.store.save_in_background(state.state_dict())


def _finish_epoch(state: TrainState, score: Score | None, lr: float, clock: Clock) -> None:
    """Evaluate if requested, write the log row of the epoch, and save the state if a checkpoint is due."""
    context = state.context
    row: dict[str, Any] = {
        "stage": context.stage,
        "epoch": state.epoch,
        "loss": float(state.loss_sum) / state.step,
        "lr": lr,
        "images_per_second": round(clock.images / clock.seconds, 1),
        "seconds": round(clock.seconds, 3),
        **state.extra_metrics(),
    }
    if score is not None:
        metrics = score(state.scored_model)
        row[context.watch or "score"] = metrics
        if context.watch == "test":
            state.keep_if_best(metrics)
    context.log.write(row)
    state.next_epoch()
    if context.stop.is_set():
        context.store.save(state.state_dict())
    elif context.store.age >= context.checkpoint_seconds:
        context.store.save_in_background(state.state_dict())
