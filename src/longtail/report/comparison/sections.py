"""The parts of the page: all contenders side by side, and each against the reference."""

from collections.abc import Sequence

from longtail.evaluation import Difference
from longtail.report.comparison.contenders import Contender
from longtail.report.comparison.examples import extremes
from longtail.report.comparison.pair import Pair, Shift
from longtail.report.comparison.table import class_table
from longtail.report.comparison.together import Comparison
from longtail.report.comparison.wording import points, verdict
from longtail.report.markup import Html, join, tag
from longtail.report.mistakes import group_flow
from longtail.report.sections import figure, section
from longtail.report.wording import number, percent, several

SHIFTS_SHOWN = 8
_SCORES = {"top1": "all images", "balanced": "mean of classes"}


def overview_section(comparison: Comparison) -> Html:
    """Every contender in a row, and its accuracy along the classes."""
    from longtail.report.comparison import plots  # matplotlib takes most of a second to import

    told = "; ".join(f"{each.label} {percent(each.scores.top1)}" for each in comparison.contenders)
    caption = "Accuracy along the classes, those with the most training images first."
    if len(comparison.classes) > plots.NAMED_CLASSES:
        caption += " Each point is the mean of neighbouring classes of one group."
    plot = figure(plots.accuracy_figure(comparison), f"Accuracy along the classes. Overall: {told}.", caption)
    return section("overview", "Side by side", _overview_table(comparison), plot)


def _overview_table(comparison: Comparison) -> Html:
    columns = {**_SCORES, **{name: f"{name}-shot" for name in comparison.classes.filled}}
    head = tag(
        "tr",
        tag("th", "", scope="col"),
        *(tag("th", text, scope="col", class_="number") for text in columns.values()),
        tag("th", "better", scope="col", class_="number", title="classes"),
        tag("th", "worse", scope="col", class_="number", title="classes"),
    )
    rows = [_overview_row(each, columns, None) for each in comparison.contenders[:1]]
    rows += [_overview_row(pair.other, columns, pair) for pair in comparison.pairs]
    limits = "; ".join(f"{name}-shot: {limit}" for name, limit in comparison.classes.limits.items())
    caption = (
        f"Accuracy in percent, and the difference to {comparison.reference.label} in points with its 95 % interval; "
        f"differences that may be chance are grey. Better and worse count classes. {limits[:1].upper()}{limits[1:]}."
    )
    return _table(caption, head, rows, "overview")


def _overview_row(each: Contender, columns: Sequence[str] | dict[str, str], pair: Pair | None) -> Html:
    cells = []
    for name in columns:
        value = tag("span", number(getattr(each.scores, name)), class_="value")
        found = pair.by_score.get(name) if pair else None
        cells.append(tag("td", value, _difference(found) if found else None, class_="number"))
    counts = [f"{count:,}" for count in pair.counted()] if pair else ["", ""]
    head = tag("th", tag("bdi", each.label), scope="row")
    return tag("tr", head, *cells, *(tag("td", count, class_="number") for count in counts))


def _difference(found: Difference) -> Html:
    span = f"{points(found.low)} to {points(found.high)}"
    kind = None if found.significant else "chance"
    return tag("span", points(found.mean), tag("small", span), class_=f"change {kind or _sign(found.mean)}")


def _sign(value: float | None) -> str:
    return "gain" if (value or 0) > 0 else "loss" if (value or 0) < 0 else "same"


def pair_section(comparison: Comparison, index: int, rows: int) -> Html:
    """One contender against the reference, from the answer to the details.

    Args:
        comparison: of them all.
        index: which pair.
        rows: of its table of classes, at most.
    """
    pair, key = comparison.pairs[index], f"pair-{index + 1}"
    parts = [
        tag("div", verdict(pair), class_="verdict"),
        tag("div", _change_plot(pair, key), _flow_table(pair), class_="pair"),
        tag("div", _shift_table(pair, more=True), _shift_table(pair, more=False), class_="pair"),
        extremes(comparison, pair, best=True),
        extremes(comparison, pair, best=False),
        class_table(pair, comparison.test_counts, f"{key}-classes", rows),
    ]
    title = join([tag("bdi", pair.other.label), " against ", tag("bdi", pair.reference.label)])
    heading = tag("h2", title, id=f"{key}-title")
    return tag("section", heading, tag("div", *parts, class_="body"), id=key, aria_labelledby=f"{key}-title")


