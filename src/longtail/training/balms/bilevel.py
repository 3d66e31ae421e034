"""Training a head while the sample rates of the classes are learnt: the bilevel loop of BALMS.

Balanced Meta-Softmax (Ren et al., NeurIPS 2020, https://arxiv.org/abs/2007.10740), supplement B.1. An iteration of the
authors: (1) draw a batch by the rates; (2) copy the head and its velocities; (3) take a differentiable step down the
loss, in which each example has its straight-through sample, of value one, as its weight; (4) plain cross-entropy of the
copy on a class-balanced batch; (5) a step of Adam on the rates; (6) the real step, of the same batch without weights.

Since the weights have the value one, the step of (3) and that of (6) are the same numbers. So it is taken once, for
real, and what (5) asks for is had in closed form (`example_gradients`): no copy, no second backward pass, and no graph
that outlives the step.
Shapes: B = batch, M = meta batch, S = steps, D = embedding dimension, C = classes, R = uniforms of an image.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail import _random as randomness
from longtail._logging import progress_bar
from longtail.augment.policies import Augment, policy
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Part
from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, CrossEntropy, LogitAdjustedLoss
from longtail.losses.base import Loss
from longtail.samplers.by_class import ClassBalancedSampler
from longtail.samplers.meta import MetaDraw, MetaSampler
from longtail.training.balms.lookahead import (
    SGDStep,
    example_gradients,
    linear_gradients,
    logit_slopes,
    softmax_residuals,
)
from longtail.training.context import Context, Interrupted
from longtail.training.distributed import average_, rank_and_size
from longtail.training.loop import AUTOCAST, LOOK_EVERY, TrainState, finish_epoch, look, prepare, save_and_stop
from longtail.training.schedule import learning_rate_factor
from longtail.training.step import Step

Score = Callable[[nn.Module], dict[str, float]]


def train_bilevel(
    step: Step,
    data: Part,
    sampler: MetaSampler,
    settings: TrainingConfig,
    context: Context,
    score: Score | None = None,
    *,
    meta_batch_size: int = 512,
    draw_ahead: int = 1,
) -> None:
    """Train the head of `step.model` and the rates of `sampler`, in place; go on from the context's checkpoint.

    Args:
        step: model and loss; of the model, only the head learns.
        data: images, or embeddings in their place, and labels; the meta batches are drawn from them too.
        sampler: whose rates are learnt.
        settings: as of `longtail.training.loop.train`, without `clip_norm` and `ema`.
        context: seed, device, checkpoints, log.
        score: called with the model after each epoch.
        meta_batch_size: images of the class-balanced batch that the rates are judged by (over all ranks).
        draw_ahead: batches drawn by the same rates, for images that workers read from disk.

    Raises:
        InputError: if the loss is no longer finite, or batches can not be divided among the ranks.
        Interrupted: if the user asked to stop; the state is saved.
    """
    batch = min(settings.batch_size, sampler.num_samples)
    steps = -(-sampler.num_samples // batch)
    settings = settings.in_epochs(steps)
    prepare(step, settings, context)
    state = BilevelState(step, sampler.to(context.device), settings, context)
    feed = Feed(data, sampler, context, policy(settings.augment).to(context.device), batch, meta_batch_size, draw_ahead)
    with progress_bar("training", settings.epochs * steps, state.epoch * steps + state.step) as bar:
        for epoch in range(state.epoch, settings.epochs):
            step.set_progress(epoch / settings.epochs)
            started, first = time.perf_counter(), state.step
            for index, drawn, balanced in feed.batches(epoch, first, steps):
                factor = learning_rate_factor(settings.schedule, epoch, index, settings.epochs, steps)
                torch.manual_seed(randomness.key("step", context.seed, context.stage, epoch, index))
                state.learn(drawn, balanced, settings.optimizer.lr * factor)
                bar.advance()
                if (index + 1) % LOOK_EVERY == 0 or index + 1 == steps:
                    look(state, bar, settings)
                if context.stop.is_set() and (index + 1) % draw_ahead == 0 and index + 1 < steps:
                    context.add_time(time.perf_counter() - started, (index + 1 - first) * batch)
                    save_and_stop(state, bar, settings)
            seconds, images_seen = time.perf_counter() - started, (steps - first) * batch
            context.add_time(seconds, images_seen)
            finish_epoch(state, context, score, settings.optimizer.lr * factor, images_seen / seconds, seconds)
            if context.stop.is_set():
                raise Interrupted
    state.hand_over()


@dataclass(frozen=True)
class Batch:
    """This rank's share of a batch.

    Args:
        images: augmented images (B, 3, H, W), or embeddings (B, D) in their place.
        targets_B: their labels.
        draw: their record, for a batch that the sample rates drew.
    """

    images: Tensor
    targets_B: Tensor
    draw: MetaDraw | None = None


class Feed:
    """Draws the batches of a step just before it, so that they are of the rates of now.

    Every rank draws the whole batch and takes its part, so that several ranks see what one would.

    Args:
        data: images and labels.
        sampler: whose rates draw the batches.
        context: seed, stage, device.
        augment: what happens to images.
        batch_size: B over all ranks.
        meta_batch_size: M over all ranks.
        ahead: steps whose batches are drawn by the same rates.

    Raises:
        InputError: if the ranks can not share the batches evenly, or a size is not positive.
    """

    def __init__(
        self,
        data: Part,
        sampler: MetaSampler,
        context: Context,
        augment: Augment,
        batch_size: int,
        meta_batch_size: int,
        ahead: int,
    ) -> None:
        rank, size = rank_and_size()
        if batch_size % size or meta_batch_size % size or min(meta_batch_size, ahead) < 1:
            raise InputError(
                f"meta_batch_size and draw_ahead must be at least 1, and batches a multiple of the {size} ranks, "
                f"not batch_size={batch_size}, meta_batch_size={meta_batch_size}, draw_ahead={ahead}"
            )
        self.data, self.sampler, self.context, self.augment = data, sampler, context, augment
        self.batch_size, self.ahead = batch_size, ahead
        self.mine = slice(rank, None, size)
        self.balanced = ClassBalancedSampler(data.targets, num_samples=meta_batch_size)
        self.targets_N = data.targets.to(context.device)
        self.stream = randomness.key("stream", context.seed, context.stage)

    def batches(self, epoch: int, first: int, last: int) -> Iterator[tuple[int, Batch, Batch]]:
        """Step, the batch that the rates drew, and the class-balanced one, for the steps from `first` to `last`."""
        for start in range(first, last, self.ahead):
            steps = range(start, min(start + self.ahead, last))
            draws = [self.sampler.draw_batch(self.batch_size, self._generator("draw", epoch, i)) for i in steps]
            order_SB = torch.stack([draw.indices_B for draw in draws])
            meta_SM = torch.stack([self.balanced.draw(self._generator("meta", epoch, i), 0.0) for i in steps])
            drawn, balanced = self._views("draw", epoch, steps, order_SB), self._views("meta", epoch, steps, meta_SM)
            for index, draw, batch, meta_batch in zip(steps, draws, drawn, balanced, strict=True):
                yield index, Batch(batch.images, batch.targets_B, draw.part(self.mine)), meta_batch

    def _generator(self, purpose: str, epoch: int, index: int) -> torch.Generator:
        return randomness.generator("bilevel", purpose, self.stream, epoch, index)

    def _views(self, purpose: str, epoch: int, steps: range, order_SB: Tensor) -> Iterator[Batch]:
        """This rank's share of each batch, augmented."""
        shape = (order_SB.shape[1], self.augment.num_uniforms)
        uniforms = [randomness.uniforms(shape, "augment", purpose, self.stream, epoch, index) for index in steps]
        uniforms_SBR, order_SB = torch.stack(uniforms)[:, self.mine], order_SB[:, self.mine]
        random_view = self.augment.reader_uniforms > 0
        images = self.data.images.batches(order_SB, uniforms_SBR if random_view else None)
        targets_SB = self.targets_N[order_SB.to(self.targets_N.device)]
        for pixels, uniforms_BR, targets_B in zip(images, uniforms_SBR, targets_SB, strict=True):
            yield Batch(self.augment(pixels, uniforms_BR.to(self.targets_N.device)), targets_B)


