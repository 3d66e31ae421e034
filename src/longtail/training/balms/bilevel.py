"""Training of a head while the sample rates of the classes are learned: the bilevel update of BALMS.

Balanced Meta-Softmax (Ren et al., NeurIPS 2020, https://arxiv.org/abs/2007.10740), supplement B.1. An iteration of the
authors: (1) draw a batch by the sample rates; (2) copy the head and its velocities; (3) take a differentiable step down
the loss, in which each example has its straight-through sample, of value one, as its weight; (4) compute the plain
cross-entropy of the copy on a class-balanced batch; (5) take a step of Adam on the sample rates; (6) take the real step
on the same batch, without weights.

Because the weights have the value one, the steps of (3) and (6) are the same numbers. The step is therefore taken once,
for real, and the gradient that (5) requires is computed in closed form (`example_gradients`): no copy, no second
backward pass, and no graph that outlives the step.
Shapes: B = batch, M = meta batch, S = steps, D = embedding dimension, C = classes, R = uniform numbers of an image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail import _random as randomness
from longtail.augment.policies import policy
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
from longtail.training.context import Context
from longtail.training.distributed import average_, rank_and_size
from longtail.training.feed import shape_of_epoch
from longtail.training.loop import Score, prepare, run_epochs
from longtail.training.precision import resolve_precision
from longtail.training.state import AUTOCAST, TrainState
from longtail.training.step import Step, takes_embeddings


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
    """Train the head of `step.model` and the rates of `sampler` in place.

    Args:
        step: Model and loss. Only the head of the model learns.
        data: Images, or embeddings in their place, and labels. The meta batches are drawn from them too.
        sampler: Sampler whose rates are learned.
        settings: Settings as for `longtail.training.loop.train`, without `clip_norm` and `ema`.
        context: Seed, device, checkpoints and log. If it holds a checkpoint of this stage, training continues from it.
        score: Function of the model that is called after each epoch.
        meta_batch_size: Images of the class-balanced batch on which the rates are evaluated, over all ranks.
        draw_ahead: Batches drawn with the same rates, for images that workers read from disk.

    Raises:
        InputError: If a loss is not finite, or the batches cannot be divided among the ranks.
        Interrupted: If the user asked to stop. The state is saved.
    """
    settings = resolve_precision(settings.in_epochs(shape_of_epoch(settings, sampler)[1]), step, context)
    prepare(step, settings, context)
    state = BilevelState(step, sampler.to(context.device), settings, context)
    run_epochs(MetaFeed(data, sampler, settings, context, meta_batch_size, draw_ahead), state, score)


@dataclass(frozen=True)
class Batch:
    """Share of a batch that belongs to this rank.

    Args:
        images: Augmented images (B, 3, H, W), or embeddings (B, D) in their place.
        targets_B: Labels.
        draw: Record of the draw, for a batch drawn by the sample rates.
    """

    images: Tensor
    targets_B: Tensor
    draw: MetaDraw | None = None


class MetaFeed:
    """Pairs of batches, one drawn by the sample rates and one class-balanced.

    A pair is drawn just before its step, so that it follows the present rates. Every rank draws the whole batch and
    takes its part, so that several ranks see what one rank would.

    Args:
        data: Images and labels.
        sampler: Sampler whose rates draw the batches.
        settings: Training settings.
        context: Seed, stage and device.
        meta_batch_size: M over all ranks.
        ahead: Steps whose batches are drawn with the same rates.

    Raises:
        InputError: If the ranks cannot share the batches evenly, or a size is not positive.
    """

    def __init__(
        self,
        data: Part,
        sampler: MetaSampler,
        settings: TrainingConfig,
        context: Context,
        meta_batch_size: int,
        ahead: int,
    ) -> None:
        rank, size = rank_and_size()
        self.batch_size, self.steps = shape_of_epoch(settings, sampler)
        if self.batch_size % size or meta_batch_size % size or min(meta_batch_size, ahead) < 1:
            raise InputError(
                f"`meta_batch_size` and `draw_ahead` must be >= 1, and batches a multiple of the {size} ranks, got "
                f"batch_size={self.batch_size}, meta_batch_size={meta_batch_size}, draw_ahead={ahead}"
            )
        self.data, self.sampler, self.context, self.stop_every = data, sampler, context, ahead
        self.augment = policy(settings.augment).to(context.device)
        self.mine = slice(rank, None, size)
        self.balanced = ClassBalancedSampler(data.targets, num_samples=meta_batch_size)
        self.targets_N = data.targets.to(context.device)
        self.stream = randomness.key("stream", context.seed, context.stage)

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Batch, Batch]]:
        """Yield the batch drawn by the rates and the class-balanced one, for each step starting with `first`."""
        for start in range(first, self.steps, self.stop_every):
            steps = range(start, min(start + self.stop_every, self.steps))
            draws = [self.sampler.draw_batch(self.batch_size, self._generator("draw", epoch, i)) for i in steps]
            order_SB = torch.stack([draw.indices_B for draw in draws])
            meta_SM = torch.stack([self.balanced.draw(self._generator("meta", epoch, i), 0.0) for i in steps])
            drawn, balanced = self._views("draw", epoch, steps, order_SB), self._views("meta", epoch, steps, meta_SM)
            for draw, batch, meta_batch in zip(draws, drawn, balanced, strict=True):
                yield Batch(batch.images, batch.targets_B, draw.part(self.mine)), meta_batch

    def _generator(self, purpose: str, epoch: int, index: int) -> torch.Generator:
        return randomness.generator("bilevel", purpose, self.stream, epoch, index)

    def _views(self, purpose: str, epoch: int, steps: range, order_SB: Tensor) -> Iterator[Batch]:
        """Yield this rank's share of each batch, augmented."""
        shape = (order_SB.shape[1], self.augment.num_uniforms)
        uniforms = [randomness.uniforms(shape, "augment", purpose, self.stream, epoch, index) for index in steps]
        uniforms_SBR, order_SB = torch.stack(uniforms)[:, self.mine], order_SB[:, self.mine]
        random_view = self.augment.reader_uniforms > 0
        images = self.data.images.batches(order_SB, uniforms_SBR if random_view else None)
        targets_SB = self.targets_N[order_SB.to(self.targets_N.device)]
        for pixels, uniforms_BR, targets_B in zip(images, uniforms_SBR, targets_SB, strict=True):
            yield Batch(self.augment(pixels, uniforms_BR.to(self.targets_N.device)), targets_B)


