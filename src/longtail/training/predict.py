"""Outputs of a model for a set of images, in batches: logits, embeddings, and the features of whole data sets.

Shapes: N = images or rows, S = batches, B = batch, C = classes, D = embedding dimension, R = uniform random numbers of
an image.
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

BATCH = 500
"""Largest number of images of a batch."""
BATCH_BYTES = 2**24
"""Largest size of a batch of pixels: 500 images up to 105 pixels, 111 images of 224 pixels."""
Views = Sequence[tuple[str, int]]
"""Parts, each with the index of a view: 0 is the plain view, 1 and above are augmented ones."""
_CPU = torch.device("cpu")


def predict(model: Classifier, images: Images, on_batch: Callable[[int], None] | None = None) -> tuple[Tensor, Tensor]:
    """Compute the logits and embeddings of images, in their order, from the plain view of each.

    Args:
        model: Model, used in evaluation mode. The mode of each of its modules is restored afterwards.
        images: N images.
        on_batch: Function called after each batch with its number of images.

    Returns:
        Logits (N, C) and embeddings (N, D), float32, on the CPU.

    Raises:
        InputError: If a logit is NaN or infinite, because the training has diverged.
    """

    def both(pixels_BCHW: Tensor) -> Sequence[Tensor]:
        embeddings_BD = model.embed(pixels_BCHW)
        return model.head(embeddings_BD), embeddings_BD

    logits_NC, embeddings_ND = _in_batches(model, images, both, on_batch, _CPU)
    bad = int((logits_NC.isnan() | (logits_NC == torch.inf)).any(1).sum())
    if bad:
        raise InputError(
            f"the model gives NaN or infinite logits for {bad:,} of {len(logits_NC):,} images; its training has "
            "diverged: train again with a lower learning rate or `clip_norm`"
        )
    return logits_NC, embeddings_ND


def embed(
    model: Classifier, images: Images, on_batch: Callable[[int], None] | None = None, device: torch.device = _CPU
) -> Tensor:
    """Compute the embeddings of images without running the head; they equal those of `predict`.

    Args:
        model: Model, used in evaluation mode. The mode of each of its modules is restored afterwards.
        images: N images.
        on_batch: Function called after each batch with its number of images.
        device: Device of the result.

    Returns:
        Embeddings (N, D), float32.
    """
    (embeddings_ND,) = _in_batches(model, images, lambda pixels: (model.embed(pixels),), on_batch, device)
    return embeddings_ND


def views_of(data: Dataset, parts: Sequence[str], num_augmented: int) -> Views:
    """Return the views to embed, in order: the plain view of each part, and augmented views of the training images.

    Args:
        data: Data set.
        parts: Names of parts: "train", "val" and "test".
        num_augmented: Number of augmented views of each training image.

    Raises:
        InputError: If the data have no such part, or augmented views are requested without the training part.

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
    """Return what describes the rows of a feature file: labels, parts, views, and the classes.

    Args:
        data: Data set.
        views: Views to embed, in order.
        about: Source of the features.
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
    """Yield the embeddings (B, D) and logits (B, C) of views of a data set, float32, one batch at a time.

    Plain views give the same bits as `predict`. Augmented ones are functions of the seed, the view and the index of the
    image in its part.

    Args:
        model: Model; it is set to evaluation mode.
        data: Data set.
        views: Views to embed, in order.
        augment: Augmentation of the augmented views, on the device of the images.
        seed: Seed of the augmented views.
        with_logits: Whether the head is run too. Otherwise the logits are None.
        on_batch: Function called after each batch with its number of images.
    """
    model.eval()
    for part, view in views:
        images = _part(data, part).images
        for pixels, count in _pixels(images, augment if view else None, seed, view):
            yield _embedded(model, pixels, count, with_logits)
            if on_batch is not None:
                on_batch(count)


def plain_order(count: int, size: int) -> tuple[Tensor, list[int]]:
    """Return the order of a pass over images, in batches of one size. The last batch repeats the last image.

    A batch has at most `BATCH` images and `BATCH_BYTES` bytes, so that the batches which workers read ahead fit into
    memory at every image size.

    Args:
        count: Number of images, N.
        size: Side of the images, in pixels.

    Returns:
        Indices (S, B), and the number of images of each batch without repetitions.

    Example:
        >>> order_SB, sizes = plain_order(1200, 32)
        >>> order_SB.shape, sizes, order_SB[-1, -2:]
        (torch.Size([3, 500]), [500, 500, 200], tensor([1199, 1199]))
    """
    batch = min(BATCH, max(1, BATCH_BYTES // (3 * size**2)), count)
    order_SB = torch.arange(-(-count // batch) * batch).clamp(max=count - 1).view(-1, batch)
    return order_SB, [min(batch, count - start) for start in range(0, count, batch)]


def _in_batches(
    model: Classifier,
    images: Images,
    outputs_of: Callable[[Tensor], Sequence[Tensor]],
    on_batch: Callable[[int], None] | None,
    device: torch.device,
) -> list[Tensor]:
    """Return the outputs for all images, written batch by batch into one tensor each, so that they are held once."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    order_SB, sizes = plain_order(len(images), images.size)
    whole: list[Tensor] = []
    start = 0
    with torch.inference_mode():
        for pixels_BCHW, size in zip(images.batches(order_SB, None), sizes, strict=True):
            outputs = outputs_of(pixels_BCHW)
            if not whole:
                with torch.inference_mode(False):  # training cannot use tensors of inference mode
                    whole = [torch.empty(len(images), *output.shape[1:], device=device) for output in outputs]
            for all_N, output_B in zip(whole, outputs, strict=True):
                all_N[start : start + size] = output_B[:size]
            start += size
            if on_batch is not None:
                on_batch(size)
    for module, was_training in modes:
        module.training = was_training
    return whole


def _pixels(images: Images, augment: Augment | None, seed: int, view: int) -> Iterator[tuple[Tensor, int]]:
    """Yield batches of one size, each with the number of images without repetitions."""
    order_SB, sizes = plain_order(len(images), images.size)
    if augment is None:
        yield from zip(images.batches(order_SB, None), sizes, strict=True)
        return
    uniforms_NR = randomness.uniforms((len(images), augment.num_uniforms), "features", seed, view)
    uniforms_SBR = uniforms_NR[order_SB]
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
