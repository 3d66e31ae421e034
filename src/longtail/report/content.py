"""All that a report tells, gathered once.

Shapes: N = test images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation import Predictions, Reliability, Scores, confidences, logit_margins, reliability_by_group
from longtail.report.classes import Classes
from longtail.report.mistakes import Mixup, group_flow, main_mixups, mixups
from longtail.report.wording import number

Thumbnails = Callable[[int], Tensor]


@dataclass(frozen=True, eq=False)
class Content:
    """What stands in a report; what the parts of the page share is worked out once, when asked for.

    Args:
        title: of the page.
        predictions: of N test images.
        scores: what the predictions are worth.
        classes: names, counts and groups, as `scores` was computed with.
        result: a run's `result.json`; any key may be missing.
        config: a run's `config.yaml`, as text.
        log: a mapping per epoch.
        thumbnails: an image for a person to look at, uint8 (3, h, w), by its place in the test.
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
                    f"the scores were computed with other groups: {name}-shot accuracy is {_told(score)} there and "
                    f"{_told(mean)} here; pass the same many, few and groups"
                )

    def about(self, key: str) -> Mapping[str, Any]:
        """A part of the result, such as "split"; empty where there is none."""
        part = self.result.get(key)
        return part if isinstance(part, Mapping) else {}

    @property
    def warning(self) -> str:
        """What must stand beside every number and figure: that the test set chose the checkpoint. "" otherwise."""
        protocol = self.about("protocol")
        chosen = f"{protocol.get('selected_on') or ''} {protocol.get('checkpoint') or ''}".lower()
        return "checkpoint chosen on the test set" if "test" in chosen else ""

    @cached_property
    def confidence(self) -> Tensor | None:
        """Confidence in each prediction, shape (N,), in [0, 1]; None without logits."""
        return None if self.predictions.logits is None else confidences(self.predictions.logits)[0]

    @cached_property
    def reliability(self) -> dict[str, Reliability]:
        """Images binned by confidence, of "all" and of each group; empty without logits."""
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
    def mixups(self) -> list[Mixup]:
        """Pairs of classes that were mixed up, the most images first."""
        return mixups(self.predictions.predicted, self.predictions.targets, len(self.classes))

    @cached_property
    def main_mixups(self) -> dict[int, Mixup]:
        """For each class with a mistake, what it is most often taken for."""
        return main_mixups(self.mixups)

    @cached_property
    def flow(self) -> dict[str, dict[str, float]]:
        """Where the test images of each group end up, in percent."""
        return group_flow(self.predictions.predicted, self.predictions.targets, self.classes.masks)

    @cached_property
    def test_counts(self) -> list[int]:
        """Test images of each class."""
        counts_C: list[int] = self.predictions.targets.bincount(minlength=len(self.classes)).tolist()
        return counts_C

    def test_images(self, group: str) -> int:
        """Test images of the classes of a group."""
        return sum(
            count for count, name in zip(self.test_counts, self.classes.group_names, strict=True) if name == group
        )


def _told(value: float | None) -> str:
    return "unknown" if value is None else number(value)
