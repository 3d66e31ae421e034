"""Choice of the head classes that lend variation, the tail classes that receive it, and the pairs of both.

Shapes: K = classes, G = groups of images of one class, N = nearest heads of a class, H = heads, CC = C x C channels.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from longtail.data.counts import ClassCounts
from longtail.errors import InputError, unknown_name
from longtail.ranges import check_number

Rule = Literal["uniform", "frequency", "covariance", "table"]
Tails = Literal["rest", "few"]


def head_classes(counts: ClassCounts, heads: str | float = "many") -> Tensor:
    """Select the classes that lend variation: a mask of shape (K,).

    Args:
        counts: Training images per class.
        heads: Head classes. "many" selects the classes with more than 100 images or, if these are none or all, those
            with at least as many as the median class. An integer selects this number of the most frequent classes, a
            share below 1 this share of the classes.

    Raises:
        InputError: If there would be no head or no tail class, or `heads` has another form.

    Example:
        >>> head_classes(ClassCounts([500, 101, 100, 5])), head_classes(ClassCounts([60, 40, 10]), 1)
        (tensor([ True,  True, False, False]), tensor([ True, False, False]))
    """
    size = len(counts)
    if heads == "many":
        is_head_K = counts.groups()["many"]
        if not 0 < int(is_head_K.sum()) < size:
            is_head_K = counts.counts >= counts.counts.double().quantile(0.5)
        if bool(is_head_K.all()):
            raise InputError(
                "a transfer needs classes of different sizes, but all classes have the same number of images"
            )
        return is_head_K
    is_share = isinstance(heads, float) and math.isfinite(heads)
    number = heads if isinstance(heads, int) else round(size * float(heads)) if is_share else 0
    if isinstance(heads, bool) or not 0 < number < size or (isinstance(heads, float) and heads >= 1):
        raise InputError(
            f"`heads` must be 'many', a number of classes from 1 to {size - 1}, or a share of the {size} classes that "
            f"leaves head and tail classes, got {heads!r}"
        )
    return _mask(counts.counts.argsort(descending=True, stable=True)[:number], size)


def tail_classes(counts: ClassCounts, is_head_K: Tensor, tails: Tails = "rest") -> Tensor:
    """Select the classes that receive variation: a mask of shape (K,).

    Args:
        counts: Training images per class.
        is_head_K: Mask of the head classes.
        tails: "rest" for all other classes, or "few" for those of them with fewer than 20 images.

    Raises:
        InputError: If there is no such class, or `tails` is unknown.
    """
    if tails not in get_args(Tails):
        raise unknown_name("choice of tail classes", str(tails), get_args(Tails))
    is_tail_K = ~is_head_K if tails == "rest" else ~is_head_K & counts.groups()["few"]
    if not bool(is_tail_K.any()):
        raise InputError("`tails='few'` needs a class with fewer than 20 images, but there is none; use tails='rest'")
    return is_tail_K


class Pairing(nn.Module):
    """Random assignment of a head class to each group of images.

    Args:
        counts: Training images per class.
        is_head_K: Mask of the head classes.
        pairing: Distribution of the head class: "uniform", "frequency" (in proportion to the images), "covariance" (one
            of the `nearest` by the cosine between covariances) or "table" (one of the `nearest` by a given similarity).
        nearest: Number of most similar heads to draw from.
        similarity: Similarity table of shape (K, K), in which higher is more similar, or the path of a .npy or
            comma-separated file.
        min_seen: Number of images of a head class that must be seen before it lends.

    Raises:
        InputError: If an option is unknown or out of range, or the table is missing, unreadable or of another shape.

    Example:
        >>> pairing = Pairing(ClassCounts([90, 80, 5]), torch.tensor([True, True, False]), min_seen=4)
        >>> seen, covariances = torch.tensor([3.0, 4.0, 1.0]), torch.eye(2).expand(3, 2, 2)
        >>> pairing(torch.tensor([2]), seen, covariances[2:], covariances)  # too few images of class 0 so far
        (tensor([1]), tensor([True]))
    """

    weights_H: Tensor
    heads_H: Tensor
    nearest_KN: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        is_head_K: Tensor,
        *,
        pairing: Rule = "uniform",
        nearest: int = 5,
        similarity: Any = None,
        min_seen: int = 20,
    ) -> None:
        super().__init__()
        if pairing not in get_args(Rule):
            raise unknown_name("pairing", str(pairing), get_args(Rule))
        check_number("nearest", nearest, integer=True, at_least=1)
        check_number("min_seen", min_seen, integer=True, at_least=1)
        if (pairing == "table") != (similarity is not None):
            raise InputError(
                "`pairing='table'` requires `similarity`, a (K, K) table or its file, and vice versa; set both or none"
            )
        heads_H = is_head_K.nonzero().flatten()
        self.rule, self.min_seen, self.nearest = pairing, min_seen, min(nearest, len(heads_H))
        weights_H = counts.counts[heads_H].float() if pairing == "frequency" else torch.ones(len(heads_H))
        nearest_KN = torch.empty(0, 0, dtype=torch.long)
        if pairing == "table":
            table_KH = similarity_table(similarity, len(counts))[:, heads_H]
            nearest_KN = heads_H[table_KH.topk(self.nearest, dim=1).indices]
        self.register_buffer("weights_H", weights_H, persistent=False)
        self.register_buffer("heads_H", heads_H, persistent=False)
        self.register_buffer("nearest_KN", nearest_KN, persistent=False)

    def forward(
        self,
        classes_G: Tensor,
        seen_K: Tensor,
        covariances_GCC: Tensor,
        covariances_KCC: Tensor,
        per_class: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Draw head classes with the default generator of torch.

        Args:
            classes_G: Class of each group.
            seen_K: Number of images of each class seen so far.
            covariances_GCC: Covariance of the class of each group.
            covariances_KCC: Covariances of all classes.
            per_class: Whether all groups of a class share one draw. Otherwise, each group has its own.

        Returns:
            A head class for each group, shape (G,), and a mask of the groups whose head class was seen often enough.
        """
        width = 1 if self.rule in ("uniform", "frequency") else self.nearest
        draws_KN = torch.rand(len(seen_K) if per_class else len(classes_G), width, device=seen_K.device)
        draws_GN = draws_KN[classes_G] if per_class else draws_KN
        ready_K = seen_K >= self.min_seen
        if self.rule in ("uniform", "frequency"):
            shares_H = (self.weights_H * ready_K[self.heads_H]).cumsum(0)
            place_G = torch.searchsorted(shares_H, draws_GN[:, 0] * shares_H[-1], right=True)
            heads_G = self.heads_H[place_G.clamp(max=len(self.heads_H) - 1)]
        else:
            candidates_GN = self._nearest(classes_G, covariances_GCC, covariances_KCC, ready_K)
            place_G1 = torch.where(ready_K[candidates_GN], draws_GN, -1.0).argmax(dim=1, keepdim=True)
            heads_G = candidates_GN.gather(1, place_G1).squeeze(1)
        return heads_G, ready_K[heads_G]

    def _nearest(self, classes_G: Tensor, covariances_GCC: Tensor, covariances_KCC: Tensor, ready_K: Tensor) -> Tensor:
        if self.rule == "table":
            return self.nearest_KN[classes_G]
        own_GX = nn.functional.normalize(covariances_GCC.flatten(1), dim=1)
        heads_HX = nn.functional.normalize(covariances_KCC[self.heads_H].flatten(1), dim=1)
        cosines_GH = torch.where(ready_K[self.heads_H], own_GX @ heads_HX.T, -2.0)
        return self.heads_H[cosines_GH.topk(self.nearest, dim=1).indices]


