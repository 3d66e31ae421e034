"""Embeddings and logits of whole data sets, one batch in memory at a time.

Shapes: N = rows, n = images of a part, S = batches, B = batch, D = embedding dimension, C = classes, R = uniform random
numbers of an image.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail import _random as randomness
from longtail.augment.policies import Augment
from longtail.data.dataset import Dataset, Images, Part
from longtail.data.formats.feature_files import Block
from longtail.data.formats.features import FeatureRows
from longtail.errors import InputError
from longtail.models.classifier import Classifier
from longtail.training.predict import plain_order

Views = Sequence[tuple[str, int]]
"""Pairs of part and view: ("train", 0) is the plain view of the training images, ("train", 1) an augmented one."""


def views_of(data: Dataset, parts: Sequence[str], num_augmented: int) -> Views:
    """Return the views to embed, in order: the plain view of each part, and augmented views of the training images.

    Args:
        data: Data set with a training part, a test part and optionally a validation part.
        parts: Parts to embed, of "train", "val" and "test".
        num_augmented: Number of augmented views of each training image.

    Raises:
        InputError: If a part does not exist, or augmented views are requested without the training part.

    Example:
        >>> from longtail.config.schema import DataConfig
        >>> from longtail.data.formats.digits import load_digits_lt
        >>> views_of(load_digits_lt(DataConfig(), torch.device("cpu")), ("train", "test"), 2)
        [('train', 0), ('train', 1), ('train', 2), ('test', 0)]
    """
    if num_augmented < 0:
        raise InputError(f"the number of augmented views must be >= 0, got {num_augmented}")
    if num_augmented and "train" not in parts:
        raise InputError("augmented views are made of the training images: the parts must include train")
    for part in parts:
        _part(data, part)
    plain = [(part, 0) for part in ("train", "val", "test") if part in parts]
    return [(part, view) for part, _ in plain for view in range(1 + (num_augmented if part == "train" else 0))]


def feature_rows(data: Dataset, views: Views, about: dict[str, Any]) -> FeatureRows:
    """Return labels, parts and views of the rows, and the counts and names of the classes.

    Args:
        data: Data set to embed.
        views: Views to embed, in order.
        about: Provenance of the features.
    """
    labels = [_part(data, part).targets for part, _ in views]
    return FeatureRows(
        torch.cat(labels),
        np.concatenate([np.full(len(each), part) for each, (part, _) in zip(labels, views, strict=True)]),
        torch.cat([torch.full_like(each, view) for each, (_, view) in zip(labels, views, strict=True)]),
        data.class_names,
        data.class_counts,
        about,
    )


def feature_blocks(
    model: Classifier,
    data: Dataset,
    views: Views,
    augment: Augment,
    seed: int,
    *,
    with_logits: bool,
    on_batch: Callable[[int], None] | None = None,
) -> Iterator[Block]:
    """Yield embeddings (B, D) and logits (B, C) of views of a data set, in order, float32, one batch at a time.

    Plain views equal those of `longtail.training.predict` bit for bit. Augmented views are functions of the seed, the
    view and the position of the image in its part.

    Args:
        model: Model. It is put into eval mode.
        data: Data set to embed.
        views: Views to embed, in order.
        augment: Augmentation of the augmented views, on the device of the images.
        seed: Seed of the augmented views.
        with_logits: Run the head too.
        on_batch: Called with the number of images after each batch.
    """
    model.eval()
    for part, view in views:
        images = _part(data, part).images
        for pixels, count in _pixels(images, augment if view else None, seed, view):
            yield _embedded(model, pixels, count, with_logits)
            if on_batch is not None:
                on_batch(count)


def _pixels(images: Images, augment: Augment | None, seed: int, view: int) -> Iterator[tuple[Tensor, int]]:
    """Yield batches of equal size with the number of images that are not padding."""
    order_SB, sizes = plain_order(len(images), images.size)
    if augment is None:
        yield from zip(images.batches(order_SB, None), sizes, strict=True)
        return
    uniforms_nR = randomness.uniforms((len(images), augment.num_uniforms), "features", seed, view)
    uniforms_SBR = uniforms_nR[order_SB]
    read = images.batches(order_SB, uniforms_SBR if augment.reader_uniforms else None)
    for pixels_BCHW, uniforms_BR, size in zip(read, uniforms_SBR, sizes, strict=True):
        yield augment(pixels_BCHW, uniforms_BR.to(pixels_BCHW.device)), size


@torch.inference_mode()
def _embedded(model: Classifier, pixels_BCHW: Tensor, count: int, with_logits: bool) -> Block:
    embeddings_BD = model.embed(pixels_BCHW)
    logits_BC = model.head(embeddings_BD)[:count].float().cpu().numpy() if with_logits else None
    return embeddings_BD[:count].float().cpu().numpy(), logits_BC


def _part(data: Dataset, name: str) -> Part:
    part = {"train": data.train, "val": data.val, "test": data.test}[name]
    if part is None:
        raise InputError("no training images are held out, so there is no val part; set `val_share`, such as 0.1")
    return part
