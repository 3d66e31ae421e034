"""A comparison in plain words."""

from collections.abc import Iterator

from longtail.evaluation import Difference
from longtail.report.comparison.pair import Pair
from longtail.report.markup import Html, join, tag
from longtail.report.mistakes import group_flow
from longtail.report.wording import DASH, number, percent, several

GROUPS = {"many": "classes with many training images", "medium": "classes in between", "few": "rare classes"}
_WORTH_SAYING = 0.05  # points; less rounds to nothing


def points(value: float | None, digits: int = 1) -> str:
    """A difference with its sign; a dash for None.

    Example:
        >>> points(8.01), points(0.04), points(-2).replace("\N{MINUS SIGN}", "-")
        ('+8.0', '0.0', '-2.0')
    """
    if value is None:
        return DASH
    text = number(abs(value), digits)
    if not float(text.replace(",", "")):
        return text
    return ("+" if value > 0 else "\N{MINUS SIGN}") + text


def interval(found: Difference) -> str:
    """A difference with its interval.

    Example:
        >>> interval(Difference(8.0, 7.1, 8.9, 0.001))
        '+8.0 (+7.1 to +8.9)'
    """
    return f"{points(found.mean)} ({points(found.low)} to {points(found.high)})"


def verdict(pair: Pair) -> Html:
    """What changed, in a paragraph that a reader without the field's vocabulary understands."""
    return tag("p", join([*_overall(pair), *_counts(pair), *_groups(pair), *_flow(pair), *_extremes(pair)], " "))


def _overall(pair: Pair) -> Iterator[Html]:
    found, reference = pair.overall, _name(pair.reference.label)
    images = several(len(pair.other.predictions), "test image")
    start = join([_name(pair.other.label), " is right on ", tag("strong", percent(pair.other.scores.top1))])
    span = f" (95 % interval {points(found.low)} to {points(found.high)})"
    if abs(found.mean) < _WORTH_SAYING:
        yield join([start, f" of {images}, as is ", reference, span, "."])
    else:
        size = tag("strong", f"{abs(found.mean):.1f} points {'more' if found.mean > 0 else 'less'}")
        doubt = "" if found.significant else ", which may be chance"
        yield join([start, f" of {images}, ", size, " than ", reference, doubt, span, "."])


def _counts(pair: Pair) -> Iterator[Html]:
    (better, worse), (clear_better, clear_worse) = pair.counted(), pair.counted(["clear"])
    tested = sum(gain is not None for gain in pair.gains)
    yield join([f"Of {several(tested, 'class', 'classes')}, {better:,} got better and {worse:,} worse;"])
    yield join([f"{clear_better:,} of the gains and {clear_worse:,} of the losses are clearly more than chance."])


def _groups(pair: Pair) -> Iterator[Html]:
    told = []
    for name in pair.classes.filled:
        found = pair.by_score.get(name)
        if found is None:
            continue
        if abs(found.mean) < _WORTH_SAYING:
            told.append(join([f"{GROUPS[name]} stayed as they were"]))
        else:
            gained = "gained" if found.mean > 0 else "lost"
            doubt = "" if found.significant else " (perhaps by chance)"
            told.append(join([f"{GROUPS[name]} {gained} ", tag("strong", f"{abs(found.mean):.1f}"), f" points{doubt}"]))
    if len(told) > 1:
        text = join(told, ", ")
        yield join([Html(text[:1].upper() + text[1:]), "."])


def _flow(pair: Pair) -> Iterator[Html]:
    """Where the images of the rarest tested group go wrong, before and after."""
    full, rare = pair.classes.filled[0], [name for name in pair.classes.filled if name in pair.by_score][-1]
    if full == rare:
        return
    shares = []
    for side in (pair.reference.predictions, pair.other.predictions):
        flow = group_flow(side.predicted, side.targets, pair.classes.masks)
        shares.append(flow[rare][full])
    yield join([f"Of the images of {GROUPS[rare]}, {percent(shares[0], 0)} were taken for {GROUPS[full]}, now"])
    yield join([f"{percent(shares[1], 0)}."])


def _extremes(pair: Pair) -> Iterator[Html]:
    told = []
    for best, word in ((True, "gain"), (False, "loss")):
        ranked = pair.ranked(best=best)
        if ranked:
            label = ranked[0]
            sides = (pair.reference.scores.per_class[label], pair.other.scores.per_class[label])
            told.append(join([f"the largest {word} is ", _name(pair.classes.names[label]), f" ({_from_to(*sides)})"]))
    if told:
        text = join(told, ", ")
        yield join([Html(text[:1].upper() + text[1:]), "."])


def _from_to(before: float | None, after: float | None) -> str:
    return f"{number(before, 0)} to {percent(after, 0)}"


def _name(text: str) -> Html:
    return tag("bdi", text, class_="name")
