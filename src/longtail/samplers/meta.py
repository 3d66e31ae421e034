"""Meta Sampler (Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020).

https://arxiv.org/abs/2007.10740, supplement B.1: a learnable sample rate per class with a gradient from
straight-through Gumbel sampling (Jang et al., ICLR 2017). Equation 79 lacks an exp in its numerator; the intended
formula, which the authors' code computes, is softmax((log rate + gumbel) / tau) with tau = 1.

The authors' code (`jiawei-ren/BalancedMetaSoftmax-Classification`) draws each image by a Gumbel softmax over all N
training images. It passes the samples to the loss through a global queue, so the rates are stale by the number of
batches that the data workers read ahead. Here, the record of a draw is one value (`MetaDraw`) that travels with its
batch. By default, a class is drawn by a Gumbel softmax over log n_k + log rate_k, and then an image of that class
uniformly. The distribution of the images is the same with K numbers in place of N, but the straight-through gradient
differs.
Shapes: N = training images, M = images per epoch, B = batch, K = classes with at least one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.errors import InputError, unknown_name
from longtail.ranges import check_number
from longtail.samplers.base import Sampler
from longtail.samplers.by_class import ByClass

Level = Literal["class", "instance"]


@dataclass(frozen=True)
class MetaDraw:
    """Drawn images with the record that links them to the sample rates.

    Args:
        indices_B: Indices of the images, int64.
        classes_B: Class of each image, as an index among the K classes.
        soft_B: Gumbel softmax value of the drawn entry, in (0, 1].
        mass_BK: Total Gumbel softmax value of each class.
    """

    indices_B: Tensor
    classes_B: Tensor
    soft_B: Tensor
    mass_BK: Tensor

    def part(self, rows: slice) -> "MetaDraw":
        """Return some rows with their record, such as the share of a rank.

        Args:
            rows: Rows to keep.
        """
        return MetaDraw(self.indices_B[rows], self.classes_B[rows], self.soft_B[rows], self.mass_BK[rows])

    def weights(self, log_rates_K: Tensor) -> Tensor:
        """Return ones of shape (B,) with the gradient of the softened samples (straight-through estimator).

        The loss of image i times weight i equals the plain loss, and its gradient reaches the rates.

        Args:
            log_rates_K: Logarithms of the sample rates.

        Example:
            >>> sampler = MetaSampler([0] * 90 + [1] * 10)
            >>> sampler.draw_batch(4, torch.Generator()).weights(sampler.log_rates).detach()
            tensor([1., 1., 1., 1.])
        """
        # d log soft_c / d log rate_k = [k is the class of c] - mass_k; the value is zero, so the weights are exactly 1
        slope_B = self.soft_B * (log_rates_K[self.classes_B] - self.mass_BK @ log_rates_K)
        return 1 + (slope_B - slope_B.detach())


class MetaSampler(Sampler):
    """Sampling with class rates learned from the effect of the drawn images on a balanced loss after the next step.

    A class is drawn with probability proportional to n_k * rate_k, then an image of it. With equal rates this is
    instance-balanced sampling. The bilevel stage `RetrainMeta` draws batches and updates the rates. In a `DataLoader`,
    the sampler uses its current rates.

    Args:
        targets: Label of each training image, shape (N,).
        level: Domain of the Gumbel softmax: "class" (default) for the K classes, or "instance" for the N images as in
            the authors' code, which needs N floats per image of the batch.
        init_pow: Exponent of the initial rates, which are proportional to n_k ** -init_pow and symmetric about 1/2; 0
            (default) initializes all rates to 1/2. The authors use 0 for CIFAR, 0.1 for ImageNet-LT and 0.3 for
            Places-LT.
        lr: Learning rate of Adam for the logits of the rates. Default: 0.01. The authors' code uses 0.001 for
            ImageNet-LT and Places-LT.
        num_samples: Images per epoch over all ranks, see `Sampler`.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.

    Raises:
        InputError: If `level` is unknown, `init_pow` is negative or far too large, or `lr` is not positive.

    Example:
        >>> sampler = MetaSampler([0] * 90 + [1] * 10)
        >>> sampler.rates
        tensor([0.5000, 0.5000])
        >>> draw = sampler.draw_batch(1000, torch.Generator().manual_seed(0))
        >>> round(float(draw.classes_B.float().mean()), 1)
        0.1
    """

    def __init__(
        self,
        targets: Tensor | Sequence[int],
        *,
        level: Level = "class",
        init_pow: float = 0.0,
        lr: float = 0.01,
        num_samples: int | None = None,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        super().__init__(targets, num_samples=num_samples, seed=seed, rank=rank, num_ranks=num_ranks)
        if level not in get_args(Level):
            raise unknown_name("level", level, get_args(Level))
        check_number("lr", lr, "default: 0.01", above=0)
        check_number("init_pow", init_pow, "0: equal rates, or a small number such as 0.1", at_least=0)
        self.level, self.init_pow, self.lr = level, init_pow, lr
        self.groups = ByClass(self.targets_N)
        self.logits_K = initial_logits(self.groups.counts_K, init_pow).requires_grad_()
        self.optimizer = torch.optim.Adam([self.logits_K], lr=lr, betas=(0.9, 0.99))
        self._tables = _Tables.of(self.groups)

    @property
    def rates(self) -> Tensor:
        """Sample rates in (0, 1), shape (K,), in the order of the labels. They need not sum to 1."""
        return self.logits_K.detach().sigmoid()

    @property
    def log_rates(self) -> Tensor:
        """Logarithms of the sample rates, shape (K,), with a graph to the parameters `logits_K`."""
        return F.logsigmoid(self.logits_K)

    def to(self, device: torch.device) -> "MetaSampler":
        """Move the rates and tables to the device on which batches are drawn. Call it before the first update.

        Args:
            device: Target device.
        """
        self.logits_K.data = self.logits_K.data.to(device)
        self._tables = self._tables.to(device)
        return self

    def draw_batch(self, batch_size: int, generator: torch.Generator) -> MetaDraw:
        """Draw a batch with the current rates, together with its record.

        Args:
            batch_size: Number of images, B.
            generator: Generator on the CPU. The same generator gives the same batch on every device.
        """
        with torch.no_grad():
            if self.level == "instance":
                return self._draw_instances(batch_size, generator)
            return self._draw_classes(batch_size, generator)

    def _draw_classes(self, batch_size: int, generator: torch.Generator) -> MetaDraw:
        tables = self._tables
        classes_B, mass_BK = _gumbel_softmax(tables.counts_K.log() + self.log_rates, batch_size, generator)
        uniforms_B = torch.rand(batch_size, generator=generator, dtype=torch.float64).to(classes_B.device)
        within_B = (uniforms_B * tables.counts_K[classes_B]).long()
        indices_B = tables.members_N[tables.starts_K[classes_B] + within_B]
        return MetaDraw(indices_B, classes_B, _chosen(mass_BK, classes_B), mass_BK)

    def _draw_instances(self, batch_size: int, generator: torch.Generator) -> MetaDraw:
        tables = self._tables
        places_B, soft_BN = _gumbel_softmax(self.log_rates[tables.classes_N], batch_size, generator)
        mass_BK = soft_BN.new_zeros(batch_size, len(tables.counts_K)).index_add_(1, tables.classes_N, soft_BN)
        return MetaDraw(tables.members_N[places_B], tables.classes_N[places_B], _chosen(soft_BN, places_B), mass_BK)

    def rate_gradient(self, draw: MetaDraw, gradients_B: Tensor) -> Tensor:
        """Compute the gradient of a loss with respect to the logits of the rates.

        Args:
            draw: Drawn batch with its record.
            gradients_B: Gradient of the loss with respect to the weights of the images.

        Returns:
            Gradient of shape (K,).
        """
        pulled_B = gradients_B.to(draw.soft_B.dtype) * draw.soft_B
        slopes_BK = draw.mass_BK.neg()  # derivatives of the logarithms, as in `MetaDraw.weights`
        slopes_BK.scatter_add_(1, draw.classes_B.unsqueeze(1), torch.ones_like(pulled_B).unsqueeze(1))
        return (pulled_B @ slopes_BK) * (1 - self.rates)

    def learn(self, gradient_K: Tensor) -> None:
        """Update the rates by one step of Adam. Rates with a negative gradient increase.

        Args:
            gradient_K: Gradient with respect to the logits of the rates.
        """
        self.logits_K.grad = gradient_K
        self.optimizer.step()
        self.logits_K.grad = None

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Draw the indices of one epoch with the current rates, shape (M,)."""
        return self.groups.draw(self.groups.counts_K * self.rates.cpu(), self.num_samples, generator)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, the rates and the state of their optimizer."""
        moments = {name: value.tolist() for name, value in self.optimizer.state.get(self.logits_K, {}).items()}
        return {**super().state_dict(), "logits": self.logits_K.tolist(), "adam": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state.

        Args:
            state: Result of `state_dict`.
        """
        super().load_state_dict(state)
        self.logits_K.data = torch.tensor(state["logits"], device=self.logits_K.device)
        self.optimizer.state[self.logits_K] = {
            name: torch.tensor(value, device=None if name == "step" else self.logits_K.device)
            for name, value in state["adam"].items()
        }


