"""The training loop, top to bottom: epochs, steps, checkpoints. No method is named here.

Order, augmentation and every other random number are functions of (seed, stage, epoch, step). Resuming an interrupted
run is therefore arithmetic and gives bit-identical weights. No step waits for the device; it is read every
`SYNC_EVERY` steps.
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
from longtail.training.feed import EpochFeed, Feed, shape_of_epoch
from longtail.training.schedule import learning_rate_factor
from longtail.training.state import TrainState
from longtail.training.step import Step

SYNC_EVERY = 100

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
    settings = settings.in_epochs(shape_of_epoch(settings, sampler)[1])
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
    lr = settings.optimizer.lr
    total, done = settings.epochs * steps, state.epoch * steps + state.step
    with progress_bar("training", total, done, images_per_unit=feed.batch_size, unit="step") as bar:
        bar.note(f"epoch {state.epoch + 1}/{settings.epochs}")
        for epoch in range(state.epoch, settings.epochs):
            state.task.set_progress(epoch / settings.epochs)
            started, first = time.perf_counter(), state.step
            for index, batch in enumerate(feed.batches(epoch, first), first):
                lr = settings.optimizer.lr * learning_rate_factor(
                    settings.schedule, epoch, index, settings.epochs, steps
                )
                torch.manual_seed(randomness.key("step", context.seed, context.stage, epoch, index))
                state.update(lr, *batch)
                bar.advance()
                if (index + 1) % SYNC_EVERY == 0 or index + 1 == steps:
                    bar.note(f"epoch {epoch + 1}/{settings.epochs}  loss {state.sync_and_check():.3f}")
                if context.stop.is_set() and (index + 1) % feed.stop_every == 0 and index + 1 < steps:
                    context.add_time(time.perf_counter() - started, (index + 1 - first) * feed.batch_size)
                    _save_and_stop(state)
            seconds, images = time.perf_counter() - started, (steps - first) * feed.batch_size
            context.add_time(seconds, images)
            _finish_epoch(state, score, lr, images / seconds, seconds)
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


def _save_and_stop(state: TrainState) -> None:
    """Save the state within an epoch. Weights that are no longer finite are refused, not saved."""
    state.sync_and_check()
    state.context.store.save(state.state_dict())
    raise Interrupted


def _finish_epoch(state: TrainState, score: Score | None, lr: float, images_per_second: float, seconds: float) -> None:
    """Evaluate if requested, write the log row of the epoch, and save the state."""
    context = state.context
    row: dict[str, Any] = {
        "stage": context.stage,
        "epoch": state.epoch,
        "loss": float(state.loss_sum) / state.step,
        "lr": lr,
        "images_per_second": round(images_per_second, 1),
        "seconds": round(seconds, 3),
        **state.extra_metrics(),
    }
    if score is not None:
        metrics = score(state.scored_model)
        row[context.watch or "score"] = metrics
        if context.watch == "test":
            state.keep_if_best(metrics)
    context.log.write(row)
    state.next_epoch()
    context.store.save(state.state_dict())