def _change_plot(pair: Pair, key: str) -> Html:
    from longtail.report.comparison import plots

    better, worse = pair.counted()
    caption = (
        f"An arrow for each class, from its accuracy under {pair.reference.label} to that under {pair.other.label}, "
        "the class with the most training images first."
    )
    if len(pair.classes) > plots.MAX_ARROWS:
        caption += " Each arrow is the mean of neighbouring classes of one group."
    return figure(plots.change_figure(pair, key), f"{better:,} classes got better, {worse:,} worse.", caption)


def _flow_table(pair: Pair) -> Html:
    """Where the images of each group end up, under both."""
    names = pair.classes.filled
    sides = [
        group_flow(side.predictions.predicted, side.predictions.targets, pair.classes.masks)
        for side in (pair.reference, pair.other)
    ]
    head = tag(
        "tr",
        tag("th", "images of", scope="col"),
        tag("th", "under", scope="col"),
        tag("th", "right", scope="col", class_="number"),
        *(tag("th", f"taken for {name}", scope="col", class_="number") for name in names),
    )
    rows = []
    for name in sides[0]:
        for which, (side, flow) in enumerate(zip((pair.reference, pair.other), sides, strict=True)):
            first = tag("th", f"{name}-shot", scope="rowgroup", rowspan=2, class_=name) if which == 0 else None
            shares = [(flow[name]["right"], "right"), *((flow[name][other], "wrong") for other in names)]
            cells = [tag("td", number(s), class_=f"number {k}", style=f"--share:{s / 100:.3f}") for s, k in shares]
            rows.append(tag("tr", first, tag("td", tag("bdi", side.label)), *cells))
    caption = "Where the test images of each group end up (%). “Taken for” counts mistakes only; rows sum to 100."
    return _table(caption, head, rows, "flows")


def _shift_table(pair: Pair, *, more: bool) -> Html | None:
    """The mistakes that became more frequent, or less."""
    shown = [shift for shift in pair.shifts if (shift.change > 0) == more][:SHIFTS_SHOWN]
    if not shown:
        return None
    head = tag(
        "tr",
        tag("th", "true class", scope="col"),
        tag("th", "taken for", scope="col"),
        tag("th", tag("bdi", pair.reference.label), scope="col", class_="number"),
        tag("th", tag("bdi", pair.other.label), scope="col", class_="number"),
        tag("th", "change", scope="col", class_="number"),
    )
    caption = f"Mistakes that {'appeared' if more else 'went away'}: the pairs of classes that changed most, in images."
    return _table(caption, head, [_shift_row(pair, shift) for shift in shown], "shifts")


def _shift_row(pair: Pair, shift: Shift) -> Html:
    names, groups = pair.classes.names, pair.classes.group_names
    classes = [
        tag("th", tag("bdi", names[shift.true]), scope="row", class_=groups[shift.true]),
        tag("td", tag("bdi", names[shift.taken_for]), class_=groups[shift.taken_for]),
    ]
    numbers = (f"{shift.before:,}", f"{shift.after:,}", points(shift.change, 0))
    return tag("tr", *classes, *(tag("td", value, class_="number") for value in numbers))


def _table(caption: str, head: Html, rows: list[Html], kind: str) -> Html:
    body = join([tag("thead", head), tag("tbody", *rows)])
    return tag("div", tag("table", tag("caption", caption), body, class_=kind), class_="scroll")


def about_section(comparison: Comparison) -> Html:
    """What the numbers can not say, and where each contender lies."""
    notes = [*comparison.caveats]
    notes.append(
        "A change of a class is “clear” where McNemar's exact test holds up among all classes at once (at most 5 % "
        "false alarms among those called so), “likely” where only its own test says so (p at most 0.05)."
    )
    facts = [
        join([tag("dt", tag("bdi", each.label)), tag("dd", str(each.place), *_command(each))])
        for each in comparison.contenders
    ]
    images = several(len(comparison.reference.predictions), "test image")
    notes.append(f"All were tested on the same {images} of {several(len(comparison.classes), 'class', 'classes')}.")
    items = tag("ul", *(tag("li", note) for note in notes), class_="notes")
    return section("about", "About this comparison", items, tag("dl", *facts, class_="facts"))


def _command(each: Contender) -> list[Html]:
    command = each.result.get("command")
    return [tag("br"), tag("code", command)] if command else []
