"""What one training step computes: images and labels -> a scalar loss.

A module of its own, so that the whole of it can be compiled, captured or wrapped for several ranks.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

from typing import Literal

from torch import Tensor, nn

from longtail.losses.base import Loss
from longtail.models.classifier import Classifier


class Step(nn.Module):
    """The model under a loss.

    Args:
        model: images -> logits.
        loss: logits, targets -> scalar; one that declares `uses_embeddings` is given them too.
        backbone: "train"; "freeze" keeps its batch norm in evaluation mode; "skip" takes embeddings for images, so that
            only the head is run. What of it learns is for the parameters' `requires_grad` to say.
    """

    def __init__(
        self, model: Classifier, loss: nn.Module, backbone: Literal["train", "freeze", "skip"] = "train"
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.backbone = backbone
        self.uses_embeddings: bool = getattr(loss, "uses_embeddings", False)

    def train(self, mode: bool = True) -> "Step":
        """Training mode for all but a frozen backbone."""
        super().train(mode)
        if self.backbone != "train":
            self.model.backbone.eval()
        return self

    def set_progress(self, progress: float) -> None:
        """Tell the loss which share of the stage lies behind; the loop does so before each epoch."""
        if isinstance(self.loss, Loss):
            self.loss.set_progress(progress)

    def forward(self, images_BCHW: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch of augmented images."""
        embeddings_BD = images_BCHW if self.backbone == "skip" else self.model.embed(images_BCHW)
        logits_BC = self.model.head(embeddings_BD)
        extra = (embeddings_BD,) if self.uses_embeddings else ()
        loss: Tensor = self.loss(logits_BC, targets, *extra)
        return loss
