"""Base class of all losses: hard or soft targets, reduction, ignored rows and absent classes.

A subclass computes its constants once from the class counts and implements `per_example`.
Shapes: B = batch, C = classes.
"""

from abc import abstractmethod
from collections.abc import Hashable
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.component import format_options, plain_attributes
from longtail.data.counts import ClassCounts, Countable, checked_targets
from longtail.errors import InputError, first_ten, unknown_name
from longtail.ranges import check_number

Reduction = Literal["mean", "none", "sum"]
Absent = Literal["error", "mask"]

MASKED = -1e30
"""Logit of a masked class. Its probability is exactly 0, and 0 times its log-probability is finite."""


class Loss(nn.Module):
    """Base class of losses that use the number of training images per class. Subclasses implement `per_example`.

    Attributes:
        uses_embeddings: Whether `per_example` takes the embeddings (B, D) as a third argument.
        balances: Whether the loss corrects for the class counts. A balanced sampler would then correct a second time.
        expects_cosines: Whether the logits must be cosine similarities in [-1, 1], which the loss scales.
        takes_background: Whether the label C is allowed, for a row without a class.
        convex: Whether the loss of each example is a fixed convex function of its logits, so that a linear head on
            fixed features has one optimum. False for a loss that draws random numbers or compares the examples of a
            batch. Set on the instance if it depends on an option.
        stand_in: Label that replaces the label of an ignored row before `per_example`. A loss that compares the
            examples of a batch uses C, which is not a class.

    Args:
        class_counts: Training images per class, shape (C,); a tensor, a list, `ClassCounts`, or a mapping from labels
            to counts.
        reduction: "mean" over the rows that are not ignored, "sum", or "none" for shape (B,).
        ignore_index: Hard label of the rows to ignore. Such a row contributes 0.
        absent: Treatment of classes without training images, whose prior has no logarithm. "error" refuses them; "mask"
            removes them from the softmax and ignores rows with their label.

    Raises:
        InputError: If a class has no training image and `absent` is "error", or an option is not one of its values.
    """

    uses_embeddings: ClassVar[bool] = False
    balances: ClassVar[bool] = False
    expects_cosines: ClassVar[bool] = False
    convex: bool = False
    stand_in: int = 0
    takes_background: ClassVar[bool] = False
    counts_C: Tensor
    absent_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise unknown_name("reduction", reduction, get_args(Reduction))
        if absent not in get_args(Absent):
            raise unknown_name("treatment of absent classes", absent, get_args(Absent))
        check_number("ignore_index", ignore_index, "a label", integer=True)
        counts_C = ClassCounts(class_counts).counts
        if absent == "error" and bool((counts_C == 0).any()):
            missing = torch.nonzero(counts_C == 0).flatten().tolist()
            raise InputError(
                f"{len(missing)} of {len(counts_C)} classes have no training image:\n{first_ten(missing)}\n"
                "Add images, remove these classes, or pass absent='mask' to drop them from the softmax."
            )
        self.reduction, self.ignore_index, self.absent = reduction, ignore_index, absent
        self.has_absent = bool((counts_C == 0).any())
        self.register_buffer("counts_C", counts_C.float(), persistent=False)
        self.register_buffer("absent_C", counts_C == 0, persistent=False)

    @abstractmethod
    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example.

        Args:
            logits_BC: Logits, float32 or float64, shape (B, C).
            targets: Labels of shape (B,), or class weights of shape (B, C).

        Returns:
            Losses of shape (B,).
        """

    def observe(self, targets: Tensor, kept_B: Tensor | None) -> None:
        """Update running statistics before the loss of a training batch. Does nothing by default.

        Args:
            targets: Labels of shape (B,), `stand_in` where ignored, or class weights of shape (B, C).
            kept_B: Mask of the labels that are not ignored, shape (B,); None with class weights.
        """

    def set_progress(self, progress: float) -> None:
        """Adapt the loss to the training progress. Called before each epoch; does nothing by default.

        Args:
            progress: Completed share of the training, in [0, 1).
        """

    def phase(self) -> Hashable:
        """Return the Python values on which the computation depends, or None if it depends on tensors only.

        While the value stays the same, a recorded step remains valid. By default, it consists of all attributes that
        are numbers, strings or None.
        """
        return plain_attributes(self)

    def forward(self, logits_BC: Tensor, targets: Tensor, *extra: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits_BC: Logits of shape (B, C), any float type. The loss is computed in at least float32, also under
                autocast.
            targets: Labels of shape (B,), any integer type, in [0, C) or equal to `ignore_index`; or class weights of
                shape (B, C).
            extra: Further arguments of `per_example`: the embeddings (B, D) of a loss with `uses_embeddings`.

        Returns:
            A scalar, or shape (B,) with `reduction="none"`. Sum and mean are 0 if the batch is empty or all rows are
            ignored.

        Raises:
            InputError: If the shapes do not match each other and the class counts, or a label on the CPU is no class.
                On a CUDA device, such a label fails a device-side assertion.
        """
        self._check_shapes(logits_BC, targets)
        if targets.ndim == 1:
            targets = checked_targets(targets, self._num_labels, self.ignore_index)
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
            if self.has_absent:  # a class without training images has no logit to learn
                inside_B = torch.where(kept_B, targets, 0).clamp(max=len(self.absent_C) - 1)  # background is outside
                kept_B = kept_B & ~(self.absent_C[inside_B] & (targets == inside_B))
            targets = torch.where(kept_B, targets, self.stand_in)
        if self.training:
            self.observe(targets, kept_B)
        return _reduce(self.per_example(wide_BC, targets, *extra), kept_B, self.reduction)

    def extra_repr(self) -> str:
        """Format the number of classes and the options for `repr`."""
        return ", ".join(filter(None, [f"num_classes={len(self.counts_C)}", format_options(self, Loss)]))

    @property
    def _num_labels(self) -> int:
        return len(self.counts_C) + self.takes_background

    def _check_shapes(self, logits_BC: Tensor, targets: Tensor) -> None:
        num_classes, given = len(self.counts_C), tuple(logits_BC.shape)
        if logits_BC.ndim != 2 or given[1] != num_classes:
            raise InputError(
                f"logits must have shape (B, {num_classes}), since the loss has counts of {num_classes} classes, "
                f"got {given}"
            )
        if targets.shape not in (given[:1], given):
            raise InputError(
                f"targets must have shape {given[:1]} or {given} for logits of shape {given}, "
                f"got {tuple(targets.shape)}"
            )


