"""One training step: images and labels -> a scalar loss.

A module of its own, so that all of it can be compiled, captured or wrapped for several ranks.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longtail.embedding.base import EmbeddingLoss
from longtail.errors import InputError
from longtail.losses.base import Loss
from longtail.models.base import find_stage
from longtail.models.classifier import Classifier
from longtail.transfer.base import Transfer


class Step(nn.Module):
    """Model and loss.

    With two streams of images (`longtail.samplers.TwoStreamSampler`), the odd rows of a batch belong to the second
    stream. A stream that an embedding loss requests is used by that loss only; everything else learns from the even
    rows.

    Args:
        model: Images -> logits.
        loss: Logits, targets -> scalar. A loss with the attribute `uses_embeddings` set receives the embeddings too.
        backbone: "train" trains it. "freeze" keeps its batch norm in evaluation mode. "skip" takes embeddings in place
            of images, so that only the head is run. Which parameters learn is set by their `requires_grad`.
        embedding_loss: Embeddings, targets -> scalar, added to the loss.
        transfer: Changes feature maps within the backbone, and weights the examples.

    Raises:
        InputError: If a transfer is combined with a loss that is not a `longtail.losses.base.Loss`, or with an
            embedding loss that requests a stream, or if the backbone has no part of the requested name.
    """

    backbone: Literal["train", "freeze", "skip"]

    def __init__(
        self,
        model: Classifier,
        loss: nn.Module,
        backbone: Literal["train", "freeze", "skip"] = "train",
        embedding_loss: EmbeddingLoss | None = None,
        transfer: Transfer | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.backbone = backbone
        self.embedding_loss = embedding_loss
        self.transfer = transfer
        self.uses_embeddings = takes_embeddings(loss)
        if transfer is not None:
            _weighted_by_transfer(model, loss, embedding_loss, transfer).reduction = "none"

    def train(self, mode: bool = True) -> "Step":
        """Set the training mode of everything but a frozen backbone."""
        super().train(mode)
        if self.backbone != "train":
            self.model.backbone.eval()
        return self

    def set_progress(self, progress: float) -> None:
        """Pass the share of the stage that is done to loss and transfer; the loop calls this before each epoch."""
        for listener in (self.loss, self.transfer):
            if isinstance(listener, (Loss, Transfer)):
                listener.set_progress(progress)

    def phase(self) -> tuple[object, ...]:
        """Return what loss and transfer branch on in Python. A recorded step is valid while it stays the same."""
        return tuple(part.phase() for part in (self.loss, self.transfer) if isinstance(part, (Loss, Transfer)))

    def auxiliary_modules(self) -> dict[str, nn.Module]:
        """Return the modules that have a state in addition to the model, by name."""
        parts = {"loss": self.loss, "embedding_loss": self.embedding_loss, "transfer": self.transfer}
        return {name: part for name, part in parts.items() if part is not None}

    def forward(self, images_BCHW: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch of augmented images."""
        if self.transfer is not None:
            return self._with_transfer(self.transfer, images_BCHW, targets)
        embeddings_BD = images_BCHW if self.backbone == "skip" else self.model.embed(images_BCHW)
        if self.embedding_loss is not None and self.embedding_loss.stream is not None:
            loss = self._loss(embeddings_BD[0::2], targets[0::2])
            return loss + self._embedding_loss(embeddings_BD[1::2], targets[1::2])
        loss = self._loss(embeddings_BD, targets)
        return loss if self.embedding_loss is None else loss + self._embedding_loss(embeddings_BD, targets)

    def _loss(self, embeddings_BD: Tensor, targets: Tensor) -> Tensor:
        extra = (embeddings_BD,) if self.uses_embeddings else ()
        loss: Tensor = self.loss(self.model.head(embeddings_BD), targets, *extra)
        return loss

    def _embedding_loss(self, embeddings_BD: Tensor, targets_B: Tensor) -> Tensor:
        assert self.embedding_loss is not None
        extra = (self.model.head(embeddings_BD),) if self.embedding_loss.uses_logits else ()
        loss: Tensor = self.embedding_loss(embeddings_BD, targets_B, *extra)
        return loss

    def _with_transfer(self, transfer: Transfer, images_BCHW: Tensor, targets_B: Tensor) -> Tensor:
        """Return the mean of the weighted losses of images whose features the transfer has changed."""
        embeddings_BD, weights_B = self._changed(transfer, images_BCHW, targets_B)
        logits_BC = transfer.adjust(self.model.head(embeddings_BD), embeddings_BD, targets_B, self.model.head)
        extra = (embeddings_BD,) if self.uses_embeddings else ()
        losses_B: Tensor = self.loss(logits_BC, targets_B, *extra)
        loss = (losses_B if weights_B is None else losses_B * weights_B).mean()
        return loss if self.embedding_loss is None else loss + self._embedding_loss(embeddings_BD, targets_B)

    def _changed(self, transfer: Transfer, images_BCHW: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings and a weight for each example."""
        if not transfer.uses_maps:
            return self.model.embed(images_BCHW), None
        second_B = torch.zeros_like(targets_B, dtype=torch.bool)
        if transfer.stream is not None:
            second_B[1::2] = True
        weights: list[Tensor | None] = []

        def change(module: nn.Module, given: tuple[Tensor, ...], maps: Tensor) -> Tensor:
            del module, given
            maps, weights_B = transfer(maps, targets_B, second_B)
            weights.append(weights_B)
            return maps

        with find_stage(self.model.backbone, transfer.at).register_forward_hook(change):
            return self.model.embed(images_BCHW), weights[-1]


def takes_embeddings(loss: Callable[..., Any]) -> bool:
    """Return whether a loss takes the embeddings as its third argument."""
    return bool(getattr(loss, "uses_embeddings", False))  # a third party's loss may lack the attribute


def _weighted_by_transfer(
    model: Classifier, loss: nn.Module, embedding_loss: EmbeddingLoss | None, transfer: Transfer
) -> Loss:
    """Return the loss, if a transfer can weight its examples."""
    if not isinstance(loss, Loss):
        raise InputError(
            f"a transfer weights single examples, which {type(loss).__name__} does not support; use a loss of "
            "longtail.losses, or derive yours from longtail.losses.base.Loss"
        )
    if embedding_loss is not None and embedding_loss.stream is not None:
        raise InputError(
            f"{type(embedding_loss).__name__} requests a second stream of images for itself, but "
            f"{type(transfer).__name__} acts on all images of a step; give the embedding loss other pairs "
            "(pairs='batch'), or remove one of the two"
        )
    if transfer.uses_maps:
        find_stage(model.backbone, transfer.at)
    return loss
