"""The network that graph formats contain: a trained model with its preprocessing, its outputs and the shift to a prior.

Shapes: B = batch, S = side of the images, D = embedding dimension, C = classes.
"""

import torch
from torch import Tensor, nn

from longtail.models.classifier import Classifier


class ExportedGraph(nn.Module):
    """A trained model from its input to logits and probabilities.

    The input has one type and one size. Pixels are uint8, so that an image in [0, 1] cannot be taken as one in
    [0, 255]. Their normalization is part of the graph.

    Args:
        model: Trained model.
        shift_C: Shift of the logits to the class frequencies of the use, shape (C,). None does not shift.

    Example:
        >>> from longtail.models import LinearHead, small_net
        >>> graph = ExportedGraph(Classifier(small_net(), LinearHead(64, 10)))
        >>> logits, probabilities = graph(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
        >>> logits.shape, round(float(probabilities.sum()), 3)
        (torch.Size([2, 10]), 2.0)
    """

    shift_C: Tensor | None

    def __init__(self, model: Classifier, shift_C: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self.takes_images = model.backbone.takes_images
        self.register_buffer("shift_C", None if shift_C is None else shift_C.float())
        self.eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the input: uint8 for images, float32 for features."""
        return torch.uint8 if self.takes_images else torch.float32

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits and the probabilities, both (B, C), float32.

        Args:
            inputs: Images, uint8, shape (B, 3, S, S), or features, float32, shape (B, D).
        """
        if torch.compiler.is_exporting():  # the exported program refuses another type
            torch.ops.aten._assert_tensor_metadata.default(inputs, None, None, self.dtype)
        logits_BC: Tensor = self.model(inputs)
        if self.shift_C is not None:
            logits_BC = logits_BC + self.shift_C
        return logits_BC, logits_BC.softmax(dim=1)

    def example(self, batch: int, image_size: int, seed: int = 0) -> Tensor:
        """Return random inputs, which the export traces and compares.

        Args:
            batch: Number of images or feature vectors.
            image_size: Side of the images, in pixels.
            seed: Seed of the random values.
        """
        generator = torch.Generator().manual_seed(seed)
        if not self.takes_images:
            return torch.randn(batch, self.model.backbone.embedding_dim, generator=generator)
        shape = (batch, 3, image_size, image_size)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
