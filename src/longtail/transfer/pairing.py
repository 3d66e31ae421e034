"""Which classes lend (heads), which receive (tails), and from which head a tail class takes its variation.

Shapes: K = classes, G = groups of images of one class, N = nearest heads of a class, H = heads, CC = C x C channels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import numpy as np
import torch
from torch import Tensor, nn

from longtail.data.counts import ClassCounts
from longtail.errors import InputError, unknown_name

Rule = Literal["uniform", "frequency", "covariance", "table"]
Tails = Literal["rest", "few"]


class PairingOptions(TypedDict, total=False):
    """The options of the pairing; see `SemanticTransfer`."""

    pairing: Rule
    nearest: int
    similarity: Any
    min_seen: int


def head_classes(counts: ClassCounts, heads: str | float = "many") -> Tensor:
    """Which classes lend: bool, shape (K,).

    Args:
        counts: training images per class.
        heads: "many" takes the classes with more than 100 images, or, where these are none or all, those that have at
            least as many as the median class; a whole number takes so many of the fullest classes; a share below 1,
            that share of the classes.

    Raises:
        InputError: if that leaves no class on either side, or `heads` is none of these.

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
            raise InputError("all classes have equally many images, so none has anything to lend to another")
        return is_head_K
    number = heads if isinstance(heads, int) else round(size * heads) if isinstance(heads, float) else 0
    if isinstance(heads, bool) or not 0 < number < size or (isinstance(heads, float) and heads >= 1):
        raise InputError(
            f"heads must be 'many', a number of classes from 1 to {size - 1}, or a share of the {size} classes that "
            f"leaves some on both sides, not {heads!r}"
        )
    return _mask(counts.counts.argsort(descending=True, stable=True)[:number], size)


def tail_classes(counts: ClassCounts, is_head_K: Tensor, tails: Tails = "rest") -> Tensor:
    """Which classes receive: bool, shape (K,); "few" takes of the rest only those with fewer than 20 images.

    Raises:
        InputError: if there is none, or `tails` is unknown.
    """
    if tails not in get_args(Tails):
        raise unknown_name("choice of tail classes", str(tails), get_args(Tails))
    is_tail_K = ~is_head_K if tails == "rest" else ~is_head_K & counts.groups()["few"]
    if not bool(is_tail_K.any()):
        raise InputError("no tail class has fewer than 20 images; choose tails='rest'")
    return is_tail_K


class Pairing(nn.Module):
    """Draws a head class for each group of images. For the options see `SemanticTransfer`.

    Args:
        counts: training images per class.
        is_head_K: which classes lend.
        pairing: "uniform", "frequency" (in proportion to the images), "covariance" (one of the `nearest` by the cosine
            between covariances) or "table" (one of the `nearest` by a given similarity).
        nearest: how many of the most similar heads are drawn from.
        similarity: the table: higher is more similar, shape (K, K); or the file that holds it, .npy or comma-separated.
        min_seen: images that a head class must have shown before it lends.

    Raises:
        InputError: if an option is unknown or out of range, or the table is missing, unreadable or of another shape.

    Example:
        >>> pairing = Pairing(ClassCounts([90, 80, 5]), torch.tensor([True, True, False]), min_seen=4)
        >>> seen, covariances = torch.tensor([3.0, 4.0, 1.0]), torch.eye(2).expand(3, 2, 2)
        >>> pairing(torch.tensor([2]), seen, covariances[2:], covariances)  # class 0 has shown too few images as yet
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
        if not (nearest >= 1 and min_seen >= 1):
            raise InputError(f"nearest and min_seen must be at least 1, not {nearest} and {min_seen}")
        if (pairing == "table") != (similarity is not None):
            raise InputError("pairing='table' and a similarity, a (K, K) table or the file that holds it, go together")
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
        """Draw from torch's default generator.

        Args:
            classes_G: class of each group.
            seen_K: images of each class seen so far.
            covariances_GCC: covariance of each group's class.
            covariances_KCC: covariances of all classes.
            per_class: one draw for a class, which all groups of that class share; else one for each group.

        Returns:
            A head class for each group, shape (G,), and whether there was one that has shown enough images.
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
    """A table of similarities between classes, float32, shape (K, K).

    Args:
        table: a tensor, an array, nested lists, or the path of a .npy or comma-separated file.
        num_classes: K.

    Raises:
        InputError: if the file can not be read, or the table has another shape or a value that is not finite.

    Example:
        >>> similarity_table([[1, 0.5], [0.5, 1]], 2)
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """
    try:
        values = _read(table) if isinstance(table, (str, Path)) else table
        if isinstance(values, Mapping):
            raise ValueError("a mapping is no table")
        table_KK = torch.as_tensor(values).detach().cpu().float()
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"cannot read a table of similarities between classes from {table!r:.200}: {error}") from error
    if tuple(table_KK.shape) != (num_classes, num_classes) or not bool(table_KK.isfinite().all()):
        raise InputError(
            f"the table of similarities must have shape ({num_classes}, {num_classes}), a finite number for each pair "
            f"of classes in the order of the labels, not {tuple(table_KK.shape)}"
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
