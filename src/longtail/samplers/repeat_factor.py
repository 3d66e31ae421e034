"""Repeat factor sampling (Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019).

https://arxiv.org/abs/1908.03195v2, Appendix B.2: an image is repeated max over its classes c of max(1, sqrt(t / f_c))
times an epoch, f_c being the share of images that hold c. Fractions are rounded at random in each epoch.
Common code (`facebookresearch/detectron2`) rounds each image apart, so that epochs vary in length. We round all images
with one random number, along a shuffled line (systematic sampling): each image still has its factor as expectation, but
the sum is the same in every epoch. The usual threshold of 0.001 suits the 1,203 classes of LVIS; on most data it
repeats nothing.
Shapes: N = training images, M = images of an epoch, P = pairs of an image and a class in it, C = classes.
"""

import math
import warnings
from collections.abc import Collection, Sequence
from itertools import chain
from typing import ClassVar, Unpack, cast

import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.samplers.base import Contract, Sampler, checked_labels

Labels = Tensor | Sequence[int] | Sequence[Collection[int]]


class RepeatFactorSampler(Sampler):
    """Every image once, images of rare classes more than once: no class is thinned out.

    Args:
        targets: label of each training image, shape (N,); or the labels of each image, where it may have several or
            none: a list of N lists or sets.
        threshold: share of the images below which a class is repeated, in (0, 1]. By default the mean share of a class,
            which is 1 / C where each image has one label.
        contract: `num_samples`, `seed`, `rank` and `num_ranks`, see `Sampler`. Here `num_samples` is by default the
            sum of the repeat factors, rounded up; another one repeats all images more or less often alike.

    Raises:
        InputError: if the threshold is out of range, or no image has a label.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> sampler = RepeatFactorSampler(targets)
        >>> sampler.factors_N[[0, 99]]  # 1, and sqrt(0.5 / 0.1)
        tensor([1.0000, 2.2361], dtype=torch.float64)
        >>> len(sampler)  # 90 + 22.361, rounded up
        113
    """

    balances: ClassVar[bool] = True

    def __init__(self, targets: Labels, *, threshold: float | None = None, **contract: Unpack[Contract]) -> None:
        if threshold is not None and not 0 < threshold <= 1:
            raise InputError(f"threshold is a share of the images, in (0, 1], not {threshold}")
        sets = _label_sets(targets)
        if sets is None:
            super().__init__(cast(Tensor | Sequence[int], targets), **contract)
            images_P, labels_P = torch.arange(len(self.targets_N)), self.targets_N
        else:
            labels_P = checked_labels(list(chain.from_iterable(sets)))
            images_P = torch.repeat_interleave(torch.tensor([len(labels) for labels in sets]))
            # one label stands for an image in the contract; the factors see them all
            super().__init__([min(labels, default=int(labels_P.max()) + 1) for labels in sets], **contract)
        self.factors_N = repeat_factors(images_P, labels_P, len(self.targets_N), threshold)
        if "num_samples" not in contract:
            # the sum of many square roots may miss a whole number by a few last bits
            self.num_samples = math.ceil(float(self.factors_N.sum()) * (1 - 1e-12))

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch, shape (M,)."""
        line_N = torch.randperm(len(self.factors_N), generator=generator)
        ends_N = self.factors_N[line_N].cumsum(0)
        ends_N *= self.num_samples / ends_N[-1]
        ends_N[-1] = self.num_samples
        # an image is drawn as often as one of the marks u, u + 1, u + 2, ... falls on its piece of the line
        marks_N = (ends_N - torch.rand(1, generator=generator, dtype=torch.float64)).ceil().long()
        drawn_M = torch.repeat_interleave(line_N, marks_N.diff(prepend=marks_N.new_zeros(1)))
        return drawn_M[torch.randperm(self.num_samples, generator=generator)]


def repeat_factors(images_P: Tensor, labels_P: Tensor, num_images: int, threshold: float | None = None) -> Tensor:
    """How often each image is repeated in an epoch, on average: float64, shape (N,), >= 1.

    Args:
        images_P: which image, for each pair of an image and a class in it.
        labels_P: which class; no pair comes twice.
        num_images: N; an image in no pair has the factor 1.
        threshold: share of the images below which a class is repeated; None is the mean share.

    Example:
        >>> repeat_factors(torch.tensor([0, 1, 2, 3, 3]), torch.tensor([0, 0, 0, 0, 1]), 4, threshold=1.0)
        tensor([1., 1., 1., 2.], dtype=torch.float64)
    """
    _, classes_P, counts_C = torch.unique(labels_P, return_inverse=True, return_counts=True)
    shares_C = counts_C.double() / num_images
    limit = float(shares_C.mean()) if threshold is None else threshold
    if threshold is not None and limit <= float(shares_C.min()):
        warnings.warn(
            f"no image will be repeated: the rarest class is in {float(shares_C.min()):.2g} of the images, not below "
            f"the threshold of {threshold:g}; leave the threshold out for the mean share, {float(shares_C.mean()):.2g}",
            stacklevel=3,
        )
    factors_P = (limit / shares_C).sqrt()[classes_P]
    return torch.ones(num_images, dtype=torch.float64).scatter_reduce(0, images_P, factors_P, "amax")


def _label_sets(targets: Labels) -> list[set[int]] | None:
    """The set of labels of each image, if that is what was given; None for one label each."""
    kinds = (list, tuple, set, frozenset)
    if not isinstance(targets, (list, tuple)) or not any(isinstance(labels, kinds) for labels in targets):
        return None
    if not all(isinstance(labels, kinds) for labels in targets):
        raise InputError("give either one label for each image, or a list of labels for each; not both kinds at once")
    sets = [set(labels) for labels in cast(Sequence[Collection[int]], targets)]
    if not any(sets):
        raise InputError("none of the images has a label; repeat factor sampling needs some")
    return sets
