"""Repeat factor sampling (Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019).

https://arxiv.org/abs/1908.03195v2, Appendix B.2. An image is repeated max over its classes c of max(1, sqrt(t / f_c))
times per epoch, where f_c is the share of images that contain c. Fractions are rounded at random in each epoch.

Common code (`facebookresearch/detectron2`) rounds each image separately, so epochs vary in length. This implementation
rounds all images with one random number along a shuffled line (systematic sampling). The expectation of each image is
still its factor, and all epochs have the same length. The usual threshold of 0.001 suits the 1,203 classes of LVIS; on
most other data it repeats nothing.
Shapes: N = training images, M = images per epoch, P = pairs of an image and a class in it, C = classes.
"""

import math
import warnings
from collections.abc import Collection, Sequence
from itertools import chain
from typing import ClassVar, cast

import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.ranges import check_number
from longtail.samplers.base import Sampler, checked_labels

Labels = Tensor | Sequence[int] | Sequence[Collection[int]]


class RepeatFactorSampler(Sampler):
    """Oversampling of images with rare classes; every image is seen at least once per epoch.

    Also for multi-label data.

    Args:
        targets: Label of each training image, shape (N,). For multi-label data, a list with a list or set of labels per
            image, which may be empty.
        threshold: Share of the images below which a class is repeated, in (0, 1]. Default: the mean share of a class,
            which is 1 / C for single-label data.
        num_samples: Images per epoch over all ranks. Default: the sum of the repeat factors, rounded up. Another value
            scales the frequencies of all images equally.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.

    Raises:
        InputError: If `threshold` is out of range, or no image has a label.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> sampler = RepeatFactorSampler(targets)
        >>> sampler.factors_N[[0, 99]]  # 1, and sqrt(0.5 / 0.1)
        tensor([1.0000, 2.2361], dtype=torch.float64)
        >>> len(sampler)  # 90 + 22.361, rounded up
        113
    """

    balances: ClassVar[bool] = True

    def __init__(
        self,
        targets: Labels,
        *,
        threshold: float | None = None,
        num_samples: int | None = None,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        check_number("threshold", threshold, "a share of the images", optional=True, above=0, at_most=1)
        sets = _label_sets(targets)
        if sets is None:
            labels = cast(Tensor | Sequence[int], targets)
        else:
            labels_P = checked_labels(list(chain.from_iterable(sets)))
            images_P = torch.repeat_interleave(torch.tensor([len(labels) for labels in sets]))
            # `Sampler` needs one label per image; the factors use all of them
            labels = [min(labels, default=int(labels_P.max()) + 1) for labels in sets]
        super().__init__(labels, num_samples=num_samples, seed=seed, rank=rank, num_ranks=num_ranks)
        if sets is None:
            images_P, labels_P = torch.arange(len(self.targets_N)), self.targets_N
        self.threshold = threshold
        self.factors_N = repeat_factors(images_P, labels_P, len(self.targets_N), threshold)
        if num_samples is None:
            # tolerance: a sum of square roots may exceed an integer by a rounding error
            self.num_samples = math.ceil(float(self.factors_N.sum()) * (1 - 1e-12))

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Draw the indices of one epoch, shape (M,)."""
        line_N = torch.randperm(len(self.factors_N), generator=generator)
        ends_N = self.factors_N[line_N].cumsum(0)
        ends_N *= self.num_samples / ends_N[-1]
        ends_N[-1] = self.num_samples
        # an image is drawn once for each of the marks u, u + 1, u + 2, ... on its piece of the line
        marks_N = (ends_N - torch.rand(1, generator=generator, dtype=torch.float64)).ceil().long()
        drawn_M = torch.repeat_interleave(line_N, marks_N.diff(prepend=marks_N.new_zeros(1)))
        return drawn_M[torch.randperm(self.num_samples, generator=generator)]


def repeat_factors(images_P: Tensor, labels_P: Tensor, num_images: int, threshold: float | None = None) -> Tensor:
    """Return the expected number of repeats of each image per epoch: float64, shape (N,), >= 1.

    Args:
        images_P: Image of each pair of an image and a class in it.
        labels_P: Class of each pair. Pairs must be unique.
        num_images: Number of images, N. An image without a pair has the factor 1.
        threshold: Share of the images below which a class is repeated. Default (None): the mean share.

    Example:
        >>> repeat_factors(torch.tensor([0, 1, 2, 3, 3]), torch.tensor([0, 0, 0, 0, 1]), 4, threshold=1.0)
        tensor([1., 1., 1., 2.], dtype=torch.float64)
    """
    _, classes_P, counts_C = torch.unique(labels_P, return_inverse=True, return_counts=True)
    shares_C = counts_C.double() / num_images
    limit = float(shares_C.mean()) if threshold is None else threshold
    if threshold is not None and limit <= float(shares_C.min()):
        warnings.warn(
            f"`threshold` of {threshold:g} repeats no image, since the rarest class is in {float(shares_C.min()):.2g} "
            f"of the images. Omit it to use the mean share, {float(shares_C.mean()):.2g}.",
            stacklevel=3,
        )
    factors_P = (limit / shares_C).sqrt()[classes_P]
    return torch.ones(num_images, dtype=torch.float64).scatter_reduce(0, images_P, factors_P, "amax")


def _label_sets(targets: Labels) -> list[set[int]] | None:
    """Return the set of labels of each image for multi-label targets, and None for single labels."""
    kinds = (list, tuple, set, frozenset)
    if not isinstance(targets, (list, tuple)) or not any(isinstance(labels, kinds) for labels in targets):
        return None
    if not all(isinstance(labels, kinds) for labels in targets):
        raise InputError("`targets` must hold either one label per image or a list of labels per image, not both")
    sets = [set(labels) for labels in cast(Sequence[Collection[int]], targets)]
    if not any(sets):
        raise InputError("`targets` must name at least one label, but the lists of all images are empty")
    return sets
