"""The contract of every loss: hard or soft targets, reduction, ignored rows, absent classes.

A loss is its constants, computed once from the class counts, and `per_example`. Everything else is here.
Shapes: B = batch, C = classes.
"""

from abc import abstractmethod
from typing import ClassVar, Literal, TypedDict, Unpack, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.component import check_options
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError, first_ten, unknown_name

Reduction = Literal["mean", "none", "sum"]
Absent = Literal["error", "mask"]


class Contract(TypedDict, total=False):
    """The options that every loss takes; see `Loss`."""

    reduction: Reduction
    ignore_index: int
    absent: Absent


# the logit of a masked class: its probability is exactly 0, and 0 * log-probability stays finite
MASKED = -1e30


class Loss(nn.Module):
    """A loss that knows how many training images each class has. Subclasses implement `per_example`.

    Args:
        class_counts: training images per class, shape (C,); a tensor, a list or `ClassCounts`.
        reduction: "mean" over the examples that are not ignored, "sum", or "none" for shape (B,).
        ignore_index: a hard target of this value contributes nothing.
        absent: what to do about a class with no training image, whose prior has no logarithm: "error" refuses it,
            "mask" drops it from the softmax, and a target of that class contributes nothing.

    Raises:
        InputError: if a class has no training image and `absent` is "error", or an option is unknown.
    """

    counts_C: Tensor
    absent_C: Tensor
    # the label that stands for an ignored one on its way through `per_example`; a loss that compares the examples of a
    # batch takes C, which is no class
    stand_in: int = 0
    # whether `per_example` takes the embeddings (B, D), too, as its third argument
    uses_embeddings: bool = False
    # whether it makes up for the class counts by itself, so that a balanced sampler would do so twice
    balances: ClassVar[bool] = False
    # whether its logits must be cosines in [-1, 1], which it scales
    expects_cosines: ClassVar[bool] = False

    def __init__(self, class_counts: Countable, **contract: Unpack[Contract]) -> None:
        super().__init__()
        check_options(self, contract, Contract)
        reduction, absent = contract.get("reduction", "mean"), contract.get("absent", "error")
        if reduction not in get_args(Reduction):
            raise unknown_name("reduction", reduction, get_args(Reduction))
        if absent not in get_args(Absent):
            raise unknown_name("treatment of absent classes", absent, get_args(Absent))
        counts_C = ClassCounts(class_counts).counts
        if absent == "error" and bool((counts_C == 0).any()):
            missing = torch.nonzero(counts_C == 0).flatten().tolist()
            raise InputError(
                f"{len(missing)} of {len(counts_C)} classes have no training image:\n{first_ten(missing)}\n"
                "give them images, leave them out, or pass absent='mask' to drop them from the softmax"
            )
        self.reduction: Reduction = reduction
        self.ignore_index = contract.get("ignore_index", -100)
        self.has_absent = bool((counts_C == 0).any())
        self.register_buffer("counts_C", counts_C.float(), persistent=False)
        self.register_buffer("absent_C", counts_C == 0, persistent=False)

    @abstractmethod
    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,), from float32 logits and hard (B,) or soft (B, C) targets."""

    def observe(self, targets: Tensor, kept_B: Tensor | None) -> None:
        """Hook of losses with running statistics: sees the targets of each training batch before its loss is taken.

        Args:
            targets: labels of shape (B,), `stand_in` where ignored, or weights over the classes of shape (B, C).
            kept_B: which labels are not ignored; None with weights.
        """

    def set_progress(self, progress: float) -> None:
        """Hook of losses that change in the course of the training: told before each epoch.

        Args:
            progress: share of the training that lies behind, in [0, 1).
        """

    def forward(self, logits_BC: Tensor, targets: Tensor, *extra: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            logits_BC: shape (B, C), any float type; computed in at least float32, also under autocast.
            targets: labels of shape (B,), or weights over the classes of shape (B, C).
            extra: what `per_example` takes beside these: the embeddings, if it `uses_embeddings`.

        Returns:
            A scalar, or shape (B,) with `reduction="none"`. Where every label is ignored, the mean is 0.

        Raises:
            InputError: if the shapes do not fit each other and the class counts.
        """
        self._check_shapes(logits_BC, targets)
        wide_BC = logits_BC if logits_BC.dtype == torch.float64 else logits_BC.float()
        if self.has_absent:
            wide_BC = wide_BC.masked_fill(self.absent_C, MASKED)
        kept_B = None
        if targets.ndim == 2:
            targets = targets.to(wide_BC.dtype)
            if self.has_absent:
                targets = targets.masked_fill(self.absent_C, 0.0)
        else:
            kept_B = targets != self.ignore_index
            if self.has_absent:  # an image of a class that has no training image: there is nothing to learn from it
                kept_B = kept_B & ~self.absent_C[torch.where(kept_B, targets, 0)]
            targets = torch.where(kept_B, targets, self.stand_in)
        if self.training:
            self.observe(targets, kept_B)
        return _reduce(self.per_example(wide_BC, targets, *extra), kept_B, self.reduction)

    def _check_shapes(self, logits_BC: Tensor, targets: Tensor) -> None:
        num_classes, given = len(self.counts_C), tuple(logits_BC.shape)
        if logits_BC.ndim != 2 or given[1] != num_classes:
            raise InputError(
                f"the loss was given counts of {num_classes} classes, so it needs logits of shape (B, {num_classes}), "
                f"not {given}"
            )
        if targets.shape not in (given[:1], given):
            raise InputError(
                f"logits of shape {given} need targets of shape {given[:1]} or {given}, not {tuple(targets.shape)}"
            )


