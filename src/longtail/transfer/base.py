"""Base class of all transfers: changes of feature maps or logits, and weights of examples, during training.

Shapes: B = batch, C = channels (in `adjust`: classes), H x W = positions of a feature map, D = embedding dimension.
"""

from collections.abc import Hashable
from typing import ClassVar

import torch
from torch import Tensor, nn

from longtail.component import Component, format_options, plain_attributes
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError
from longtail.ranges import check_number


class Transfer(nn.Module):
    """Base class of transfers between classes in feature space. Subclasses override `forward` or `adjust`.

    A transfer acts in training mode only. In evaluation mode, the features are unchanged and no state is updated.

    Attributes:
        stream: Sampler of a second stream of images, the odd rows (1::2) of each batch; None for a single stream.
        at: Dotted name of the backbone submodule whose output is changed; None for the backbone's `last_stage`.
        uses_maps: Whether `forward` changes feature maps. Otherwise, `channels` is the embedding dimension.

    Args:
        class_counts: Training images per class; a tensor, a list or `ClassCounts`.
        channels: Number of channels of the feature maps.

    Raises:
        InputError: If `channels` is not an integer >= 1.

    Example:
        >>> targets, second = torch.tensor([0, 1]), torch.tensor([False, True])
        >>> maps, weights = Transfer([9, 1], channels=2)(torch.ones(2, 2, 1, 1), targets, second)
        >>> maps.shape, weights
        (torch.Size([2, 2, 1, 1]), None)
    """

    stream: Component | None = None
    at: str | None = None
    uses_maps: ClassVar[bool] = True

    def __init__(self, class_counts: Countable, channels: int) -> None:
        super().__init__()
        check_number("channels", channels, "the channels of the feature maps", integer=True, at_least=1)
        self.counts = ClassCounts(class_counts)
        self.num_classes, self.channels = len(self.counts), channels

    def set_progress(self, progress: float) -> None:
        """Adapt the transfer to the training progress. Called before each epoch; does nothing by default.

        Args:
            progress: Completed share of the training, in [0, 1).
        """

    def phase(self) -> Hashable:
        """Return the Python values on which the computation depends, or None if it depends on tensors only.

        While the value stays the same, a recorded step remains valid. By default, it consists of all attributes that
        are numbers, strings or None.
        """
        return plain_attributes(self)

    def forward(self, maps: Tensor, targets_B: Tensor, second_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Change the features of a batch.

        Args:
            maps: Features of shape (B, C, H, W) or (B, C), any float type.
            targets_B: Labels in [0, number of classes).
            second_B: Mask of the rows of the second stream, bool.

        Returns:
            Maps of the same shape and type, and the loss weight of each example, shape (B,). The weights are None if
            all are 1.

        Raises:
            InputError: If the shapes do not match.
        """
        self.check_shapes(maps, targets_B, second_B)
        return maps, None

    def adjust(self, logits_BC: Tensor, embeddings_BD: Tensor, targets_B: Tensor, head: nn.Module) -> Tensor:
        """Change the logits of a batch before the loss. Returns them unchanged by default.

        Args:
            logits_BC: Output of `head` for the embeddings.
            embeddings_BD: Input of the head.
            targets_B: Labels in [0, C).
            head: Last layer of the model.
        """
        return logits_BC

    def extra_repr(self) -> str:
        """Format the sizes and the options for `repr`."""
        shown = [f"num_classes={self.num_classes}", f"channels={self.channels}", format_options(self, Transfer)]
        return ", ".join(filter(None, shown))

    def check_shapes(self, maps: Tensor, targets_B: Tensor, second_B: Tensor) -> None:
        """Check the arguments of `forward`.

        Raises:
            InputError: If the shapes do not match, or the labels are soft.
        """
        name, given = type(self).__name__, tuple(maps.shape)
        if maps.ndim not in (2, 4) or given[1] != self.channels:
            raise InputError(
                f"{name} needs features of shape (B, {self.channels}, H, W) or (B, {self.channels}), since it was "
                f"built for {self.channels} channels, got {given}"
            )
        if targets_B.ndim == 2:
            raise InputError(
                f"{name} needs one label per image, got class weights of shape {tuple(targets_B.shape)}. Train without "
                "mixing."
            )
        if tuple(targets_B.shape) != given[:1] or second_B.shape != targets_B.shape or second_B.dtype != torch.bool:
            raise InputError(
                f"{name} needs labels and a bool mask of the second stream of shape {given[:1]} for features of shape "
                f"{given}, got {tuple(targets_B.shape)} and {second_B.dtype} of shape {tuple(second_B.shape)}"
            )
