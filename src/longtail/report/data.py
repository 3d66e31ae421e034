"""Content of a report: the given results, and what follows from them.

Shapes: N = test images, C = classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation import Predictions, Reliability, Scores, confidences, logit_margins, reliability_by_group
from longtail.report.classes import Classes
from longtail.report.confusions import Confusion, confusions, group_flow, main_confusions
from longtail.report.images import Thumbnails
from longtail.report.wording import number


@dataclass(frozen=True, eq=False)
class ReportData:
    """Content of a report. Derived values are computed on first use.

    Args:
        title: Title of the page.
        predictions: Predictions on N test images.
        scores: Scores of the predictions.
        classes: Classes in the groups that `scores` was computed with.
        result: Content of a run's `result.json`; any key may be missing.
        config: Text of a run's `config.yaml`.
        log: One mapping per epoch.
        thumbnails: Source of example images; None shows none.

    Raises:
        InputError: If `scores` was computed with other groups.
    """

    title: str
    predictions: Predictions
    scores: Scores
    classes: Classes
    result: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    log: Sequence[Mapping[str, Any]] = ()
    thumbnails: Thumbnails | None = None

    def __post_init__(self) -> None:
        for name, mask_C in self.classes.masks.items():
            pairs = zip(self.scores.per_class, mask_C.tolist(), strict=True)
            known = [value for value, own in pairs if own and value is not None]
            mean, score = (sum(known) / len(known) if known else None), getattr(self.scores, name)
            if (mean is None) != (score is None) or abs((mean or 0.0) - (score or 0.0)) > 1e-3:
                raise InputError(
                    f"`scores` was computed with other groups: its {name}-shot accuracy is {number(score)}, that of "
                    f"these groups {number(mean)}; pass the same `many`, `few` and `groups`"
                )

    def about(self, key: str) -> Mapping[str, Any]:
        """Return a part of the result, such as "split"; an empty mapping if it is missing."""
        part = self.result.get(key)
        return part if isinstance(part, Mapping) else {}

    @property
    def warning(self) -> str:
        """Warning for every number and chart: the test split chose the checkpoint. "" if it did not."""
        protocol = self.about("protocol")
        chosen = f"{protocol.get('selected_on') or ''} {protocol.get('checkpoint') or ''}".lower()
        return "checkpoint chosen on the test split" if "test" in chosen else ""

    @cached_property
    def confidence(self) -> Tensor | None:
        """Confidence in each prediction, shape (N,), in [0, 1]; None without logits."""
        return None if self.predictions.logits is None else confidences(self.predictions.logits)[0]

    @cached_property
    def reliability(self) -> dict[str, Reliability]:
        """Images binned by confidence, for "all" and each group; empty without logits."""
        if self.confidence is None:
            return {}
        correct_N = self.predictions.predicted == self.predictions.targets
        return reliability_by_group(self.confidence, correct_N, self.predictions.targets, self.classes.masks)

    @cached_property
    def margins(self) -> dict[str, Tensor]:
        """Logit margins of the test images of each group that has any; empty without logits."""
        if self.predictions.logits is None:
            return {}
        margins_N = logit_margins(self.predictions.logits, self.predictions.targets)
        found = {name: margins_N[mask_C[self.predictions.targets]] for name, mask_C in self.classes.masks.items()}
        return {name: margins for name, margins in found.items() if len(margins)}

    @cached_property
    def confusions(self) -> list[Confusion]:
        """Pairs of confused classes, most images first."""
        return confusions(self.predictions.predicted, self.predictions.targets, len(self.classes))

    @cached_property
    def main_confusions(self) -> dict[int, Confusion]:
        """Most frequent confusion of each class that has one."""
        return main_confusions(self.confusions)

    @cached_property
    def flow(self) -> dict[str, dict[str, float]]:
        """Predicted groups of the test images of each group, in percent."""
        return group_flow(self.predictions.predicted, self.predictions.targets, self.classes.masks)

    @cached_property
    def test_counts(self) -> list[int]:
        """Test images of each class."""
        counts_C: list[int] = self.predictions.targets.bincount(minlength=len(self.classes)).tolist()
        return counts_C

    def test_images(self, group: str) -> int:
        """Count the test images of the classes of a group."""
        names = self.classes.group_names
        return sum(count for count, name in zip(self.test_counts, names, strict=True) if name == group)