@dataclass(frozen=True)
class _Tables:
    """Tables of `ByClass` on the device that draws, with the class of each image in the order of the labels."""

    counts_K: Tensor
    starts_K: Tensor
    members_N: Tensor
    classes_N: Tensor

    @classmethod
    def of(cls, groups: ByClass) -> "_Tables":
        classes_N = torch.arange(len(groups.counts_K)).repeat_interleave(groups.counts_K)
        return cls(groups.counts_K, groups.starts_K, groups.members_N, classes_N)

    def to(self, device: torch.device) -> "_Tables":
        return _Tables(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def initial_logits(counts_K: Tensor, init_pow: float) -> Tensor:
    """Return the logits of the initial sample rates, shape (K,).

    The rates are proportional to n ** -init_pow and scaled so that the lowest and the highest sum to 1.

    Example:
        >>> initial_logits(torch.tensor([100, 10, 1]), init_pow=0.5).sigmoid()
        tensor([0.0909, 0.2875, 0.9091])
    """
    raw_K = (counts_K.double() / counts_K.sum()) ** -init_pow
    logits_K = torch.logit(raw_K / (raw_K.min() + raw_K.max())).float()
    if not bool(logits_K.isfinite().all()):
        raise InputError(f"`init_pow` must be 0 (equal rates) or a small positive number such as 0.1, got {init_pow}")
    return logits_K


def _gumbel_softmax(logits_J: Tensor, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `num` of J entries by their softmax. Return the draws (B,) and the Gumbel softmax of each (B, J)."""
    # -log(-log(uniform)) in place is five times as fast as `exponential_`; a uniform of 0 is never drawn
    noise_BJ = torch.rand(num, len(logits_J), generator=generator).to(logits_J.device)
    noise_BJ = noise_BJ.log_().neg_().log_().neg_().add_(logits_J)
    return noise_BJ.argmax(dim=1), noise_BJ.softmax(dim=1)


def _chosen(values_BJ: Tensor, places_B: Tensor) -> Tensor:
    return values_BJ.gather(1, places_B.unsqueeze(1)).squeeze(1)
