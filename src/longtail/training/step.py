"""What one training step computes: images and labels -> a scalar loss.

A module of its own, so that the whole of it can be compiled, captured or wrapped for several ranks.
"""

from torch import Tensor, nn

from longtail.models.classifier import Classifier


class Step(nn.Module):
    """The model under a loss.

    Args:
        model: images -> logits.
        loss: logits, targets -> scalar.
    """

    def __init__(self, model: Classifier, loss: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, images_BCHW: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch of augmented images."""
        loss: Tensor = self.loss(self.model(images_BCHW), targets)
        return loss
