"""Logits and embeddings of images in batches, for evaluation, `longtail predict` and features.

Shapes: N = images, S = batches, B = batch, C = classes, D = embedding dimension.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from longtail.data.dataset import Images
from longtail.models.classifier import Classifier

BATCH = 500
BATCH_BYTES = 2**24
"""Largest size of a batch of pixels: 500 images up to 105 pixels, 111 images of 224 pixels."""
_CPU = torch.device("cpu")


def predict(model: Classifier, images: Images, on_batch: Callable[[int], None] | None = None) -> tuple[Tensor, Tensor]:
    """Return logits and embeddings of a set of images, in its order, from the unaugmented view of each.

    Args:
        model: Model. It is evaluated in eval mode; the mode of each module is restored afterwards.
        images: N images.
        on_batch: Called with the number of images after each batch.

    Returns:
        Logits (N, C) and embeddings (N, D), float32, on the CPU.
    """

    def both(pixels_BCHW: Tensor) -> Sequence[Tensor]:
        embeddings_BD = model.embed(pixels_BCHW)
        return model.head(embeddings_BD), embeddings_BD

    logits_NC, embeddings_ND = _in_batches(model, images, both, on_batch, _CPU)
    return logits_NC, embeddings_ND


def embed(
    model: Classifier, images: Images, on_batch: Callable[[int], None] | None = None, device: torch.device = _CPU
) -> Tensor:
    """Return the embeddings of `predict` without running the head.

    Args:
        model: Model, as for `predict`.
        images: N images.
        on_batch: Called with the number of images after each batch.
        device: Device of the returned embeddings.

    Returns:
        Shape (N, D), float32.
    """
    (embeddings_ND,) = _in_batches(model, images, lambda pixels: (model.embed(pixels),), on_batch, device)
    return embeddings_ND


def plain_order(count: int, size: int) -> tuple[Tensor, list[int]]:
    """Return the images in order, in batches of equal size. The last batch is padded with the last image.

    A batch has at most `BATCH` images and `BATCH_BYTES` bytes, so that the batches which workers read ahead fit into
    memory at every image size.

    Args:
        count: Number of images, N.
        size: Side of the images, in pixels.

    Returns:
        Positions (S, B), and the number of images of each batch that are not padding.

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
    """Return the outputs for all images, written batch by batch into their final tensor."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    order_SB, sizes = plain_order(len(images), images.size)
    whole: list[Tensor] = []
    start = 0
    with torch.inference_mode():
        for pixels_BCHW, size in zip(images.batches(order_SB, None), sizes, strict=True):
            outputs = outputs_of(pixels_BCHW)
            if not whole:
                with torch.inference_mode(False):  # a tensor of inference mode could not take part in training
                    whole = [torch.empty(len(images), *output.shape[1:], device=device) for output in outputs]
            for all_N, output_B in zip(whole, outputs, strict=True):
                all_N[start : start + size] = output_B[:size]
            start += size
            if on_batch is not None:
                on_batch(size)
    for module, was_training in modes:
        module.training = was_training
    return whole
