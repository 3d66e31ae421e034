"""The contract of every embedding loss: a term on the input of the classifier, beside the loss on its output.

Shapes: B = batch, D = embedding dimension, C = classes.
"""

import math
from abc import abstractmethod
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from longtail.component import Component, check_options
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError

NO_CLASS = -1
"""The label that `per_example` and `remember` see of an ignored row."""


class Contract(TypedDict, total=False):
    """The options that every embedding loss takes; see `EmbeddingLoss`."""

    weight: float
    ignore_index: int


class EmbeddingLoss(nn.Module):
    """A loss on embeddings that knows how many training images each class has. Subclasses implement `per_example`.

    Args:
        class_counts: training images per class, shape (C,); a tensor, a list or `ClassCounts`. A class may have none.
        embedding_dim: D; only a loss that keeps embeddings from batch to batch needs to know it.
        weight: multiplies the loss: lambda, 0.01 in most settings of the ELM paper.
        ignore_index: a row with this label contributes 0, and is nobody's partner.

    Raises:
        InputError: if `weight` is negative or not finite, `embedding_dim` is no whole number >= 1, or an option is
            unknown.
    """

    counts_C: Tensor
    # whether `per_example` takes the logits (B, C), too, as its third argument
    uses_logits: bool = False
    # sampler of a second stream of images, which only this loss sees
    stream: Component | None = None

    def __init__(self, class_counts: Countable, embedding_dim: int | None = None, **contract: Unpack[Contract]) -> None:
        super().__init__()
        check_options(self, contract, Contract)
        weight = contract.get("weight", 0.01)
        if not 0 <= weight < math.inf:
            raise InputError(f"weight multiplies the loss and must be finite and >= 0 (0.01, say), not {weight}")
        if embedding_dim is not None and not (isinstance(embedding_dim, int) and embedding_dim >= 1):
            raise InputError(f"embedding_dim must be a whole number >= 1, or None, not {embedding_dim}")
        self.weight, self.ignore_index = weight, contract.get("ignore_index", -100)
        self.embedding_dim = embedding_dim
        self.register_buffer("counts_C", ClassCounts(class_counts).counts.float(), persistent=False)

    @abstractmethod
    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Loss of each example, shape (B,), in at least float32; ignored rows have the label `NO_CLASS`."""

    def remember(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Hook of losses with memory: sees each training batch, detached, once its loss is taken."""

    def forward(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Weighted mean of the loss over all rows of the batch, those ignored included (as 0).

        Args:
            embeddings_BD: shape (B, D), any float type; computed in at least float32, also under autocast.
            targets_B: labels, shape (B,).
            extra: what `per_example` takes beside these: the logits (B, C), if it `uses_logits`.

        Returns:
            A scalar.

        Raises:
            InputError: if the shapes do not fit.
        """
        self._check_shapes(embeddings_BD, targets_B, *extra)
        targets_B = torch.where(targets_B == self.ignore_index, NO_CLASS, targets_B)
        # distances of bfloat16 products would be off by more than the margins
        with torch.autocast(embeddings_BD.device.type, enabled=False):
            wide_BD, *wide_extra = (_at_least_float32(values) for values in (embeddings_BD, *extra))
            losses_B = self.per_example(wide_BD, targets_B, *wide_extra)
            if self.training:
                with torch.no_grad():
                    self.remember(wide_BD.detach(), targets_B)
        return self.weight * torch.where(targets_B >= 0, losses_B, 0.0).mean()

    def needed_dim(self, why: str) -> int:
        """D, for a loss that keeps embeddings.

        Args:
            why: what it keeps, for the message.

        Raises:
            InputError: if it was not given.
        """
        if self.embedding_dim is None:
            raise InputError(f"{type(self).__name__} keeps {why}: pass embedding_dim, the width of the embeddings")
        return self.embedding_dim

    def _check_shapes(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> None:
        given, dim = tuple(embeddings_BD.shape), self.embedding_dim
        if embeddings_BD.ndim != 2 or given[0] == 0 or (dim is not None and given[1] != dim):
            raise InputError(f"{type(self).__name__} needs embeddings of shape (B, {dim or 'D'}), B >= 1, not {given}")
        if targets_B.shape != given[:1] or targets_B.is_floating_point():
            raise InputError(
                f"embeddings of shape {given} need whole labels of shape {given[:1]}, not {targets_B.dtype} of shape "
                f"{tuple(targets_B.shape)}; an embedding loss has no use for mixed labels: train it without mixing"
            )
        wanted = [(given[0], len(self.counts_C))] if self.uses_logits else []
        if [tuple(values.shape) for values in extra] != wanted:
            raise InputError(
                f"{type(self).__name__} takes {f'the logits {wanted[0]}' if wanted else 'nothing'} beside embeddings "
                f"and labels, but was given {[tuple(values.shape) for values in extra] or 'nothing'}"
            )


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