def similarity_table(table: Any, num_classes: int) -> Tensor:
    """Read a table of similarities between classes: float32, shape (K, K).

    Args:
        table: Tensor, array, nested lists, or the path of a .npy or comma-separated file.
        num_classes: Number of classes, K.

    Raises:
        InputError: If the file cannot be read, or the table has another shape or a value that is not finite.

    Example:
        >>> similarity_table([[1, 0.5], [0.5, 1]], 2)
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """
    try:
        values = _read(table) if isinstance(table, (str, Path)) else table
        if isinstance(values, Mapping):
            raise ValueError("a mapping is not a table")
        table_KK = torch.as_tensor(values).detach().cpu().float()
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"`similarity` must be a table or its file, cannot read {table!r:.200}: {error}") from error
    if tuple(table_KK.shape) != (num_classes, num_classes) or not bool(table_KK.isfinite().all()):
        raise InputError(
            f"`similarity` must have shape ({num_classes}, {num_classes}) with a finite number for each pair of "
            f"classes in the order of the labels, got {tuple(table_KK.shape)}"
        )
    return table_KK


def _read(path: str | Path) -> Any:
    if Path(path).suffix == ".npy":
        return np.load(path, allow_pickle=False)
    return np.loadtxt(path, delimiter=",", ndmin=2)


def _mask(indices: Tensor, size: int) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[indices] = True
    return mask
