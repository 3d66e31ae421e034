"""From images to logits and embeddings, in batches: what evaluation, `longtail predict` and features share.

Shapes: N = images, S = batches, B = batch, C = classes, D = embedding dimension.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from longtail.data.dataset import Images
from longtail.models.classifier import Classifier

BATCH = 500
_CPU = torch.device("cpu")


def predict(model: Classifier, images: Images, on_batch: Callable[[int], None] | None = None) -> tuple[Tensor, Tensor]:
    """Logits and embeddings of a set of images, in its order, with the plain view of each.

    Args:
        model: put into evaluation mode, and each of its modules back into its own afterwards.
        images: N of them.
        on_batch: told the number of images after each batch.

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
    """Embeddings alone, as `predict` gives them; the head is not asked.

    Args:
        model: as for `predict`.
        images: N of them.
        on_batch: told the number of images after each batch.
        device: where the embeddings are to lie.

    Returns:
        Shape (N, D), float32.
    """
    (embeddings_ND,) = _in_batches(model, images, lambda pixels: (model.embed(pixels),), on_batch, device)
    return embeddings_ND


def plain_order(count: int) -> tuple[Tensor, list[int]]:
    """Images in their order, in batches of one size, the last filled up with the last image.

    Args:
        count: N.

    Returns:
        Places (S, B), and of each batch how many images count.

    Example:
        >>> order_SB, sizes = plain_order(1200)
        >>> order_SB.shape, sizes, order_SB[-1, -2:]
        (torch.Size([3, 500]), [500, 500, 200], tensor([1199, 1199]))
    """
    batch = min(BATCH, count)
    order_SB = torch.arange(-(-count // batch) * batch).clamp(max=count - 1).view(-1, batch)
    return order_SB, [min(batch, count - start) for start in range(0, count, batch)]


def _in_batches(
    model: Classifier,
    images: Images,
    outputs_of: Callable[[Tensor], Sequence[Tensor]],
    on_batch: Callable[[int], None] | None,
    device: torch.device,
) -> list[Tensor]:
    """What a model makes of all images, written where it is to stay batch by batch, so that it is held once."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    order_SB, sizes = plain_order(len(images))
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
