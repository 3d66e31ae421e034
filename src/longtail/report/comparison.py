"""Two to eight runs or prediction files on the same test images, the reference first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longtail._io import write_text
from longtail.errors import InputError
from longtail.report.classes import Classes
from longtail.report.images import Thumbnails
from longtail.report.pair import Pair
from longtail.report.sides import Side, read_sides
from longtail.report.tables import Cell, Column, Table, csv_text
from longtail.report.wording import DASH, listed, number, points, several

_MIN_TESTED = 6  # test images with which McNemar's test can reach p = 0.05: 2 * 0.5 ** 6
_CHANGES = 5  # classes of each kind in the terminal


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two to eight sides, the reference first.

    Args:
        sides: Sides as `read_sides` returns them.
        classes: Classes in the groups of the scores.
        thumbnails: Source of example images; None shows none.

    Example:
        >>> from longtail.evaluation import Predictions
        >>> read = (Predictions([0, 1], [500, 5], predicted=labels) for labels in ([0, 0], [0, 1]))
        >>> ce, balms = (Side(name, Path(name), p, p.scores()) for name, p in zip(("ce", "balms"), read))
        >>> found = Comparison((ce, balms), Classes.grouped(("cat", "dog"), ce.predictions.class_counts))
        >>> found.title, found.pairs[0].gains
        ('balms against ce', (0.0, 100.0))
    """

    sides: tuple[Side, ...]
    classes: Classes
    thumbnails: Thumbnails | None = None

    @classmethod
    def of(
        cls,
        places: Sequence[Path],
        counts: str | None = None,
        groups: Mapping[str, Any] | None = None,
        thumbnails: Thumbnails | None = None,
        names: Sequence[str] = (),
    ) -> "Comparison":
        """Read all sides. Arguments and errors are those of `read_sides`."""
        sides, options = read_sides(places, counts, groups, names)
        named = max(sides, key=lambda side: side.predictions.class_names[0] != "0").predictions
        return cls(tuple(sides), Classes.grouped(named.class_names, named.class_counts, **options), thumbnails)

    @property
    def reference(self) -> Side:
        """Side with which the others are compared."""
        return self.sides[0]

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Each other side against the reference."""
        return tuple(Pair(self.reference, other, self.classes) for other in self.sides[1:])

    @property
    def title(self) -> str:
        """Labels of all sides."""
        others = listed([other.label for other in self.sides[1:]])
        data = self.reference.result.get("data")
        return f"{others} against {self.reference.label}" + (f" on {Path(str(data)).name}" if data else "")

    @cached_property
    def test_counts(self) -> list[int]:
        """Test images of each class."""
        counts: list[int] = self.reference.predictions.targets.bincount(minlength=len(self.classes)).tolist()
        return counts

    @property
    def warnings(self) -> Iterator[str]:
        """Differences besides the method, and sides whose numbers are not reliable."""
        for what, setting_of in _SETTINGS.items():
            settings = {side.label: setting_of(side) for side in self.sides if side.result and setting_of(side)}
            if len(set(settings.values())) > 1:
                values = ", ".join(f"{value} ({label})" for label, value in settings.items())
                yield f"The runs differ in more than the method: {what} {values}."
        for side in self.sides:
            if not side.result:
                yield f"{side.label} is a file of predictions: its training is unknown."
            elif "test" in _protocol(side.result):
                yield f"The checkpoint of {side.label} was chosen on the test split: its numbers are optimistic."

    @property
    def caveats(self) -> Iterator[str]:
        """Limits of the statistics."""
        yield (
            "Intervals and marks cover the choice of the test images. Each run is one training, and another seed would "
            "give somewhat different results; only several seeds show by how much (longtail bench)."
        )
        largest = max(self.test_counts)
        if largest < _MIN_TESTED:
            yield (
                f"With at most {several(largest, 'test image')} per class, no change of a single class can be "
                "significant; compare the groups."
            )
        yield (
            "A change of a class is “clear” if McNemar's exact test is significant among all classes at once (false "
            "discovery rate at most 5 %), and “likely” if only its own test is (p at most 0.05)."
        )
        images = several(len(self.reference.predictions), "test image")
        yield f"All were evaluated on the same {images} of {several(len(self.classes), 'class', 'classes')}."


def _protocol(result: Mapping[str, Any]) -> str:
    protocol = result.get("protocol")
    about = protocol if isinstance(protocol, Mapping) else {}
    return f"{about.get('checkpoint') or 'unknown'} {about.get('selected_on') or ''}".strip().lower()


def _backbone(result: Mapping[str, Any]) -> str:
    backbone = result.get("backbone")
    if not isinstance(backbone, Mapping):
        return "unknown"
    size = backbone.get("parameters")
    if not isinstance(size, int):
        return str(backbone)
    pretrained = ", pretrained" if backbone.get("pretrained") else ""
    # rounded, because the size includes the head, which belongs to the method
    return f"{backbone.get('name')}{pretrained}, {size / 1e6:.2f} M parameters"


def _length(side: Side) -> str:
    """Return the length of the first training stage, if the configuration states one."""
    if side.run is None:
        return ""
    training = side.run.config.stages[0].training_settings()
    return "" if training is None else training.length


_SETTINGS: Mapping[str, Callable[[Side], str]] = {
    "backbone": lambda side: _backbone(side.result),
    "recipe": lambda side: str(side.result.get("recipe")),
    "training length": _length,
    "scored checkpoint": lambda side: _protocol(side.result),
}


def overview_table(comparison: Comparison) -> Table:
    """List accuracies in percent and differences to the reference in points, for the terminal."""
    keys = {"top1": "all", "balanced": "balanced", "many": "many", "medium": "medium", "few": "few"}
    columns = [Column(""), *(Column(heading, "right") for heading in (*keys.values(), "better", "worse"))]
    scores = comparison.reference.scores
    rows: list[list[Cell | str]] = [
        [comparison.reference.label, *(number(getattr(scores, key)) for key in keys), "", ""]
    ]
    for pair in comparison.pairs:
        counts = [f"{count:,}" for count in pair.counted()]
        rows.append([pair.other.label, *(_difference_cell(pair, key) for key in keys), *counts])
    note = "* more than the choice of the test images explains; better, worse: number of classes"
    return Table(columns, rows, notes=(note,))


def _difference_cell(pair: Pair, key: str) -> Cell:
    found = pair.by_score.get(key)
    if found is None:
        return Cell(DASH)
    return Cell(f"{number(getattr(pair.other.scores, key))} ({points(found.mean)})", star=found.significant)


def changes_table(pair: Pair) -> Table:
    """List the classes with the largest gains and losses, for the terminal."""
    numbers = (Column(name, "right") for name in ("training images", "before", "after", "change"))
    labels = [label for best in (True, False) for label in pair.ranked(best=best)[:_CHANGES]]
    found = "largest gains and losses (* more than chance)" if labels else "no class changed"
    title = f"{pair.other.label} against {pair.reference.label}: {found}"
    return Table(
        [Column("class"), *numbers, Column("predicted as, in images")],
        [_change(pair, label) for label in labels],
        title,
    )


def _change(pair: Pair, label: int) -> list[Cell | str]:
    names = pair.classes.names
    shifts = (f"{names[each.predicted]} {points(each.change, 0)}" for each in pair.shifts_by_class.get(label, ()))
    return [
        names[label],
        f"{int(pair.classes.counts[label]):,}",
        *(number(side.scores.per_class[label]) for side in pair.sides),
        Cell(points(pair.gains[label]), star=pair.certainty[label] == "clear"),
        ", ".join(shifts),
    ]


def write_table(comparison: Comparison, target: Path) -> Path:
    """Write every class of every pair to a CSV file atomically, numbers unrounded.

    Args:
        comparison: Comparison to write.
        target: File to write.

    Raises:
        InputError: If the file cannot be written.
    """
    rows = [row for pair in comparison.pairs for row in _csv_rows(pair, comparison.test_counts)]
    try:
        write_text(target, csv_text(_CSV, rows))
    except OSError as error:
        raise InputError(f"cannot write the table to {target}: {error.strerror or error}; give another file") from error
    return target


_CSV = (
    "reference", "run", "class", "group", "training_images", "test_images", "accuracy_reference", "accuracy",
    "difference", "p", "certainty", "predicted_as_reference", "predicted_as",
)  # fmt: skip


def _csv_rows(pair: Pair, test_counts: list[int]) -> Iterator[list[object]]:
    names = pair.classes.names
    for label in pair.classes.order.tolist():
        gain, main = pair.gains[label], [side.main_confusions.get(label) for side in pair.sides]
        yield [
            pair.reference.label,
            pair.other.label,
            names[label],
            pair.classes.group_names[label],
            int(pair.classes.counts[label]),
            test_counts[label],
            *(side.scores.per_class[label] for side in pair.sides),
            gain,
            None if gain is None else float(pair.p_values[label]),
            pair.certainty[label] if gain else None,
            *(names[found.predicted] if found else None for found in main),
        ]
