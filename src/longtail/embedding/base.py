"""Base class of all embedding losses: a term on the input of the classifier, added to the loss on its output.

Shapes: B = batch, D = embedding dimension, C = classes.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from longtail.component import Component, format_options
from longtail.data.counts import ClassCounts, Countable, checked_targets
from longtail.errors import InputError
from longtail.ranges import check_number

NO_CLASS = -1
"""Label of an ignored row in `per_example` and `remember`."""


class EmbeddingLoss(nn.Module):
    """Base class of losses on embeddings that use the number of training images per class.

    Subclasses implement `per_example`.

    Attributes:
        uses_logits: Whether `per_example` takes the logits (B, C) as a third argument.
        stream: Sampler of a second stream of images that only this loss sees; None for a loss on the ordinary batches.

    Args:
        class_counts: Training images per class, shape (C,); a tensor, a list or `ClassCounts`. A class may have none.
        embedding_dim: Embedding dimension, D. Required only by losses that store embeddings.
        weight: Factor of the loss, called lambda in the ELM paper, which mostly uses 0.01 (default).
        ignore_index: Label of the rows to ignore. Such a row contributes 0 and is not a partner of other rows.

    Raises:
        InputError: If `weight` is negative or not finite, or `embedding_dim` is not an integer >= 1.
    """

    uses_logits: ClassVar[bool] = False
    stream: Component | None = None
    counts_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        embedding_dim: int | None = None,
        *,
        weight: float = 0.01,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        check_number("weight", weight, "default: 0.01", at_least=0)
        check_number("embedding_dim", embedding_dim, integer=True, optional=True, at_least=1)
        check_number("ignore_index", ignore_index, "a label", integer=True)
        self.weight, self.ignore_index, self.embedding_dim = weight, ignore_index, embedding_dim
        self.register_buffer("counts_C", ClassCounts(class_counts).counts.float(), persistent=False)

    @abstractmethod
    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Compute the loss of each example.

        Args:
            embeddings_BD: Embeddings, float32 or float64.
            targets_B: Labels; `NO_CLASS` for ignored rows.
            extra: Logits (B, C) of a loss with `uses_logits`.

        Returns:
            Losses of shape (B,).
        """

    def remember(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Update stored embeddings after the loss of a training batch. Does nothing by default.

        Args:
            embeddings_BD: Detached embeddings.
            targets_B: Labels; `NO_CLASS` for ignored rows.
        """

    def forward(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Compute the weighted mean of the loss over all rows of the batch. Ignored rows count as 0.

        Args:
            embeddings_BD: Embeddings of shape (B, D), any float type. The loss is computed in at least float32, also
                under autocast.
            targets_B: Labels of shape (B,), any integer type, in [0, C) or equal to `ignore_index`.
            extra: Further arguments of `per_example`: the logits (B, C) of a loss with `uses_logits`.

        Returns:
            A scalar.

        Raises:
            InputError: If the shapes do not match, or a label on the CPU is no class. On a CUDA device, such a label
                fails a device-side assertion.
        """
        self._check_shapes(embeddings_BD, targets_B, *extra)
        targets_B = checked_targets(targets_B, len(self.counts_C), self.ignore_index)
        targets_B = torch.where(targets_B == self.ignore_index, NO_CLASS, targets_B)
        # the error of distances from bfloat16 products would exceed the margins
        with torch.autocast(embeddings_BD.device.type, enabled=False):
            wide_BD, *wide_extra = (_at_least_float32(values) for values in (embeddings_BD, *extra))
            losses_B = self.per_example(wide_BD, targets_B, *wide_extra)
            if self.training:
                with torch.no_grad():
                    self.remember(wide_BD.detach(), targets_B)
        return self.weight * torch.where(targets_B >= 0, losses_B, 0.0).mean()

    def extra_repr(self) -> str:
        """Format the sizes and the options for `repr`."""
        dim = "" if self.embedding_dim is None else f"embedding_dim={self.embedding_dim}"
        shown = [f"num_classes={len(self.counts_C)}", dim, f"weight={self.weight}"]
        return ", ".join(filter(None, [*shown, format_options(self, EmbeddingLoss, omit="weight")]))

    def needed_dim(self, why: str) -> int:
        """Return D, for a loss that stores embeddings.

        Args:
            why: Stored values, for the message.

        Raises:
            InputError: If `embedding_dim` was not given.
        """
        if self.embedding_dim is None:
            raise InputError(f"`embedding_dim` is required: {type(self).__name__} stores {why}")
        return self.embedding_dim

    def _check_shapes(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> None:
        name, given, dim = type(self).__name__, tuple(embeddings_BD.shape), self.embedding_dim
        if embeddings_BD.ndim != 2 or given[0] == 0 or (dim is not None and given[1] != dim):
            raise InputError(f"{name} needs embeddings of shape (B, {dim or 'D'}) with B >= 1, got {given}")
        if targets_B.shape != given[:1] or targets_B.is_floating_point():
            raise InputError(
                f"{name} needs integer labels of shape {given[:1]}, got {targets_B.dtype} of shape "
                f"{tuple(targets_B.shape)}. Soft labels are not supported: train without mixing."
            )
        wanted = [(given[0], len(self.counts_C))] if self.uses_logits else []
        if [tuple(values.shape) for values in extra] != wanted:
            raise InputError(
                f"{name} takes {f'logits of shape {wanted[0]}' if wanted else 'no argument'} after embeddings and "
                f"labels, got {[tuple(values.shape) for values in extra] or 'none'}"
            )


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
