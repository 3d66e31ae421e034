"""The backbone of a model that is given embeddings: there is nothing left to do.

Shapes: B = batch, D = embedding dimension.
"""

from torch import Tensor, nn

from longtail.errors import InputError


class FeatureBackbone(nn.Module):
    """Gives back the embeddings that it is given.

    Args:
        embedding_dim: D.

    Raises:
        InputError: if it is given anything else, such as images.

    Example:
        >>> import torch
        >>> FeatureBackbone(embedding_dim=2)(torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    takes_images = False
    """So that the classifier leaves its input as it is, instead of centring pixels."""

    def __init__(self, *, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = self.width = embedding_dim

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """The same embeddings (B, D)."""
        if embeddings_BD.ndim != 2 or embeddings_BD.shape[1] != self.embedding_dim:
            raise InputError(
                f"this model was trained on features: it takes embeddings (B, {self.embedding_dim}), not "
                f"{tuple(embeddings_BD.shape)}; for images, take the run whose features they were"
            )
        return embeddings_BD
