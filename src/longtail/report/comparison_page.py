"""Page of a comparison."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from longtail.evaluation import Difference
from longtail.report.comparison import Comparison
from longtail.report.confusions import group_flow
from longtail.report.html import render_page, write_page
from longtail.report.images import Example, example
from longtail.report.pair import Pair, Shift
from longtail.report.run import FLOW_TITLE, OPEN_ROWS, share_cell
from longtail.report.sides import Side
from longtail.report.tables import Cell, Column, Row, Table
from longtail.report.verdict import named, strong
from longtail.report.wording import DASH, GROUP_WORDS, interval, number, percent, points, several

MAX_ROWS = 10_000
"""Most rows of all class tables together, so that a browser stays responsive."""

_SHIFTS = 8  # rows of a table of shifts
_CHANGED = 4  # classes with examples
_EXAMPLES = 4  # images of each
_ROUNDS_TO_ZERO = 0.05  # points


def write_comparison(comparison: Comparison, target: Path) -> Path:
    """Write the page of a comparison atomically.

    Args:
        comparison: Comparison to show.
        target: File to write.

    Returns:
        Path of the page.

    Raises:
        InputError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from longtail.evaluation import Predictions, save_predictions
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = [Path(folder) / name for name in ("ce.npz", "balms.npz")]
        ...     for file, labels in zip(files, ([0, 0], [0, 1]), strict=True):
        ...         save_predictions(file, Predictions([0, 1], [500, 5], predicted=labels))
        ...     write_comparison(Comparison.of(files), Path(folder) / "comparison.html").name
        'comparison.html'
    """
    return write_page(target, page(comparison))


def page(comparison: Comparison) -> str:
    """Return the HTML of a comparison."""
    from longtail.report import charts  # matplotlib takes most of a second to import
    from longtail.report.style import themed

    limit = MAX_ROWS // len(comparison.pairs)
    return render_page(
        "comparison.html.j2",
        comparison=comparison,
        charts=charts,
        themed=themed,
        overview=overview_table(comparison),
        pairs=[_Section(comparison, pair, f"pair-{index}", limit) for index, pair in enumerate(comparison.pairs, 1)],
        open_rows=OPEN_ROWS,
    )


@dataclass(frozen=True, eq=False)
class _Section:
    """The part of the page about one pair."""

    comparison: Comparison
    pair: Pair
    key: str
    limit: int

    @property
    def title(self) -> Markup:
        labels = (self.pair.other.label, self.pair.reference.label)
        return Markup("<bdi>{}</bdi> against <bdi>{}</bdi>").format(*labels)

    @property
    def verdict(self) -> Markup:
        return verdict(self.pair)

    @property
    def flow(self) -> Table:
        return flow_table(self.pair)

    @property
    def shifts(self) -> list[Table]:
        """Tables of the confusions that became more and less frequent."""
        found = [shift_table(self.pair, more=more) for more in (True, False)]
        return [table for table in found if table.rows]

    @property
    def classes(self) -> Table:
        return class_table(self.pair, self.comparison.test_counts, self.limit)

    def changed(self, best: bool) -> "list[_ChangedClass]":
        """Classes with the largest gains or losses."""
        labels = self.pair.ranked(best=best)[:_CHANGED]
        return [_changed_class(self.comparison, self.pair, label, best) for label in labels]


@dataclass(frozen=True)
class _ChangedClass:
    """A class that got better or worse, with images that only one side classifies correctly."""

    name: str
    group: str
    facts: str
    shifts: list[tuple[str, str]]
    examples: list[Example]


def _changed_class(comparison: Comparison, pair: Pair, label: int, best: bool) -> _ChangedClass:
    classes = pair.classes
    before, after = (side.scores.per_class[label] for side in pair.sides)
    training = several(int(classes.counts[label]), "training image")
    shifts = [
        (classes.names[shift.predicted], f"{'more' if shift.change > 0 else 'less'} often ({points(shift.change, 0)})")
        for shift in pair.shifts_by_class.get(label, ())
    ]
    return _ChangedClass(
        name=classes.names[label],
        group=classes.group_names[label],
        facts=f"{training}; accuracy {number(before)} to {percent(after)} ({points(pair.gains[label])})",
        shifts=shifts,
        examples=_examples(comparison, pair, label, best),
    )


def _examples(comparison: Comparison, pair: Pair, label: int, best: bool) -> list[Example]:
    if comparison.thumbnails is None:
        return []
    predictions = (pair.reference if best else pair.other).predictions  # of the side that is wrong
    shared = comparison.reference.predictions
    return [
        example(comparison.thumbnails, shared, index, int(predictions.predicted[index]), pair.classes.names)
        for index in pair.examples(label, best=best)[:_EXAMPLES]
    ]


def overview_table(comparison: Comparison) -> Table:
    """List the accuracies of all sides, with differences to the reference and their intervals."""
    keys = {"top1": "all images", "balanced": "mean of classes"}
    keys |= {name: f"{name}-shot" for name in comparison.classes.filled}
    columns = [Column("run", names=True), *(Column(heading, "right") for heading in keys.values())]
    columns += [Column("better", "right", "number of classes"), Column("worse", "right", "number of classes")]
    rows = [_overview_row(comparison.reference, keys, None)]
    rows += [_overview_row(pair.other, keys, pair) for pair in comparison.pairs]
    described = comparison.classes.described
    return Table(
        columns,
        rows,
        f"Accuracy in percent, and the difference to {comparison.reference.label} in points with its 95 % interval. "
        f"Gray differences may be chance. Better and worse count classes. {described[:1].upper()}{described[1:]}.",
    )


def _overview_row(side: Side, keys: dict[str, str], pair: Pair | None) -> list[Cell | str]:
    cells: list[Cell | str] = [side.label]
    for key in keys:
        text = number(getattr(side.scores, key))
        found = pair.by_score.get(key) if pair else None
        html = Markup('<span class="value">{}</span>{}').format(text, _difference(found) if found else "")
        cells.append(Cell(text, html=html))
    return [*cells, *([f"{count:,}" for count in pair.counted()] if pair else ["", ""])]


def _difference(found: Difference) -> Markup:
    kind = _direction(found.mean) or "same" if found.significant else "chance"
    text = Markup('<span class="change {}">{}<small>{}</small></span>')
    return text.format(kind, points(found.mean), interval(found))


def _direction(value: float | None) -> str:
    return "gain" if (value or 0) > 0 else "loss" if (value or 0) < 0 else ""


def flow_table(pair: Pair) -> Table:
    """List the predicted groups of the test images of each group, for both sides."""
    names = pair.classes.filled
    columns = [Column("images of"), Column("run", names=True), Column("right", "right")]
    columns += [Column(f"predicted as {name}", "right") for name in names]
    masks = pair.classes.masks
    flows = [group_flow(side.predictions.predicted, side.predictions.targets, masks) for side in pair.sides]
    rows: list[list[Cell | str]] = []
    for name in flows[0]:
        for side, flow in zip(pair.sides, flows, strict=True):
            wrong = (share_cell(flow[name][other], "wrong") for other in names)
            rows.append([Cell(f"{name}-shot", kind=name), side.label, share_cell(flow[name]["right"], "right"), *wrong])
    return Table(columns, rows, FLOW_TITLE)


def shift_table(pair: Pair, *, more: bool) -> Table:
    """List the confusions whose number changed most.

    Args:
        pair: Pair to describe.
        more: True for confusions that became more frequent, False for less frequent ones.
    """
    shown = [shift for shift in pair.shifts if (shift.change > 0) == more][:_SHIFTS]
    columns = [Column("true class", names=True), Column("predicted as", names=True)]
    columns += [Column(heading, "right") for heading in (pair.reference.label, pair.other.label, "change")]
    title = f"Errors that became {'more' if more else 'less'} frequent: the largest changes, in images."
    return Table(columns, [_shift_row(pair, shift) for shift in shown], title)


def _shift_row(pair: Pair, shift: Shift) -> list[Cell | str]:
    names, groups = pair.classes.names, pair.classes.group_names
    classes = [Cell(names[label], kind=groups[label]) for label in (shift.true, shift.predicted)]
    return [*classes, f"{shift.before:,}", f"{shift.after:,}", points(shift.change, 0)]


def class_table(pair: Pair, test_counts: list[int], limit: int) -> Table:
    """List every class with both accuracies, their difference, and its confusions.

    Args:
        pair: Pair to describe.
        test_counts: Test images of each class.
        limit: Maximum number of rows. The classes that changed most are kept.
    """
    labels = pair.classes.order.tolist()
    title = "Every class, from the most to the least frequent."
    if len(labels) > limit:
        by_change = sorted(range(len(labels)), key=lambda label: -abs(pair.gains[label] or 0.0))
        kept = set(by_change[:limit])
        labels = [label for label in labels if label in kept]
        title = f"The {limit:,} of {len(pair.classes):,} classes that changed most. The CSV table holds all of them."
    one, two = (side.label for side in pair.sides)
    columns = [
        Column("class", names=True),
        Column("training images", "right"),
        Column("test images", "right"),
        Column(f"{one} (%)", "right", "accuracy"),
        Column(f"{two} (%)", "right", "accuracy"),
        Column("difference", "right", "points"),
        Column("p", "right", "p-value of McNemar's exact test"),
        Column("more than chance?", meaning="clear: among all classes at once; likely: by its own test"),
        Column(f"{one} predicts", meaning="the most frequent error, and its images"),
        Column(f"{two} predicts", meaning="the most frequent error, and its images"),
        Column("less and more often", meaning="the errors that changed most, in images"),
    ]
    return Table(columns, [_class_row(pair, test_counts, label) for label in labels], title)


def _class_row(pair: Pair, test_counts: list[int], label: int) -> Row:
    classes, gain, certainty = pair.classes, pair.gains[label], pair.certainty[label]
    change = _direction(gain)
    shifts = [(shift.predicted, points(shift.change, 0)) for shift in pair.shifts_by_class.get(label, ())]
    main = [side.main_confusions.get(label) for side in pair.sides]
    cells = [
        Cell(classes.names[label], kind=classes.group_names[label]),
        f"{int(classes.counts[label]):,}",
        f"{test_counts[label]:,}",
        *(number(side.scores.per_class[label]) for side in pair.sides),
        Cell(points(gain), kind=change, share=abs(gain) / 100 if gain else None),
        DASH if gain is None else _format_p(float(pair.p_values[label])),
        certainty if gain else DASH,
        *(_errors(pair, [(found.predicted, f"{found.images:,}")] if found else []) for found in main),
        _errors(pair, shifts),
    ]
    return Row(cells, " ".join(filter(None, (change, certainty if gain else ""))))


def _format_p(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 else "<0.0001"


def _errors(pair: Pair, errors: list[tuple[int, str]]) -> Cell | str:
    """Return a cell with predicted classes and numbers of images."""
    if not errors:
        return DASH
    shown = [(pair.classes.names[label], text) for label, text in errors]
    html = Markup(", ").join(Markup("<bdi>{}</bdi> {}").format(*each) for each in shown)
    return Cell(", ".join(f"{name} {text}" for name, text in shown), html=html)


def verdict(pair: Pair) -> Markup:
    """Summarize what changed, for readers who do not know the vocabulary of the field.

    Args:
        pair: Pair to describe.
    """
    return Markup(" ").join([_overall(pair), _counts(pair), *_groups(pair), *_flow(pair), *_extremes(pair)])


def _overall(pair: Pair) -> Markup:
    found, images = pair.overall, several(len(pair.other.predictions), "test image")
    other, reference = named(pair.other.label), named(pair.reference.label)
    start = Markup("The accuracy of {} is {} on {}").format(other, strong(percent(pair.other.scores.top1)), images)
    span = f"(95 % interval {interval(found)})"
    if abs(found.mean) < _ROUNDS_TO_ZERO:
        return Markup("{}, the same as that of {} {}.").format(start, reference, span)
    size = strong(f"{abs(found.mean):.1f} points {'higher' if found.mean > 0 else 'lower'}")
    doubt = "" if found.significant else ", which may be chance"
    return Markup("{}, {} than that of {}{} {}.").format(start, size, reference, doubt, span)


def _counts(pair: Pair) -> Markup:
    (better, worse), (clear_better, clear_worse) = pair.counted(), pair.counted(["clear"])
    tested = several(sum(gain is not None for gain in pair.gains), "class", "classes")
    return escape(
        f"Of {tested}, {better:,} got better and {worse:,} worse; {clear_better:,} of the gains and {clear_worse:,} of "
        "the losses are clearly more than chance."
    )


def _groups(pair: Pair) -> Iterator[Markup]:
    parts = []
    for name in pair.classes.filled:
        found = pair.by_score.get(name)
        if found is None:
            continue
        if abs(found.mean) < _ROUNDS_TO_ZERO:
            parts.append(escape(f"{GROUP_WORDS[name]} did not change"))
            continue
        doubt = "" if found.significant else " (perhaps by chance)"
        size = strong(f"{abs(found.mean):.1f}")
        verb = "gained" if found.mean > 0 else "lost"
        parts.append(Markup("{} {} {} points{}").format(GROUP_WORDS[name], verb, size, doubt))
    if len(parts) > 1:
        yield _sentence(parts)


def _flow(pair: Pair) -> Iterator[Markup]:
    """Describe the errors of the rarest group that was tested, before and after."""
    full, rare = pair.classes.filled[0], [name for name in pair.classes.filled if name in pair.by_score][-1]
    if full == rare:
        return
    masks = pair.classes.masks
    before, after = (
        group_flow(side.predictions.predicted, side.predictions.targets, masks)[rare][full] for side in pair.sides
    )
    yield escape(
        f"Of the images of {GROUP_WORDS[rare]}, {percent(before, 0)} were predicted as {GROUP_WORDS[full]}, now "
        f"{percent(after, 0)}."
    )


def _extremes(pair: Pair) -> Iterator[Markup]:
    parts = []
    for best, word in ((True, "gain"), (False, "loss")):
        for label in pair.ranked(best=best)[:1]:
            before, after = (side.scores.per_class[label] for side in pair.sides)
            span = f"{number(before, 0)} to {percent(after, 0)}"
            parts.append(Markup("the largest {} is {} ({})").format(word, named(pair.classes.names[label]), span))
    if parts:
        yield _sentence(parts)


def _sentence(parts: list[Markup]) -> Markup:
    text = Markup(", ").join(parts)
    return text[:1].upper() + text[1:] + "."
