"""How a flow filter is trained, with the published defaults (supplement of DLSA, Sec. 5, and `silicx/DLSA`)."""

import math
from dataclasses import dataclass

from longtail.errors import InputError


@dataclass(frozen=True)
class FilterSettings:
    """How a flow filter is trained; the defaults are the paper's for ImageNet-LT.

    Args:
        epochs: of as many pairs as there are examples.
        batch_size: pairs in a batch, at most.
        lr: constant learning rate.
        likelihood_weight: lambda of the class-weighted likelihood.
        balance_weight: lambda of the cluster balancedness.
        purity_weight: lambda of the cluster purity.
        power: q, of the inverse class frequency in the likelihood.
        momentum: eta, of the estimate of the clusters' shares.
        margin: least probability that counts in the purity; None for no bound.
        max_norm: bound of the gradient's length, which sets with few classes and many dimensions need; None for none.
        min_purity: a cluster is good above this share of its commonest class,
        min_size: and above this number of examples.
        max_size: an epoch is kept only if its largest cluster is smaller.
        standardize: centre and scale each dimension of the features first, so that one learning rate fits features of
            any unit; False takes them as they are, as the authors' code does.

    Raises:
        InputError: if a number is out of its range.

    Example:
        >>> FilterSettings(epochs=30, purity_weight=0.05).lr
        0.2
    """

    epochs: int = 50
    batch_size: int = 1024
    lr: float = 0.2
    likelihood_weight: float = 2.0
    balance_weight: float = 1.0
    purity_weight: float = 0.02
    power: float = 2.0
    momentum: float = 0.7
    margin: float | None = None
    max_norm: float | None = 1.0
    min_purity: float = 0.7
    min_size: int = 10
    max_size: int = 5000
    standardize: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.lr < math.inf:
            raise InputError(
                f"a filter needs epochs >= 1, batch_size >= 1 and lr > 0, not {self.epochs}, {self.batch_size} and "
                f"{self.lr}"
            )
        for name in ("likelihood_weight", "balance_weight", "purity_weight", "power"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be >= 0 (0 leaves it out), not {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum of the clusters' shares must lie in [0, 1), not {self.momentum}")
        if self.max_norm is not None and not self.max_norm > 0:
            raise InputError(f"max_norm must be positive, or None for no bound, not {self.max_norm}")
        if self.margin is not None and not 0 < self.margin <= 1:
            raise InputError(f"margin is a probability in (0, 1], or None for no bound, not {self.margin}")
