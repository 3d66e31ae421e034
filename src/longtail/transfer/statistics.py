"""Running mean and covariance of the features of each class, as in SMART (Eqs. 2 and 3) and ISDA.

A batch is merged by one batched product over its images and one product that sums the images of each class. There is no
loop over classes or images and no synchronization with the device. Sums have a fixed order, so runs are bit-identical
on any device. Ranks exchange the sums of their classes, so that all ranks hold the statistics of all images.
Shapes: B = images, P = positions of an image, C = channels, K = classes, G = groups of images of one class,
E = entries to be grouped; CC = C x C, or C if only variances are kept.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, distributed, nn

from longtail.errors import unknown_name
from longtail.ranges import check_number

Merge = Literal["exact", "literal"]


@dataclass(frozen=True)
class Groups:
    """Entries of a batch grouped by class, in shapes that do not depend on the labels.

    Args:
        classes_G: Class of each group. With more classes than entries, every entry has a group, but only the first
            group of a class is used.
        group_E: Group of each entry.
    """

    classes_G: Tensor
    group_E: Tensor

    @classmethod
    def of(cls, classes_E: Tensor, num_classes: int) -> "Groups":
        """Group entries by their class.

        Args:
            classes_E: Class of each entry, in [0, `num_classes`).
            num_classes: Number of classes.

        Example:
            >>> Groups.of(torch.tensor([2, 0, 2]), 3).group_E
            tensor([2, 0, 2])
            >>> Groups.of(torch.tensor([7, 5, 7]), 9).group_E
            tensor([0, 1, 0])
        """
        if num_classes <= len(classes_E):
            return cls(torch.arange(num_classes, device=classes_E.device), classes_E)
        same_EE = classes_E[:, None] == classes_E[None, :]
        return cls(classes_E, same_EE.int().argmax(dim=1))

    def sum(self, values: Tensor) -> Tensor:
        """Sum the entries of each group: (E, ...) -> (G, ...)."""
        numbers_G1 = torch.arange(len(self.classes_G), device=self.group_E.device)[:, None]
        member_GE = (numbers_G1 == self.group_E).to(values.dtype)
        return (member_GE @ values.flatten(1)).view(len(numbers_G1), *values.shape[1:])


@dataclass(frozen=True)
class ClassMoments:
    """Statistics of the classes of a batch, after the batch was merged into them.

    Args:
        groups: Images of the batch by class.
        means_GC: Mean of the class of each group.
        covariances_GCC: Covariance of that class, or its variances (G, C).
    """

    groups: Groups
    means_GC: Tensor
    covariances_GCC: Tensor


class RunningClassStatistics(nn.Module):
    """Mean and covariance (divided by n, not n - 1) of the features of each class over all images since a reset.

    Args:
        num_classes: Number of classes, K.
        channels: Number of channels, C.
        merge: Way to merge a batch. "exact" (default) gives the statistics of all images together (Chan et al., 1979).
            "literal" is Eq. 3 of SMART, which omits the distance between the batch mean and the running mean.
        momentum: Share of the images of a batch in the statistics of their class, in (0, 1]. Default (None): all images
            have the same share, as in the papers.
        count_cap: Number of images after which a class forgets: its statistics count as those of at most this number of
            images. Default (None): never.
        diagonal: Whether to keep variances only. Default: False.

    Raises:
        InputError: If an option is unknown or out of range.

    Example:
        >>> statistics = RunningClassStatistics(2, 1)
        >>> for value in (1.0, 3.0, 8.0):
        ...     moments = statistics.update(torch.tensor([[[value]]]), torch.tensor([0]))
        >>> statistics.counts_K, statistics.means_KC.flatten(), statistics.covariances_KCC.flatten()
        (tensor([3., 0.]), tensor([4., 0.]), tensor([8.6667, 0.0000]))
    """

    counts_K: Tensor
    means_KC: Tensor
    covariances_KCC: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        merge: Merge = "exact",
        momentum: float | None = None,
        count_cap: int | None = None,
        diagonal: bool = False,
    ) -> None:
        super().__init__()
        if merge not in get_args(Merge):
            raise unknown_name("way to merge a batch into the statistics", str(merge), get_args(Merge))
        check_number("momentum", momentum, "None: all images weigh the same", optional=True, above=0, at_most=1)
        check_number("count_cap", count_cap, integer=True, optional=True, at_least=1)
        self.merge, self.momentum, self.count_cap, self.diagonal = merge, momentum, count_cap, diagonal
        shape = (num_classes, channels) if diagonal else (num_classes, channels, channels)
        self.register_buffer("counts_K", torch.zeros(num_classes))
        self.register_buffer("means_KC", torch.zeros(num_classes, channels))
        self.register_buffer("covariances_KCC", torch.zeros(shape))

    def reset(self) -> None:
        """Reset all statistics."""
        for buffer in self.buffers():
            buffer.zero_()

    def update(self, rows_BPC: Tensor, targets_B: Tensor, detach: bool = True) -> ClassMoments:
        """Merge a batch.

        Args:
            rows_BPC: Features of each image at each of its positions, of the type of the buffers.
            targets_B: Labels in [0, K).
            detach: Whether the result is a constant. Otherwise, a gradient flows through it to the features of this
                rank.

        Returns:
            New statistics of the classes in the batch.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
            centered_BPC = rows_BPC - self.means_KC[targets_B][:, None]
            groups = Groups.of(targets_B, len(self.counts_K))
            sums = [
                groups.sum(values) for values in (*self._moments(centered_BPC), rows_BPC.new_ones(len(targets_B), 1))
            ]
            everyone, own_G, sums = _over_all_ranks(groups, sums, len(self.counts_K))
            counts_G, means_GC, covariances_GCC = self._merged(everyone.classes_G, *sums)
        self._write(everyone, counts_G, means_GC.detach(), covariances_GCC.detach())
        return ClassMoments(groups, means_GC[own_G], covariances_GCC[own_G])

    @torch.no_grad()
    def _write(self, groups: Groups, counts_G: Tensor, means_GC: Tensor, covariances_GCC: Tensor) -> None:
        """Store the new statistics, entry by entry, so that unused groups are not written."""
        classes_E = groups.classes_G[groups.group_E]
        for buffer, values in (
            (self.counts_K, counts_G),
            (self.means_KC, means_GC),
            (self.covariances_KCC, covariances_GCC),
        ):
            buffer.index_copy_(0, classes_E, values[groups.group_E])

    def _moments(self, centered_BPC: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the first and second moment of each image about the running mean of its class."""
        means_BC = centered_BPC.mean(dim=1)
        if self.diagonal:
            return means_BC, centered_BPC.square().mean(dim=1)
        return means_BC, centered_BPC.transpose(1, 2) @ centered_BPC / centered_BPC.shape[1]

    def _merged(
        self, classes_G: Tensor, sums_GC: Tensor, squares_GCC: Tensor, images_G1: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute new counts, means and covariances. Classes without an image in the batch are unchanged."""
        images_G, seen_G = images_G1.flatten(), self.counts_K[classes_G]
        share_G = self._share(seen_G, images_G)
        shift_GC = sums_GC / images_G1.clamp(min=1)
        products = shift_GC.square() if self.diagonal else shift_GC[:, :, None] * shift_GC[:, None, :]
        as_products = (len(classes_G), *[1] * (products.ndim - 1))
        share = share_G.view(as_products)
        # scatter of the batch about its own mean, plus share (1 - share) times the squared shift, which Eq. 3 omits
        lost = share.square() if self.merge == "exact" else share
        scatter = squares_GCC / images_G.clamp(min=1).view(as_products)
        covariances = (1 - share) * self.covariances_KCC[classes_G] + share * scatter - lost * products
        return seen_G + images_G, self.means_KC[classes_G] + share_G[:, None] * shift_GC, covariances

    def _share(self, seen_G: Tensor, images_G: Tensor) -> Tensor:
        """Compute the weight of the batch relative to earlier images (Eq. 2: alpha), shape (G,); 0 without an image."""
        if self.count_cap is not None:
            seen_G = seen_G.clamp(max=self.count_cap)
        share_G = images_G / (seen_G + images_G).clamp(min=1)
        if self.momentum is not None:  # the first images of a class have the full weight
            share_G = torch.where((seen_G > 0) & (images_G > 0), self.momentum, share_G)
        return share_G


def _over_all_ranks(groups: Groups, sums: list[Tensor], num_classes: int) -> tuple[Groups, Tensor, list[Tensor]]:
    """Return groups and sums over the images of all ranks, and the positions of the groups of this rank."""
    size = len(groups.classes_G)
    if not (distributed.is_available() and distributed.is_initialized()):
        return groups, torch.arange(size, device=groups.classes_G.device), sums
    everyone = Groups.of(_gathered(groups.classes_G), num_classes)
    first = size * distributed.get_rank()
    return everyone, everyone.group_E[first : first + size], [everyone.sum(_gathered(part)) for part in sums]


def _gathered(values: Tensor) -> Tensor:
    """Concatenate the values of all ranks along the first dimension. Only those of this rank carry a gradient."""
    parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, values.detach().contiguous())
    parts[distributed.get_rank()] = values
    return torch.cat(parts)