def pick(values_BC: Tensor, targets: Tensor) -> Tensor:
    """The entry of each row that its target names; of soft targets, the weighted sum. Shape (B,).

    Example:
        >>> values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> pick(values, torch.tensor([1, 0])), pick(values, torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
        (tensor([2., 3.]), tensor([2.0000, 3.5000]))
    """
    if targets.ndim == 2:
        return (values_BC * targets).sum(dim=1)
    return values_BC.gather(1, targets.unsqueeze(1)).squeeze(1)


def cross_entropy(logits_BC: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each example, shape (B,), for hard (B,) or soft (B, C) targets."""
    return F.cross_entropy(logits_BC, targets, reduction="none")


def rival_cross_entropy(own_BC: Tensor, rival_BC: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in which a class has one logit as the true class and another as a rival of the true class.

    Args:
        own_BC: logits of the classes where they are true, shape (B, C).
        rival_BC: logits of the classes where another one is true, shape (B, C).
        targets: labels (B,), or weights (B, C), for which the loss is the expectation over the classes.

    Returns:
        Loss of each example, shape (B,).

    Example:
        >>> own, rival = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
        >>> rival_cross_entropy(own, rival, torch.tensor([0]))
        tensor([3.0486])
        >>> cross_entropy(torch.tensor([[1.0, 4.0]]), torch.tensor([0]))
        tensor([3.0486])
    """
    if targets.ndim == 2:
        return pick(-F.logsigmoid(own_BC - logsumexp_of_others(rival_BC)), targets)
    is_true_BC = F.one_hot(targets, own_BC.shape[1]).bool()
    return cross_entropy(torch.where(is_true_BC, own_BC, rival_BC), targets)


def logsumexp_of_others(logits_BC: Tensor) -> Tensor:
    """For each class, the logarithm of the summed exponentials of all *other* classes, shape (B, C).

    Exact also for the leading class, where subtracting from the full sum would cancel.

    Example:
        >>> logsumexp_of_others(torch.tensor([[3.0, 50.0]]))
        tensor([[50., 3.]])
    """
    leads_BC = F.one_hot(logits_BC.argmax(dim=1), logits_BC.shape[1]).bool()
    without_lead_B1 = logits_BC.masked_fill(leads_BC, MASKED).logsumexp(dim=1, keepdim=True)
    p_BC = F.softmax(logits_BC, dim=1).masked_fill(leads_BC, 0.0)  # at most 1/2
    return torch.where(leads_BC, without_lead_B1, logits_BC.logsumexp(dim=1, keepdim=True) + torch.log1p(-p_BC))


def _reduce(losses_B: Tensor, kept_B: Tensor | None, reduction: Reduction) -> Tensor:
    if kept_B is not None:
        losses_B = torch.where(kept_B, losses_B, 0.0)
    if reduction == "none":
        return losses_B
    if reduction == "sum":
        return losses_B.sum()
    # a rank whose part of the batch is all ignored must not turn the average over the ranks into NaN
    return losses_B.mean() if kept_B is None else losses_B.sum() / kept_B.sum().clamp(min=1)
