"""One run against the reference, class by class: what changed, and whether chance explains it.

Shapes: N = test images, C = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor

from longtail.evaluation import Difference, paired_bootstrap
from longtail.report.classes import Classes
from longtail.report.sides import Side

Certainty = Literal["clear", "likely", "chance"]
CLEAR = 0.05
"""False discovery rate of the clear changes (Benjamini and Hochberg, 1995), and largest p-value of the likely ones."""
DRAWS = 2000
"""Draws of each bootstrap."""


@dataclass(frozen=True)
class Shift:
    """A pair of classes that is confused more or less often than by the reference.

    Args:
        true: True class.
        predicted: Predicted class.
        before: Number of images in the reference run.
        after: Number of images in the other run.

    Example:
        >>> Shift(true=3, predicted=1, before=46, after=0).change
        -46
    """

    true: int
    predicted: int
    before: int
    after: int

    @property
    def change(self) -> int:
        """Number of additional images."""
        return self.after - self.before


@dataclass(frozen=True, eq=False)
class Pair:
    """One run against the reference, on the same N test images.

    Args:
        reference: First side of the comparison.
        other: Side that is compared with it.
        classes: C classes.

    Example:
        >>> from longtail.evaluation import Predictions
        >>> targets = torch.tensor([0] * 8 + [1] * 8)
        >>> one = Predictions(targets, [500, 5], predicted=torch.zeros(16, dtype=torch.long))
        >>> two = Predictions(targets, [500, 5], predicted=targets)
        >>> sides = (Side(name, None, side, side.scores()) for name, side in (("one", one), ("two", two)))
        >>> pair = Pair(*sides, Classes.grouped(("cat", "dog"), one.class_counts))
        >>> pair.gains, pair.certainty, pair.overall.mean
        ((0.0, 100.0), ('chance', 'clear'), 50.0)
    """

    reference: Side
    other: Side
    classes: Classes

    @property
    def sides(self) -> tuple[Side, Side]:
        """Reference and other side."""
        return self.reference, self.other

    @cached_property
    def right(self) -> tuple[Tensor, Tensor]:
        """Whether each side is right on each test image, two tensors of shape (N,)."""
        reference_N, other_N = (side.predictions.predicted == side.predictions.targets for side in self.sides)
        return reference_N, other_N

    @cached_property
    def gains(self) -> tuple[float | None, ...]:
        """Gain in accuracy of each class in points; None for a class without test images."""
        sides = zip(self.reference.scores.per_class, self.other.scores.per_class, strict=True)
        return tuple(None if before is None or after is None else after - before for before, after in sides)

    def ranked(self, *, best: bool) -> list[int]:
        """Return the classes that got better (or worse), largest change first, ties by training images.

        Args:
            best: True for gains, False for losses.
        """
        sign = 1 if best else -1
        order = self.classes.order.tolist()
        changed = [label for label in order if sign * (self.gains[label] or 0.0) > 0]
        return sorted(changed, key=lambda label: -sign * (self.gains[label] or 0.0))

    @cached_property
    def p_values(self) -> npt.NDArray[Any]:
        """P-value of each class by McNemar's exact test, shape (C,).

        Null hypothesis: of the images that only one side classifies correctly, either side has half.
        """
        reference_N, other_N = self.right
        targets_N = self.reference.predictions.targets
        lost_C, won_C = (
            torch.bincount(targets_N[own_N], minlength=len(self.classes)).numpy()
            for own_N in (reference_N & ~other_N, other_N & ~reference_N)
        )
        p_C: npt.NDArray[Any] = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(lost_C, won_C), lost_C + won_C, 0.5))
        return p_C

    @cached_property
    def certainty(self) -> tuple[Certainty, ...]:
        """Certainty of the change of each class: "clear" among all classes, "likely" by its own test, or "chance"."""
        tested_C = np.array([gain is not None for gain in self.gains])
        adjusted_C = np.ones(len(tested_C))
        adjusted_C[tested_C] = stats.false_discovery_control(self.p_values[tested_C])
        return tuple(
            "clear" if adjusted <= CLEAR else "likely" if alone <= CLEAR else "chance"
            for adjusted, alone in zip(adjusted_C, self.p_values, strict=True)
        )

    @cached_property
    def overall(self) -> Difference:
        """Difference in accuracy on all test images in points."""
        return self._difference(None)

    @cached_property
    def by_score(self) -> dict[str, Difference]:
        """Differences in "top1", "balanced" and the accuracy of each group with test images, in points."""
        images_C = torch.bincount(self.reference.predictions.targets, minlength=len(self.classes))
        share_C = 1.0 / images_C.clamp(min=1)
        masks = {"balanced": torch.ones(len(self.classes), dtype=torch.bool), **self.classes.masks}
        found = {"top1": self.overall}
        for name, mask_C in masks.items():
            if images_C[mask_C].any():
                found[name] = self._difference(share_C * mask_C)
        return found

    def _difference(self, weights_C: Tensor | None) -> Difference:
        reference_N, other_N = (side_N.numpy()[None] for side_N in self.right)
        weights_N = None if weights_C is None else weights_C[self.reference.predictions.targets].numpy()
        return paired_bootstrap(other_N, reference_N, weights_N, draws=DRAWS)

    @cached_property
    def shifts(self) -> list[Shift]:
        """Pairs of classes that are confused more or less often, largest change first."""
        num_classes = len(self.classes)
        codes = []
        for side in self.sides:
            targets_N, predicted_N = side.predictions.targets, side.predictions.predicted
            wrong_N = predicted_N != targets_N
            codes.append(targets_N[wrong_N] * num_classes + predicted_N[wrong_N])
        found, place = torch.unique(torch.cat(codes), return_inverse=True)
        before, after = (
            torch.bincount(part, minlength=len(found)) for part in place.split([len(codes[0]), len(codes[1])])
        )
        order = (after - before).abs().argsort(descending=True, stable=True)
        rows = zip(found[order].tolist(), before[order].tolist(), after[order].tolist(), strict=True)
        return [Shift(code // num_classes, code % num_classes, was, now) for code, was, now in rows if was != now]

    @cached_property
    def shifts_by_class(self) -> dict[int, list[Shift]]:
        """Largest decrease and largest increase of the confusions of each class, those that exist."""
        found: dict[int, dict[bool, Shift]] = {}
        for shift in self.shifts:
            found.setdefault(shift.true, {}).setdefault(shift.change > 0, shift)
        return {true: [kinds[up] for up in (False, True) if up in kinds] for true, kinds in found.items()}

    def examples(self, label: int, *, best: bool) -> list[int]:
        """Return the test images of a class that only one side classifies correctly, highest confidence first.

        Args:
            label: Label of the class.
            best: True for images that only the other side classifies correctly, False for the reference.
        """
        reference_N, other_N = self.right
        right_N, wrong_N = (other_N, reference_N) if best else (reference_N, other_N)
        side = self.other if best else self.reference
        found = ((side.predictions.targets == label) & right_N & ~wrong_N).nonzero()[:, 0]
        if side.predictions.logits is not None:
            confidence = side.predictions.logits[found].softmax(1).amax(1)
            found = found[confidence.argsort(descending=True, stable=True)]
        indices: list[int] = found.tolist()
        return indices

    def counted(self, kind: Sequence[Certainty] = ("clear", "likely", "chance")) -> tuple[int, int]:
        """Count the classes that got better and those that got worse.

        Args:
            kind: Certainties of the classes that count.
        """
        known = [gain for gain, own in zip(self.gains, self.certainty, strict=True) if gain and own in kind]
        return sum(gain > 0 for gain in known), sum(gain < 0 for gain in known)
