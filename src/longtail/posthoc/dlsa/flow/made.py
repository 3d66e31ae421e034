"""Masked autoregressive block (Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", ICML 2015).

https://arxiv.org/abs/1502.03509, stacked into a flow by Papamakarios et al., "Masked Autoregressive Flow for Density
Estimation", NeurIPS 2017, https://arxiv.org/abs/1705.07057, Eq. 3 to 5. Our own block, because no library has what DLSA
asks for: zuko, which is well kept, has no batch normalisation (its issue 46), nflows has stood still since 2020,
FrEIA has coupling blocks, and the whole is these few lines.
Shapes: B = batch, D = dimensions, H = units of the layer before, O = units of this layer.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail._random import generator
from longtail.errors import InputError


class MaskedLinear(nn.Module):
    """A linear layer whose unit sees only units before it: those of no higher degree.

    Args:
        degrees_in_H: degree of each unit of the layer before.
        degrees_out_O: degree of each unit of this layer.
        source: of the initial weights, uniform in +-1 / sqrt(H) as in `torch.nn.Linear`.

    Example:
        >>> layer = MaskedLinear(torch.tensor([0, 1]), torch.tensor([0, 1, -1]), torch.Generator())
        >>> layer.mask_OH
        tensor([[ True, False],
                [ True,  True],
                [False, False]])
    """

    mask_OH: Tensor

    def __init__(self, degrees_in_H: Tensor, degrees_out_O: Tensor, source: torch.Generator) -> None:
        super().__init__()
        bound, width = 1 / math.sqrt(len(degrees_in_H)), len(degrees_out_O)
        self.weight = nn.Parameter(torch.empty(width, len(degrees_in_H)).uniform_(-bound, bound, generator=source))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound, generator=source))
        self.register_buffer("mask_OH", degrees_out_O[:, None] >= degrees_in_H[None, :], persistent=False)

    def forward(self, x_BH: Tensor) -> Tensor:
        """Units of this layer, shape (B, O)."""
        return F.linear(x_BH, self.weight * self.mask_OH, self.bias)


class MADE(nn.Module):
    """An invertible map in which each dimension is shifted and scaled by what the dimensions before it say.

    u_i = (x_i - m_i) exp(-a_i), with m_i and a_i from a net D -> D -> D -> 2D that sees x_1 ... x_(i-1) alone, so that
    the Jacobian is triangular and its log-determinant -sum_i a_i. About 4 D^2 weights.

    Args:
        dim: D.
        reverse: count the dimensions from the last to the first, as every other block of a flow should.
        seed: of the initial weights.

    Raises:
        InputError: if `dim` is less than 1.

    Example:
        >>> block = MADE(3)
        >>> latent, logdet = block(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> latent.shape, logdet.shape
        (torch.Size([1, 3]), torch.Size([1]))
        >>> torch.allclose(block.inverse(latent), torch.tensor([[1.0, 2.0, 3.0]]), atol=1e-5)
        True
    """

    order_D: Tensor

    def __init__(self, dim: int, *, reverse: bool = False, seed: int = 0) -> None:
        super().__init__()
        if dim < 1:
            raise InputError(f"a flow needs at least one dimension, not {dim}")
        source = generator("made", seed)
        order_D = torch.arange(dim)
        inputs_D = order_D.flip(0) if reverse else order_D
        hidden_D = order_D % max(dim - 1, 1)
        outputs = (inputs_D - 1).repeat(2)  # of the shifts and of the log scales: strictly before
        self.hidden = nn.Sequential(
            MaskedLinear(inputs_D, hidden_D, source), nn.ReLU(), MaskedLinear(hidden_D, hidden_D, source), nn.ReLU()
        )
        self.out = MaskedLinear(hidden_D, outputs, source)
        # which dimension stands at each place of the order: reversing is its own inverse
        self.register_buffer("order_D", inputs_D, persistent=False)

    def forward(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """From data towards the base density.

        Returns:
            The latent, shape (B, D), and the log-determinant of its Jacobian, shape (B,).
        """
        shifts_BD, log_scales_BD = self._shifts_and_log_scales(x_BD)
        return (x_BD - shifts_BD) * torch.exp(-log_scales_BD), -log_scales_BD.sum(dim=1)

    @torch.no_grad()
    def inverse(self, latent_BD: Tensor) -> Tensor:
        """The data that a latent comes from, shape (B, D): one pass for each dimension. Carries no gradient."""
        x_BD = torch.zeros_like(latent_BD)
        for place in self.order_D.tolist():
            shifts_BD, log_scales_BD = self._shifts_and_log_scales(x_BD)
            x_BD[:, place] = latent_BD[:, place] * torch.exp(log_scales_BD[:, place]) + shifts_BD[:, place]
        return x_BD

    def _shifts_and_log_scales(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        shifts_BD, log_scales_BD = self.out(self.hidden(x_BD)).chunk(2, dim=1)
        return shifts_BD, log_scales_BD
