"""Training of a head on features in memory by SGD, for losses, heads and samplers that are not solved.

Shapes: N = examples, B = batch, D = features, C = classes, M = examples per epoch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longtail import _random as randomness
from longtail.data.counts import ClassCounts
from longtail.errors import InputError
from longtail.losses.base import Loss
from longtail.models.heads import FoldingHead, LinearHead, linear_head
from longtail.ranges import check_number
from longtail.samplers.base import Sampler
from longtail.training.optimizers import SGD

ClassWeights = Literal["auto"] | Mapping[Any, float] | None

WARMUP = 0.05
"""Share of the training over which the learning rate rises."""


class StandardizedHead(nn.Module):
    """A head on standardized features: `head((x - mean) / std)`.

    Args:
        head: A module (B, D) -> (B, C).
        mean_D: Mean of each feature.
        std_D: Standard deviation of each feature, > 0.
    """

    mean_D: Tensor
    std_D: Tensor

    def __init__(self, head: nn.Module, mean_D: Tensor, std_D: Tensor) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("mean_D", mean_D.float())
        self.register_buffer("std_D", std_D.float())

    @classmethod
    @torch.no_grad()
    def around(cls, head: nn.Module, mean_D: Tensor, std_D: Tensor) -> StandardizedHead:
        """Return a head with the same logits as a linear head on the original features; other heads are used as is.

        Args:
            head: Head on the original features if it is an `nn.Linear`. It is copied.
            mean_D: Mean of each feature.
            std_D: Standard deviation of each feature, > 0.
        """
        head = copy.deepcopy(head)
        if isinstance(head, nn.Linear):
            head.bias.add_((head.weight.double() @ mean_D).to(head.bias.dtype))
            head.weight.mul_(std_D.to(head.weight.dtype))
        return cls(head, mean_D, std_D)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Compute the logits (B, C)."""
        logits_BC: Tensor = self.head(self.standardized(features_BD))
        return logits_BC

    def standardized(self, features_BD: Tensor) -> Tensor:
        """Return standardized features, shape (B, D), float32."""
        return (features_BD.float() - self.mean_D) / self.std_D

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """Return a linear head on the original features if this head is linear, and otherwise this head itself."""
        head = self.head.folded() if isinstance(self.head, FoldingHead) else self.head
        if not isinstance(head, LinearHead):
            return self
        weight_CD = head.weight.double() / self.std_D.double()
        return linear_head(weight_CD.float(), (head.bias.double() - weight_CD @ self.mean_D.double()).float())


class HeadTrainer:
    """SGD with Nesterov momentum on a head.

    Args:
        head: Head to train, in place.
        lr: Peak learning rate.
        weight_decay: L2 penalty on all parameters.
        batch_size: Examples per step.
        seed: Seed of the order and of the random numbers of the loss.
        weights_C: Weight of the loss of each class, or None.
    """

    def __init__(
        self,
        head: StandardizedHead,
        *,
        lr: float,
        weight_decay: float,
        batch_size: int,
        seed: int,
        weights_C: Tensor | None = None,
    ) -> None:
        self.head, self.lr, self.batch_size, self.seed, self.weights_C = head, lr, batch_size, seed, weights_C
        trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
        self.optimizer = SGD(trained, lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
        self.epoch = 0

    def train(self, features_ND: Tensor, targets_N: Tensor, loss: nn.Module, sampler: Sampler, epochs: int) -> None:
        """Train for a number of epochs, with a warm-up and a cosine schedule.

        Args:
            features_ND: Features, any float type.
            targets_N: Labels in [0, C), shape (N,).
            loss: Loss of logits and labels.
            sampler: Sampler of the examples.
            epochs: Passes over the stream of the sampler.

        Raises:
            InputError: If the loss becomes infinite or NaN.
        """
        for epoch in range(epochs):
            self.run_epoch(features_ND, targets_N, loss, sampler, epoch / epochs, 1 / epochs)

    def run_epoch(
        self,
        features_ND: Tensor,
        targets_N: Tensor,
        loss: nn.Module,
        sampler: Sampler,
        progress: float | None = None,
        share: float = 0.0,
    ) -> None:
        """Train for one epoch.

        Args:
            features_ND: Features, any float type.
            targets_N: Labels in [0, C), shape (N,).
            loss: Loss of logits and labels.
            sampler: Sampler of the examples.
            progress: Completed share of the training. None keeps the learning rate constant.
            share: Share of the training that this epoch is.
        """
        loss.to(features_ND.device).train()
        if isinstance(loss, Loss):
            loss.set_progress(progress or 0.0)
        order_M = sampler.order(self.seed, self.epoch, progress or 0.0)
        batches = torch.split(order_M, self.batch_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.key("step", self.seed, self.epoch))
            for step, rows_B in enumerate(batches):
                lr = self.lr if progress is None else self.lr * _factor(progress + share * step / len(batches))
                for group in self.optimizer.param_groups:
                    group["lr"] = lr
                value = self._step(features_ND[rows_B.to(features_ND.device)], targets_N[rows_B], loss)
        self.epoch += 1
        if not bool(torch.isfinite(value)):
            raise InputError(f"the loss of SGD must stay finite, got {value.item()}; set a smaller `lr` than {self.lr}")

    def _step(self, features_BD: Tensor, targets_B: Tensor, loss: nn.Module) -> Tensor:
        targets_B = targets_B.to(features_BD.device)
        standardized_BD = self.head.standardized(features_BD)
        extra = (standardized_BD,) if getattr(loss, "uses_embeddings", False) else ()
        logits_BC = self.head.head(standardized_BD)
        value: Tensor = loss(logits_BC, targets_B, *extra)
        if self.weights_C is not None:  # the loss has the reduction "none"
            value = (value * self.weights_C.to(value)[targets_B]).mean()
        self.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value.detach()


def _factor(progress: float) -> float:
    """Return the learning rate at a share of the training, relative to its peak."""
    if progress < WARMUP:
        return (progress + 1e-3) / (WARMUP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


def weights_of_classes(class_weights: ClassWeights, labels: Sequence[Any], counts: ClassCounts) -> Tensor | None:
    """Return the weight of the loss of each class, float64, shape (C,), or None for equal weights.

    Args:
        class_weights: None, "auto" for N / (C n_c), or a mapping from labels to weights; missing labels have weight 1.
        labels: Labels of the C classes.
        counts: Training examples per class.

    Raises:
        InputError: If a label is unknown, or a weight is negative.

    Example:
        >>> weights_of_classes("auto", ["ant", "bee"], ClassCounts([3, 1]))
        tensor([0.6667, 2.0000], dtype=torch.float64)
    """
    if class_weights is None:
        return None
    if isinstance(class_weights, str):
        if class_weights != "auto":
            raise InputError(f'`class_weights` must be None, "auto" or a mapping, got {class_weights!r}')
        counts_C = counts.counts.double()
        return torch.where(counts_C > 0, counts_C.sum() / ((counts_C > 0).sum() * counts_C.clamp(min=1)), 0.0)
    known = {label: index for index, label in enumerate(labels)}
    weights_C = torch.ones(len(known), dtype=torch.float64)
    for label, weight in class_weights.items():
        if label not in known:
            raise InputError(f"`class_weights` must have labels of `y` as keys, got {label!r}; remove it")
        check_number(f"class_weights[{label!r}]", weight, at_least=0)
        weights_C[known[label]] = float(weight)
    return weights_C
