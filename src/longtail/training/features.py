"""Embeddings of a part of the data, computed once, for stages that leave the backbone as it is.

Shapes: N = images, D = embedding dimension, S = steps of an epoch, B = batch.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from longtail._logging import progress_bar
from longtail.data.dataset import Dataset, Part
from longtail.errors import InputError
from longtail.models.classifier import Classifier
from longtail.training.context import Context
from longtail.training.predict import embed

PartName = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of a part of the data under a backbone.

    Args:
        embeddings_ND: Embeddings, float32, on the training device.
        targets_N: Labels, int64, on the CPU.
    """

    embeddings_ND: Tensor
    targets_N: Tensor

    def part(self) -> Part:
        """Return the features as a part of a data set, on which the loop trains a head."""
        return Part(FeatureImages(self.embeddings_ND), self.targets_N)


class FeatureImages:
    """Embeddings in place of images: a batch is selected by index.

    Args:
        embeddings_ND: Embeddings, shape (N, D).

    Example:
        >>> images = FeatureImages(torch.arange(6.0).view(3, 2))
        >>> next(images.batches(torch.tensor([[2, 0]]), None))
        tensor([[4., 5.],
                [0., 1.]])
    """

    def __init__(self, embeddings_ND: Tensor) -> None:
        self.embeddings_ND = embeddings_ND
        self.size = 1

    def __len__(self) -> int:
        return len(self.embeddings_ND)

    def batches(self, order_SB: Tensor, uniforms_SBR: Tensor | None) -> Iterator[Tensor]:
        """Yield a tensor (B, D) for each row of `order_SB`. Reading uses no random numbers."""
        del uniforms_SBR
        yield from map(self.pick, order_SB.to(self.embeddings_ND.device))

    def pick(self, picked_B: Tensor) -> Tensor:
        """Return the embeddings at indices on the device, in their order."""
        return self.embeddings_ND[picked_B]

    def subset(self, indices: Tensor) -> "FeatureImages":
        """Return the embeddings at `indices`, in that order."""
        return FeatureImages(self.embeddings_ND[indices.to(self.embeddings_ND.device)])

    def thumbnail(self, index: int) -> Tensor:
        """Raise an error: an embedding has no picture."""
        raise InputError(
            f"an embedding has no picture, so there is no thumbnail {index}; use the data set of the images"
        )


def features_of(model: Classifier, data: Dataset, name: PartName, context: Context) -> Features:
    """Return the embeddings of a part under the backbone in eval mode, from the unaugmented view of each image.

    They are computed once per part of a run, and again after the backbone has changed.

    Raises:
        InputError: If the data have no such part.
    """
    part = {"train": data.train, "val": data.val, "test": data.test}[name]
    if part is None:
        raise InputError("no training images are held out for validation; set `val_share`, such as 0.1")
    digest = fingerprint(model.backbone)
    found: tuple[str, Features] | None = context.cache.get(f"features of {name}")
    if found is None or found[0] != digest:
        started = time.perf_counter()
        found = (digest, _compute(model, part, name, context.device))
        context.cache[f"features of {name}"] = found
        context.add_time(time.perf_counter() - started, len(part))
    return found[1]


def fingerprint(module: nn.Module) -> str:
    """Return a digest of all weights and buffers, which is equal only for equal bits.

    Example:
        >>> fingerprint(nn.BatchNorm1d(2)) == fingerprint(nn.BatchNorm1d(2))
        True
    """
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _compute(model: Classifier, part: Part, name: PartName, device: torch.device) -> Features:
    with progress_bar(f"embedding the {name} images", len(part), images_per_unit=1) as bar:
        return Features(embed(model, part.images, bar.advance, device), part.targets)
