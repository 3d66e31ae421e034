"""Batch normalisation as a layer of a flow (Dinh et al., "Density estimation using Real NVP", ICLR 2017, Sec. 3.7).

https://arxiv.org/abs/1605.08803. Momentum, epsilon and the unbiased variance are those of the authors' code of DLSA
(`silicx/DLSA`). There the running statistics begin at mean 0 and variance 1, which a short training does not leave
behind; here they begin with the first batch.
Shapes: B = batch, D = dimensions.
"""

import torch
from torch import Tensor, nn

from longtail.errors import InputError


class FlowBatchNorm(nn.Module):
    """y = exp(log_gamma) (x - mean) / sqrt(var + eps) + beta, with the log-determinant that goes with it.

    In training, mean and variance are those of the batch; in evaluation the running ones, so that the map is the same
    for every example, and invertible.

    Args:
        dim: D.
        momentum: share of the running statistics that a batch leaves as it was.
        eps: added to the variance.

    Raises:
        InputError: if `dim`, `momentum` or `eps` is out of its range.

    Example:
        >>> norm = FlowBatchNorm(1)
        >>> norm(torch.tensor([[1.0], [3.0]]))[0].detach().flatten()
        tensor([-0.7071,  0.7071])
        >>> norm.running_mean_D
        tensor([2.])
    """

    running_mean_D: Tensor
    running_var_D: Tensor
    started: Tensor

    def __init__(self, dim: int, *, momentum: float = 0.9, eps: float = 1e-5) -> None:
        super().__init__()
        if dim < 1 or not 0 <= momentum < 1 or not eps > 0:
            raise InputError(
                f"batch normalisation needs dim >= 1, momentum in [0, 1) and eps > 0, not {dim}, {momentum} and {eps}"
            )
        self.momentum, self.eps = momentum, eps
        self.log_gamma = nn.Parameter(torch.zeros(dim))
        self.beta = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean_D", torch.zeros(dim))
        self.register_buffer("running_var_D", torch.ones(dim))
        self.register_buffer("started", torch.tensor(False))

    def forward(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """From data towards the base density.

        Returns:
            The normalised batch, shape (B, D), and the log-determinant, the same for each example, shape (B,).

        Raises:
            InputError: in training, for a batch of one example, which has no variance.
        """
        mean_D, var_D = self._batch_statistics(x_BD) if self.training else (self.running_mean_D, self.running_var_D)
        y_BD = self.log_gamma.exp() * (x_BD - mean_D) / torch.sqrt(var_D + self.eps) + self.beta
        logdet = (self.log_gamma - 0.5 * torch.log(var_D + self.eps)).sum()
        return y_BD, logdet.expand(len(x_BD))

    @torch.no_grad()
    def inverse(self, y_BD: Tensor) -> Tensor:
        """What the running statistics take to `y_BD`, shape (B, D). Carries no gradient."""
        scaled_BD = (y_BD - self.beta) * torch.exp(-self.log_gamma)
        return scaled_BD * torch.sqrt(self.running_var_D + self.eps) + self.running_mean_D

    def _batch_statistics(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        if len(x_BD) < 2:
            raise InputError(f"batch normalisation trains on batches of at least 2 examples, not {len(x_BD)}")
        var_D, mean_D = torch.var_mean(x_BD, dim=0)
        with torch.no_grad():
            keep = self.momentum * self.started  # the first batch takes the place of what stands there
            self.running_mean_D.mul_(keep).add_((1 - keep) * mean_D)
            self.running_var_D.mul_(keep).add_((1 - keep) * var_D)
            self.started.fill_(True)
        return mean_D, var_D
