"""What one training step computes: images and labels -> a scalar loss.

A module of its own, so that the whole of it can be compiled, captured or wrapped for several ranks.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from longtail.embedding.base import EmbeddingLoss
from longtail.errors import InputError
from longtail.losses.base import Loss
from longtail.models.base import find_stage
from longtail.models.classifier import Classifier
from longtail.transfer.base import Transfer


class Step(nn.Module):
    """The model under a loss.

    Where there are two streams of images (`longtail.samplers.TwoStreamSampler`), the odd rows of a batch are of the
    second one. A stream that an embedding loss asks for is for that loss alone; all else learns from the even rows.

    Args:
        model: images -> logits.
        loss: logits, targets -> scalar; one that declares `uses_embeddings` is given them too.
        backbone: "train"; "freeze" keeps its batch norm in evaluation mode; "skip" takes embeddings for images, so that
            only the head is run. What of it learns is for the parameters' `requires_grad` to say.
        embedding_loss: embeddings, targets -> scalar, added to the loss.
        transfer: changes feature maps on their way through the backbone, and weights the examples.

    Raises:
        InputError: if a transfer is to weight the examples of a loss that is not one of longtail's contract, or stands
            beside an embedding loss with a stream of its own, or there is no such part of the backbone as it names.
    """

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
        self.uses_embeddings: bool = getattr(loss, "uses_embeddings", False)
        if transfer is not None:
            if not isinstance(loss, Loss):
                raise InputError(
                    f"a transfer weights the examples one by one, which {type(loss).__name__} does not allow; take a "
                    "loss of longtail.losses, or derive yours from longtail.losses.base.Loss"
                )
            if embedding_loss is not None and embedding_loss.stream is not None:
                raise InputError(
                    f"{type(embedding_loss).__name__} asks for a second stream of images for itself alone, and "
                    f"{type(transfer).__name__} works on all images of a step; give the embedding loss other pairs "
                    "(pairs='batch', say), or leave one of the two out"
                )
            if transfer.uses_maps:
                find_stage(model.backbone, transfer.at)
            loss.reduction = "none"

    def train(self, mode: bool = True) -> "Step":
        """Training mode for all but a frozen backbone."""
        super().train(mode)
        if self.backbone != "train":
            self.model.backbone.eval()
        return self

    def set_progress(self, progress: float) -> None:
        """Tell loss and transfer which share of the stage lies behind; the loop does so before each epoch."""
        for listener in (self.loss, self.transfer):
            if isinstance(listener, (Loss, Transfer)):
                listener.set_progress(progress)

    def beside_model(self) -> dict[str, nn.Module]:
        """What has a state of its own beside the model, by name."""
        parts = {"loss": self.loss, "embedding_loss": self.embedding_loss, "transfer": self.transfer}
        return {name: part for name, part in parts.items() if part is not None}

    def forward(self, images_BCHW: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch of augmented images."""
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
        """The mean, over the batch, of the weighted losses of images whose features the transfer has changed."""
        embeddings_BD, weights_B = self._changed(transfer, images_BCHW, targets_B)
        logits_BC = transfer.adjust(self.model.head(embeddings_BD), embeddings_BD, targets_B, self.model.head)
        extra = (embeddings_BD,) if self.uses_embeddings else ()
        losses_B: Tensor = self.loss(logits_BC, targets_B, *extra)
        loss = (losses_B if weights_B is None else losses_B * weights_B).mean()
        return loss if self.embedding_loss is None else loss + self._embedding_loss(embeddings_BD, targets_B)

    def _changed(self, transfer: Transfer, images_BCHW: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings, and a weight for each example."""
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
