"""From images to logits, in batches: what evaluation and `longtail predict` share."""

from collections.abc import Callable

import torch
from torch import Tensor

from longtail.data.dataset import Images
from longtail.models.classifier import Classifier

BATCH = 500


@torch.inference_mode()
def predict(model: Classifier, images: Images, on_batch: Callable[[int], None] | None = None) -> tuple[Tensor, Tensor]:
    """Logits and embeddings of a set of images, in its order, with the plain view of each.

    Args:
        model: put into evaluation mode, and each of its modules back into its own afterwards.
        images: N of them.
        on_batch: told the number of images after each batch.

    Returns:
        Logits (N, C) and embeddings (N, D), float32, on the CPU.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    count = len(images)
    batch = min(BATCH, count)
    order_SB = torch.arange(-(-count // batch) * batch).clamp(max=count - 1).view(-1, batch)
    logits, embeddings = [], []
    for pixels_BCHW in images.batches(order_SB, None):
        embeddings_BD = model.embed(pixels_BCHW)
        logits.append(model.head(embeddings_BD).float().cpu())
        embeddings.append(embeddings_BD.float().cpu())
        if on_batch is not None:
            on_batch(batch)
    for module, was_training in modes:
        module.training = was_training
    return torch.cat(logits)[:count], torch.cat(embeddings)[:count]
