"""What one training step computes: images and labels -> a scalar loss.

A module of its own, so that the whole of it can be compiled, captured or wrapped for several ranks.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

from torch import Tensor, nn

from longtail.models.classifier import Classifier


class Step(nn.Module):
    """The model under a loss.

    Args:
        model: images -> logits.
        loss: logits, targets -> scalar; one that declares `uses_embeddings` is given them too.
    """

    def __init__(self, model: Classifier, loss: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.uses_embeddings: bool = getattr(loss, "uses_embeddings", False)

    def forward(self, images_BCHW: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch of augmented images."""
        embeddings_BD = self.model.embed(images_BCHW)
        logits_BC = self.model.head(embeddings_BD)
        extra = (embeddings_BD,) if self.uses_embeddings else ()
        loss: Tensor = self.loss(logits_BC, targets, *extra)
        return loss
