"""Sampling of images by the classes of the objects in them.

Shapes: N = images, P = pairs of an image and a class in it, M = images of an epoch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from longtail import samplers
from longtail.component import Component
from longtail.errors import InputError
from longtail.samplers import InstanceSampler, RepeatFactorSampler, Sampler


class PairSampler(Sampler):
    """Sampler of images that draws pairs of an image and a class in it by a sampler of single-label data.

    Args:
        inner: Sampler of the pairs.
        images_P: Image of each pair.
    """

    def __init__(self, inner: Sampler, images_P: Tensor) -> None:
        super().__init__(inner.targets_N, num_samples=inner.num_samples)
        self.inner, self.images_P = inner, images_P
        self.balances = type(inner).balances  # type: ignore[misc]

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Draw the images of one epoch, shape (M,)."""
        return self.images_P[self.inner.draw(generator, progress)]


def build_image_sampler(component: Component, labels: Sequence[Sequence[int]]) -> Sampler:
    """Return a sampler of images whose objects have several classes.

    `RepeatFactorSampler` repeats an image by its rarest class, as on LVIS. `InstanceSampler` takes every image once per
    epoch. Others, such as `ClassAwareSampler`, draw a class and then an image with it. An epoch has N images,
    except with `RepeatFactorSampler`.

    Args:
        component: Sampler and its options.
        labels: Classes in each image, from 0; may be empty.

    Raises:
        InputError: If the sampler or an option is unknown, or no image has an object.

    Example:
        >>> sampler = build_image_sampler(Component("ClassAwareSampler"), [[0], [0], [0, 1], []])
        >>> len(sampler), 3 in sampler.order(seed=0, epoch=0)  # the image without objects is not drawn
        (4, False)
    """
    cls = component.check(samplers)
    if not any(labels):
        raise InputError("`labels` must name at least one class, but no image has an object; add annotations")
    if issubclass(cls, RepeatFactorSampler):
        sampler: Sampler = component.build(samplers, [list(each) for each in labels])
        return sampler
    if issubclass(cls, InstanceSampler):
        every: Sampler = component.build(samplers, [0] * len(labels))
        return every
    images_P = torch.repeat_interleave(torch.tensor([len(each) for each in labels]))
    labels_P = torch.tensor([label for each in labels for label in each])
    options = {"num_samples": len(labels), **component.options}
    return PairSampler(Component(component.name, options).build(samplers, labels_P), images_P)
