"""All that a comparison tells, gathered once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from longtail.report.classes import Classes
from longtail.report.comparison.contenders import Contender, read_contenders
from longtail.report.comparison.pair import Pair
from longtail.report.wording import several

Thumbnails = Callable[[int], Tensor]
_FEWEST = 6  # test images of a class with which McNemar's test can reach p = 0.05: 2 * 0.5 ** 6


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two to eight contenders, the reference first.

    Args:
        contenders: read and checked by `read_contenders`.
        classes: grouped as their scores are.
        thumbnails: an image for a person to look at, uint8 (3, h, w), by its place in the test; None shows none.

    Example:
        >>> from longtail.evaluation import Predictions
        >>> sides = (Predictions([0, 1], [500, 5], predicted=labels) for labels in ([0, 0], [0, 1]))
        >>> ce, balms = (Contender(name, Path(name), p, p.scores()) for name, p in zip(("ce", "balms"), sides))
        >>> found = Comparison((ce, balms), Classes.grouped(("cat", "dog"), ce.predictions.class_counts))
        >>> found.title, found.pairs[0].gains
        ('balms against ce', (0.0, 100.0))
    """

    contenders: tuple[Contender, ...]
    classes: Classes
    thumbnails: Thumbnails | None = None

    @classmethod
    def of(
        cls,
        places: Sequence[Path],
        counts: str | None = None,
        groups: Mapping[str, Any] | None = None,
        thumbnails: Thumbnails | None = None,
    ) -> "Comparison":
        """Read everything; takes and refuses what `read_contenders` does."""
        contenders, options = read_contenders(places, counts, groups)
        named = max(contenders, key=lambda each: each.predictions.class_names[0] != "0").predictions
        classes = Classes.grouped(named.class_names, named.class_counts, **options)
        return cls(tuple(contenders), classes, thumbnails)

    @cached_property
    def reference(self) -> Contender:
        """What the others are compared with."""
        return self.contenders[0]

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Each other contender against the reference."""
        return tuple(Pair(self.reference, other, self.classes) for other in self.contenders[1:])

    @property
    def title(self) -> str:
        """The contenders in a line."""
        others = [other.label for other in self.contenders[1:]]
        listed = f"{', '.join(others[:-1])} and {others[-1]}" if len(others) > 1 else others[0]
        data = self.reference.result.get("data")
        return f"{listed} against {self.reference.label}" + (f" on {Path(str(data)).name}" if data else "")

    @property
    def test_counts(self) -> list[int]:
        """Test images of each class."""
        counts: list[int] = self.reference.predictions.targets.bincount(minlength=len(self.classes)).tolist()
        return counts

    @property
    def warnings(self) -> Iterator[str]:
        """In what the contenders differ besides the method, and whose numbers are not to be trusted."""
        for what, of in _SETTINGS.items():
            told = {each.label: of(each) for each in self.contenders if each.result and of(each)}
            if len(set(told.values())) > 1:
                listed = ", ".join(f"{value} ({label})" for label, value in told.items())
                yield f"They differ in more than the method: {what} {listed}."
        for each in self.contenders:
            if not each.result:
                yield f"{each.label} is a file of predictions: nothing is known of how they came about."
            elif "test" in _protocol(each.result):
                yield f"The checkpoint of {each.label} was chosen on the test set, which flatters it."

    @property
    def caveats(self) -> Iterator[str]:
        """What the statistics can not say."""
        yield (
            "Intervals and marks say what the choice of the test images can explain. Each run is one training: with "
            "another seed each would come out somewhat different, which only several seeds show (longtail bench)."
        )
        largest = max(self.test_counts)
        if largest < _FEWEST:
            yield (
                f"With at most {several(largest, 'test image')} a class, no single class can show more than chance; "
                "read the groups."
            )


def _protocol(result: Mapping[str, Any]) -> str:
    protocol = result.get("protocol")
    about = protocol if isinstance(protocol, Mapping) else {}
    return f"{about.get('checkpoint') or 'unknown'} {about.get('selected_on') or ''}".strip().lower()


def _backbone(result: Mapping[str, Any]) -> str:
    backbone = result.get("backbone")
    if not isinstance(backbone, Mapping):
        return "unknown"
    size = backbone.get("parameters")
    pretrained = ", pretrained" if backbone.get("pretrained") else ""
    # the head counts too, and belongs to the method: to two digits it makes no difference
    return (
        f"{backbone.get('name')}{pretrained}, {size / 1e6:.2f} M parameters" if isinstance(size, int) else str(backbone)
    )


_SETTINGS: Mapping[str, Callable[[Contender], str]] = {
    "backbone": lambda each: _backbone(each.result),
    "recipe": lambda each: str(each.result.get("recipe")),
    "length of the training": lambda each: each.length,
    "scored checkpoint": lambda each: _protocol(each.result),
}