class BilevelState(TrainState):
    """State of a bilevel stage: that of any stage, and the sample rates.

    Args:
        step: Model and loss.
        sampler: Sampler whose rates are learned, on the device.
        settings: Training settings.
        context: Run state.
    """

    def __init__(self, step: Step, sampler: MetaSampler, settings: TrainingConfig, context: Context) -> None:
        self.sampler = sampler
        self.head: nn.Module = step.model.head
        super().__init__(step, settings, context)

    def update(self, lr: float, *batch: Any) -> None:
        """Take one step of the head, and one of the rates by the effect of the first on a class-balanced batch.

        No value is read back from the device.

        Args:
            lr: Learning rate of the head.
            batch: Batch drawn by the rates and class-balanced batch.
        """
        drawn, balanced = batch
        embeddings_BD, meta_MD = self._embed(drawn.images), self._embed(balanced.images)
        residuals_BC, before = self._descend(embeddings_BD, drawn.targets_B, lr)
        _, _, pull = self._gradients(F.cross_entropy, meta_MD, balanced.targets_B)
        average_(list(pull.values()))
        slopes_BC = logit_slopes(self.head, before, pull, embeddings_BD)
        gradients_B = example_gradients(slopes_BC, residuals_BC, SGDStep.next_of(self.optimizer).gain)
        gradient_K = self.sampler.rate_gradient(drawn.draw, gradients_B)
        average_([gradient_K])
        self.sampler.learn(gradient_K)
        self.step += 1

    def _descend(self, embeddings_BD: Tensor, targets_B: Tensor, lr: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Take a step of the head; return the gradient at the logits and the parameters before the step."""
        self.set_lr(lr)
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
        """Return a mean loss and its gradients with respect to the logits and to the parameters of the head."""
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

    def extra_metrics(self) -> dict[str, Any]:
        """Return the sample rates, in the order of the labels."""
        return {"rates": [round(rate, 5) for rate in self.sampler.rates.tolist()]}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume, with the sample rates and their optimizer."""
        return {**super().state_dict(), "sampler": self.sampler.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint of this stage."""
        super().load_state_dict(saved)
        self.sampler.load_state_dict(saved["sampler"])


def _residuals(
    loss: Callable[..., Tensor], logits_BC: Tensor, targets_B: Tensor, embeddings_BD: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a mean loss and its gradient at the logits, in closed form if it is a shifted cross-entropy."""
    shift_C = _shift_of(loss)
    if shift_C is not None:
        return softmax_residuals(logits_BC + shift_C, targets_B)
    leaf_BC = logits_BC.requires_grad_()
    value = loss(leaf_BC, targets_B, *((embeddings_BD,) if takes_embeddings(loss) else ()))
    return value.detach(), torch.autograd.grad(value, leaf_BC)[0]


def _shift_of(loss: Callable[..., Tensor]) -> Tensor | float | None:
    """Return what a loss adds to the logits before plain cross-entropy, or None if it computes something else."""
    if loss is F.cross_entropy:
        return 0.0
    if not isinstance(loss, Loss) or loss.reduction != "mean" or loss.has_absent:
        return None
    if isinstance(loss, (BalancedSoftmax, LogitAdjustedLoss)):
        return loss.shift_C
    return 0.0 if isinstance(loss, CrossEntropy) else None
