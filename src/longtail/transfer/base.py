"""The contract of every transfer: in training, feature maps become other feature maps, and examples get weights.

Shapes: B = batch, C = channels (in `adjust`: classes), H x W = positions of a feature map, D = embedding dimension.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from longtail.component import Component
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError


class Transfer(nn.Module):
    """What classes lend each other in the space of features. Subclasses override `forward` or `adjust`.

    Acts in training mode only: in evaluation mode the maps go through as they are, and no state changes.

    Args:
        class_counts: training images per class; a tensor, a list or `ClassCounts`.
        channels: of the feature maps.
        options: what a subclass lets the user choose.

    Raises:
        InputError: if there is no channel.

    Example:
        >>> targets, second = torch.tensor([0, 1]), torch.tensor([False, True])
        >>> maps, weights = Transfer([9, 1], channels=2)(torch.ones(2, 2, 1, 1), targets, second)
        >>> maps.shape, weights
        (torch.Size([2, 2, 1, 1]), None)
    """

    # sampler of a second stream of images, which are the odd rows (1::2) of each batch; None: there is one stream
    stream: Component | None = None
    # dotted name of the submodule of the backbone whose output it changes; None: the backbone's `last_stage`
    at: str | None = None
    # whether it sees feature maps; one that does not is built with the dimension of the embeddings for its channels
    uses_maps: ClassVar[bool] = True

    def __init__(self, class_counts: Countable, channels: int, **options: Any) -> None:
        super().__init__()
        if options:
            raise InputError(f"{type(self).__name__} takes no option {', '.join(options)}")
        if not isinstance(channels, int) or channels < 1:
            raise InputError(f"a transfer needs the number of channels of the feature maps, at least 1, not {channels}")
        self.counts = ClassCounts(class_counts)
        self.num_classes, self.channels = len(self.counts), channels

    def set_progress(self, progress: float) -> None:
        """Told before each epoch which share of the training lies behind, in [0, 1)."""

    def forward(self, maps: Tensor, targets_B: Tensor, second_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Change the features of a batch.

        Args:
            maps: features of shape (B, C, H, W) or (B, C), any float type.
            targets_B: labels in [0, number of classes).
            second_B: bool, which rows are of the second stream.

        Returns:
            Maps of the same shape and type, and a weight for the loss of each example, shape (B,), or None for all 1.

        Raises:
            InputError: if the shapes do not fit each other.
        """
        self.check_shapes(maps, targets_B, second_B)
        return maps, None

    def adjust(self, logits_BC: Tensor, embeddings_BD: Tensor, targets_B: Tensor, head: nn.Module) -> Tensor:
        """Change the logits of a batch before the loss is taken; unchanged by default.

        Args:
            logits_BC: what `head` made of the embeddings.
            embeddings_BD: input of the head.
            targets_B: labels in [0, C).
            head: last layer of the net.
        """
        return logits_BC

    def check_shapes(self, maps: Tensor, targets_B: Tensor, second_B: Tensor) -> None:
        """Refuse what `forward` can not take.

        Raises:
            InputError: if the shapes do not fit each other, or the labels are soft.
        """
        name, given = type(self).__name__, tuple(maps.shape)
        if maps.ndim not in (2, 4) or given[1] != self.channels:
            raise InputError(
                f"{name} was built for {self.channels} channels, so it needs features of shape "
                f"(B, {self.channels}, H, W) or (B, {self.channels}), not {given}"
            )
        if targets_B.ndim == 2:
            raise InputError(
                f"{name} needs one label for each image, but these are weights of shape {tuple(targets_B.shape)}; "
                "leave out the mixing of images"
            )
        if tuple(targets_B.shape) != given[:1] or second_B.shape != targets_B.shape or second_B.dtype != torch.bool:
            raise InputError(
                f"features of shape {given} need labels and a bool mask of the second stream, both of shape "
                f"{given[:1]}, not {tuple(targets_B.shape)} and {second_B.dtype} of shape {tuple(second_B.shape)}"
            )