class BilevelState(TrainState):
    """All that changes during a bilevel stage: what changes in any stage, and the sample rates."""

    def __init__(self, step: Step, sampler: MetaSampler, settings: TrainingConfig, context: Context) -> None:
        self.sampler = sampler
        self.head: nn.Module = step.model.head
        super().__init__(step, settings, context)

    def learn(self, drawn: Batch, balanced: Batch, lr: float) -> None:
        """One iteration: a step of the head, and one of the rates by what the first did to a balanced batch.

        No value is read back from the device.
        """
        assert drawn.draw is not None
        embeddings_BD, meta_MD = self._embed(drawn.images), self._embed(balanced.images)
        residuals_BC, before = self._descend(embeddings_BD, drawn.targets_B, lr)
        _, _, pull = self._gradients(F.cross_entropy, meta_MD, balanced.targets_B)
        average_(list(pull.values()))
        slopes_BC = logit_slopes(self.head, before, pull, embeddings_BD)
        gradients_B = example_gradients(slopes_BC, residuals_BC, SGDStep.next_of(self.optimizer).gain)
        gradient_K = self.sampler.rate_gradient(drawn.draw, gradients_B)
        average_([gradient_K])
        self.sampler.learn(gradient_K)

    def _descend(self, embeddings_BD: Tensor, targets_B: Tensor, lr: float) -> tuple[Tensor, dict[str, Tensor]]:
        """A step of the head; what the loss asked of the logits, and the parameters that it asked it of."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss, residuals_BC, gradients = self._gradients(self.task.loss, embeddings_BD, targets_B)
        average_([loss, *gradients.values()])
        parameters = dict(self.head.named_parameters())
        before = {} if isinstance(self.head, nn.Linear) else {n: p.detach().clone() for n, p in parameters.items()}
        for name, gradient in gradients.items():
            parameters[name].grad = gradient
        self.optimizer.step()
        self.count(loss)
        return residuals_BC, before

    def _gradients(
        self, loss: Callable[..., Tensor], embeddings_BD: Tensor, targets_B: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """A mean loss, its gradient with respect to the logits, and with respect to the head's parameters."""
        if isinstance(self.head, nn.Linear):
            with torch.no_grad():
                logits_BC: Tensor = self.head(embeddings_BD)
            value, residuals_BC = _residuals(loss, logits_BC, targets_B, embeddings_BD)
            return value, residuals_BC, linear_gradients(self.head, embeddings_BD, residuals_BC)
        logits_BC = self.head(embeddings_BD)
        value, residuals_BC = _residuals(loss, logits_BC.detach(), targets_B, embeddings_BD)
        names, values = zip(*self.head.named_parameters(), strict=True)
        gradients = torch.autograd.grad(logits_BC, values, residuals_BC)
        return value, residuals_BC, dict(zip(names, gradients, strict=True))

    def _embed(self, images: Tensor) -> Tensor:
        if self.task.backbone == "skip":
            return images
        dtype = AUTOCAST[self.settings.precision]
        with torch.no_grad(), torch.autocast(self.context.device.type, dtype, enabled=dtype is not None):
            return self.task.model.embed(images).float()

    def remarks(self) -> dict[str, Any]:
        """The sample rates, in the order of the labels."""
        return {"rates": [round(rate, 5) for rate in self.sampler.rates.tolist()]}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on, the sample rates and their optimizer among it."""
        return {**super().state_dict(), "sampler": self.sampler.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint of this stage."""
        super().load_state_dict(saved)
        self.sampler.load_state_dict(saved["sampler"])


def _residuals(
    loss: Callable[..., Tensor], logits_BC: Tensor, targets_B: Tensor, embeddings_BD: Tensor
) -> tuple[Tensor, Tensor]:
    """A mean loss and its gradient with respect to the logits: in closed form where it is a shifted cross-entropy."""
    shift_C = _shift_of(loss)
    if shift_C is not None:
        return softmax_residuals(logits_BC + shift_C, targets_B)
    leaf_BC = logits_BC.requires_grad_()
    value = loss(leaf_BC, targets_B, *((embeddings_BD,) if getattr(loss, "uses_embeddings", False) else ()))
    return value.detach(), torch.autograd.grad(value, leaf_BC)[0]


def _shift_of(loss: Callable[..., Tensor]) -> Tensor | float | None:
    """What a loss adds to the logits before plain cross-entropy; None of one that does something else."""
    if loss is F.cross_entropy:
        return 0.0
    if not isinstance(loss, Loss) or loss.reduction != "mean" or loss.has_absent:
        return None
    if isinstance(loss, (BalancedSoftmax, LogitAdjustedLoss)):
        return loss.shift_C
    return 0.0 if isinstance(loss, CrossEntropy) else None
