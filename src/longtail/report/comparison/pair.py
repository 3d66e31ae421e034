"""One contender against the reference, class by class: what changed, and whether it is more than chance.

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
from longtail.report.comparison.contenders import Contender

Certainty = Literal["clear", "likely", "chance"]
CLEAR = 0.05
"""Share of false alarms among the changes that are called clear (Benjamini and Hochberg, 1995); likely: p below it."""
DRAWS = 2000


@dataclass(frozen=True)
class Shift:
    """A pair of classes that is mixed up more or less often than under the reference.

    Args:
        true: the class the images show.
        taken_for: the class that was predicted.
        before: images under the reference.
        after: images under the other.

    Example:
        >>> Shift(true=3, taken_for=1, before=46, after=0).change
        -46
    """

    true: int
    taken_for: int
    before: int
    after: int

    @property
    def change(self) -> int:
        """Images more (less, where negative) than under the reference."""
        return self.after - self.before


@dataclass(frozen=True, eq=False)
class Pair:
    """One contender against the reference, on the same N test images.

    Args:
        reference: the first contender.
        other: the one it is compared with.
        classes: C classes, named, counted and grouped.

    Example:
        >>> from longtail.evaluation import Predictions
        >>> targets = torch.tensor([0] * 8 + [1] * 8)
        >>> one = Predictions(targets, [500, 5], predicted=torch.zeros(16, dtype=torch.long))
        >>> two = Predictions(targets, [500, 5], predicted=targets)
        >>> sides = (Contender(n, None, p, p.scores()) for n, p in (("one", one), ("two", two)))
        >>> pair = Pair(*sides, Classes.grouped(("cat", "dog"), one.class_counts))
        >>> pair.gains, pair.certainty, pair.overall.mean
        ((0.0, 100.0), ('chance', 'clear'), 50.0)
    """

    reference: Contender
    other: Contender
    classes: Classes

    @cached_property
    def right(self) -> tuple[Tensor, Tensor]:
        """Whether the reference and the other recognise each test image, each of shape (N,)."""
        sides = (self.reference.predictions, self.other.predictions)
        reference_N, other_N = (side.predicted == side.targets for side in sides)
        return reference_N, other_N

    @cached_property
    def gains(self) -> tuple[float | None, ...]:
        """What each class gained, in points; None for a class without a test image."""
        sides = zip(self.reference.scores.per_class, self.other.scores.per_class, strict=True)
        return tuple(None if before is None or after is None else after - before for before, after in sides)

    def ranked(self, *, best: bool) -> list[int]:
        """The classes that got better (or worse), the largest change first, among equals the fullest class."""
        sign = 1 if best else -1
        order = self.classes.order.tolist()
        changed = [label for label in order if sign * (self.gains[label] or 0.0) > 0]
        return sorted(changed, key=lambda label: -sign * (self.gains[label] or 0.0))

    @cached_property
    def p_values(self) -> npt.NDArray[Any]:
        """Chance of a change as large as each class's, were both equally good on it: McNemar's exact test, shape (C,).

        Of the images that only one of the two recognises, either side should have half.
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
        """Of each class: "clear" holds up among all classes at once, "likely" only by itself; else "chance"."""
        tested_C = np.array([gain is not None for gain in self.gains])
        adjusted_C = np.ones(len(tested_C))
        adjusted_C[tested_C] = stats.false_discovery_control(self.p_values[tested_C])
        return tuple(
            "clear" if adjusted <= CLEAR else "likely" if alone <= CLEAR else "chance"
            for adjusted, alone in zip(adjusted_C, self.p_values, strict=True)
        )

    @cached_property
    def overall(self) -> Difference:
        """Points of accuracy that the other has over the reference on all test images."""
        return self._difference(None)

    @cached_property
    def by_score(self) -> dict[str, Difference]:
        """The same for "top1", "balanced", and each group that has test images."""
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
        """Every pair of classes that is mixed up more or less often, the largest change first."""
        num_classes = len(self.classes)
        codes = []
        for side in (self.reference.predictions, self.other.predictions):
            wrong_N = side.predicted != side.targets
            codes.append(side.targets[wrong_N] * num_classes + side.predicted[wrong_N])
        found, place = torch.unique(torch.cat(codes), return_inverse=True)
        before, after = (
            torch.bincount(part, minlength=len(found)) for part in place.split([len(codes[0]), len(codes[1])])
        )
        order = (after - before).abs().argsort(descending=True, stable=True)
        rows = zip(found[order].tolist(), before[order].tolist(), after[order].tolist(), strict=True)
        return [Shift(code // num_classes, code % num_classes, was, now) for code, was, now in rows if was != now]

    @cached_property
    def shifts_by_class(self) -> dict[int, list[Shift]]:
        """For each class, what it is taken for less and more often: its largest change of either kind."""
        found: dict[int, dict[bool, Shift]] = {}
        for shift in self.shifts:
            found.setdefault(shift.true, {}).setdefault(shift.change > 0, shift)
        return {true: [kinds[up] for up in (False, True) if up in kinds] for true, kinds in found.items()}

    def examples(self, label: int, *, best: bool) -> list[int]:
        """Test images of a class that only one of the two recognises, those that one is surest of first.

        Args:
            label: of the class.
            best: images only the other recognises; else those only the reference does.
        """
        reference_N, other_N = self.right
        right_N, wrong_N = (other_N, reference_N) if best else (reference_N, other_N)
        side = self.other if best else self.reference
        found = ((side.predictions.targets == label) & right_N & ~wrong_N).nonzero()[:, 0]
        if side.predictions.logits is not None:
            sure = side.predictions.logits[found].softmax(1).amax(1)
            found = found[sure.argsort(descending=True, stable=True)]
        indices: list[int] = found.tolist()
        return indices

    def counted(self, kind: Sequence[Certainty] = ("clear", "likely", "chance")) -> tuple[int, int]:
        """How many classes got better and how many worse, of those with these certainties."""
        known = [gain for gain, own in zip(self.gains, self.certainty, strict=True) if gain and own in kind]
        return sum(gain > 0 for gain in known), sum(gain < 0 for gain in known)
