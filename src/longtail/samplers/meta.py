"""Meta Sampler (Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020).

https://arxiv.org/abs/2007.10740, supplement B.1: a learnable sample rate for each class, through which a gradient flows
by straight-through Gumbel sampling (Jang et al., ICLR 2017). Equation 79 lacks an exp in its numerator; what is meant,
and what the authors' code computes, is softmax((log rate + gumbel) / tau), with tau = 1.

Where we differ from the authors' code (`jiawei-ren/BalancedMetaSoftmax-Classification`): it draws each image by a
Gumbel softmax over all N training images and hands the samples to the loss through a global queue, so that rates are
stale by what the data workers read ahead. Here the record of a draw is one value (`MetaDraw`) that travels with its
batch; and by default a class is drawn by a Gumbel softmax over log n_k + log rate_k, then an image of it, all equally
likely: the same law of the images from K numbers in place of N, though another straight-through gradient.
Shapes: N = training images, M = images of an epoch, B = batch, K = classes with at least one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.errors import InputError, unknown_name
from longtail.samplers.base import Contract, Sampler
from longtail.samplers.by_class import ByClass

Level = Literal["class", "instance"]


@dataclass(frozen=True)
class MetaDraw:
    """Which images were drawn, and the record that joins them to the sample rates. It travels with its batch.

    Args:
        indices_B: of the images, int64.
        classes_B: of the images, as places among the K classes.
        soft_B: what the Gumbel softmax gave the chosen one, in (0, 1].
        mass_BK: what it gave to each class in all.
    """

    indices_B: Tensor
    classes_B: Tensor
    soft_B: Tensor
    mass_BK: Tensor

    def part(self, rows: slice) -> "MetaDraw":
        """Some of the images, with their record: the share of a rank."""
        return MetaDraw(self.indices_B[rows], self.classes_B[rows], self.soft_B[rows], self.mass_BK[rows])

    def weights(self, log_rates_K: Tensor) -> Tensor:
        """Ones, shape (B,), whose gradient is that of the softened samples: straight through.

        The loss of image i times weight i has the value of the plain loss, and its gradient reaches the rates.

        Example:
            >>> sampler = MetaSampler([0] * 90 + [1] * 10)
            >>> sampler.draw_batch(4, torch.Generator()).weights(sampler.log_rates).detach()
            tensor([1., 1., 1., 1.])
        """
        # d log soft_c / d log rate_k = [k is the class of c] - mass_k; zero in value, so that the sum is exactly one
        slope_B = self.soft_B * (log_rates_K[self.classes_B] - self.mass_BK @ log_rates_K)
        return 1 + (slope_B - slope_B.detach())


class MetaSampler(Sampler):
    """Sample rates of the classes, learnt by how the images drawn change a balanced loss after the next step.

    A class is drawn with a probability in proportion to n_k * rate_k, then an image of it; at equal rates this is
    instance-balanced sampling. A bilevel stage (`RetrainMeta`) draws batches and teaches the rates; alone, the sampler
    serves a `DataLoader` by the rates it has.

    Args:
        targets: label of each training image, shape (N,).
        level: what the Gumbel softmax is over: the K classes, or, as in the authors' code, the N images, which takes
            N floats an image of the batch.
        init_pow: the rates start in proportion to n_k ** -init_pow, and symmetric about 1/2; 0 starts all at 1/2. The
            authors take 0 for CIFAR, 0.1 for ImageNet-LT and 0.3 for Places-LT.
        lr: learning rate of Adam on the rates' logits; the authors' code takes 0.001 for ImageNet-LT and Places-LT.
        contract: `num_samples`, `seed`, `rank` and `num_ranks`, see `Sampler`.

    Raises:
        InputError: for an unknown level, a negative or far too large `init_pow`, or an `lr` that is not positive.

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
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(targets, **contract)
        if level not in get_args(Level):
            raise unknown_name("level", level, get_args(Level))
        if not lr > 0:
            raise InputError(f"the learning rate of the sample rates must be positive, not {lr}")
        self.level = level
        self.groups = ByClass(self.targets_N)
        self.logits_K = initial_logits(self.groups.counts_K, init_pow).requires_grad_()
        self.optimizer = torch.optim.Adam([self.logits_K], lr=lr, betas=(0.9, 0.99))
        self._tables = _Tables.of(self.groups)

    @property
    def rates(self) -> Tensor:
        """The sample rates, in (0, 1), in the order of the labels; of no particular sum."""
        return self.logits_K.detach().sigmoid()

    @property
    def log_rates(self) -> Tensor:
        """Their logarithms, with a graph to `logits_K`, the parameters."""
        return F.logsigmoid(self.logits_K)

    def to(self, device: torch.device) -> "MetaSampler":
        """Move the rates and the tables to where batches are drawn; before anything is learnt."""
        self.logits_K.data = self.logits_K.data.to(device)
        self._tables = self._tables.to(device)
        return self

    def draw_batch(self, batch_size: int, generator: torch.Generator) -> MetaDraw:
        """Draw a batch by the rates of now, with its record.

        Args:
            batch_size: B.
            generator: of the CPU; the same one gives the same batch on every device.
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
        """Gradient of a loss with respect to the rates' logits, shape (K,).

        Args:
            draw: a batch that was drawn, with its record.
            gradients_B: of the loss with respect to the weights of its images.
        """
        pulled_B = gradients_B.to(draw.soft_B.dtype) * draw.soft_B
        slopes_BK = draw.mass_BK.neg()  # of the logarithms, as in `MetaDraw.weights`
        slopes_BK.scatter_add_(1, draw.classes_B.unsqueeze(1), torch.ones_like(pulled_B).unsqueeze(1))
        return (pulled_B @ slopes_BK) * (1 - self.rates)

    def learn(self, gradient_K: Tensor) -> None:
        """Take a step of Adam: rates go up where the gradient is negative."""
        self.logits_K.grad = gradient_K
        self.optimizer.step()
        self.logits_K.grad = None

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch by the rates of now, shape (M,)."""
        return self.groups.draw(self.groups.counts_K * self.rates.cpu(), self.num_samples, generator)

    def state_dict(self) -> dict[str, Any]:
        """Place, rates and the state of their optimizer."""
        moments = {name: value.tolist() for name, value in self.optimizer.state.get(self.logits_K, {}).items()}
        return {**super().state_dict(), "logits": self.logits_K.tolist(), "adam": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        super().load_state_dict(state)
        self.logits_K.data = torch.tensor(state["logits"], device=self.logits_K.device)
        self.optimizer.state[self.logits_K] = {
            name: torch.tensor(value, device=None if name == "step" else self.logits_K.device)
            for name, value in state["adam"].items()
        }


@dataclass(frozen=True)
class _Tables:
    """Where the images of each class are, on the device that draws; images in the order of their labels."""

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
    """Logits of the first sample rates, shape (K,): n ** -init_pow, scaled so that lowest and highest sum to one.

    Example:
        >>> initial_logits(torch.tensor([100, 10, 1]), init_pow=0.5).sigmoid()
        tensor([0.0909, 0.2875, 0.9091])
    """
    raw_K = (counts_K.double() / counts_K.sum()) ** -init_pow
    logits_K = torch.logit(raw_K / (raw_K.min() + raw_K.max())).float()
    if not init_pow >= 0 or not bool(logits_K.isfinite().all()):
        raise InputError(f"init_pow must be 0 (equal rates) or a small positive number such as 0.1, not {init_pow}")
    return logits_K


def _gumbel_softmax(logits_J: Tensor, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `num` of J things by their softmax; the choices (B,), and the softmax that each was the peak of (B, J)."""
    # -log(-log(uniform)), in place; five times as fast as `exponential_`, and a uniform of 0 gives what is never chosen
    noise_BJ = torch.rand(num, len(logits_J), generator=generator).to(logits_J.device)
    noise_BJ = noise_BJ.log_().neg_().log_().neg_().add_(logits_J)
    return noise_BJ.argmax(dim=1), noise_BJ.softmax(dim=1)


def _chosen(values_BJ: Tensor, places_B: Tensor) -> Tensor:
    return values_BJ.gather(1, places_B.unsqueeze(1)).squeeze(1)