def pick(values_BC: Tensor, targets: Tensor) -> Tensor:
    """Select the value of the target class of each row, or the weighted sum for soft targets.

    Args:
        values_BC: Values of shape (B, C).
        targets: Labels of shape (B,), or class weights of shape (B, C).

    Returns:
        Shape (B,).

    Example:
        >>> values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> pick(values, torch.tensor([1, 0])), pick(values, torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
        (tensor([2., 3.]), tensor([2.0000, 3.5000]))
    """
    if targets.ndim == 2:
        return (values_BC * targets).sum(dim=1)
    return values_BC.gather(1, targets.unsqueeze(1)).squeeze(1)


def cross_entropy(logits_BC: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross-entropy of each example, shape (B,), for hard (B,) or soft (B, C) targets."""
    return F.cross_entropy(logits_BC, targets, reduction="none")


def rival_cross_entropy(own_BC: Tensor, rival_BC: Tensor, targets: Tensor) -> Tensor:
    """Compute cross-entropy with different logits for a class as the true class and as a rival of the true class.

    Args:
        own_BC: Logit of each class where it is the true class, shape (B, C).
        rival_BC: Logit of each class where another class is true, shape (B, C).
        targets: Labels of shape (B,), or class weights of shape (B, C). With weights, the loss is the expectation over
            the classes.

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
    """Compute, for each class, the log-sum-exp of the logits of all *other* classes, shape (B, C).

    The result is exact also for the largest logit, where subtracting from the full sum would cancel.

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
    if reduction == "sum" or not len(losses_B):
        return losses_B.sum()
    # clamp: a rank whose rows are all ignored must not make the average over the ranks NaN
    return losses_B.mean() if kept_B is None else losses_B.sum() / kept_B.sum().clamp(min=1)
