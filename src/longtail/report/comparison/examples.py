"""The classes that changed most, with images that only one of the two recognises."""

from longtail.report.comparison.pair import Pair
from longtail.report.comparison.together import Comparison
from longtail.report.comparison.wording import points
from longtail.report.examples import picture
from longtail.report.markup import Html, join, tag
from longtail.report.wording import number, percent, several

CLASSES_SHOWN = 4
IMAGES_SHOWN = 4


def extremes(comparison: Comparison, pair: Pair, *, best: bool) -> Html | None:
    """The largest gains, or the largest losses; None where there is none."""
    labels = pair.ranked(best=best)[:CLASSES_SHOWN]
    if not labels:
        return None
    heading = tag("h3", "Largest gains" if best else "Largest losses")
    articles = [_article(comparison, pair, label, best) for label in labels]
    return tag("div", heading, _note(comparison, pair, best), tag("div", *articles, class_="pair"), class_="extremes")


def _note(comparison: Comparison, pair: Pair, best: bool) -> Html | None:
    if comparison.thumbnails is None:
        return None
    right, wrong = (pair.other, pair.reference) if best else (pair.reference, pair.other)
    names = [tag("bdi", side.label) for side in (right, wrong)]
    return tag("p", "Images that ", names[0], " recognises; below each stands what ", names[1], " takes it for.")


def _article(comparison: Comparison, pair: Pair, label: int, best: bool) -> Html:
    classes = pair.classes
    sides = (pair.reference.scores.per_class[label], pair.other.scores.per_class[label])
    facts = (
        f"{several(int(classes.counts[label]), 'training image')}; {number(sides[0])} to {percent(sides[1])} right "
        f"({points(pair.gains[label])})"
    )
    heading = tag("h4", tag("bdi", classes.names[label]), class_=classes.group_names[label])
    return tag("article", heading, tag("p", facts, _shifts(pair, label), "."), _gallery(comparison, pair, label, best))


def _shifts(pair: Pair, label: int) -> Html | None:
    """What it is taken for less often, and more often."""
    told = [
        join(
            [
                tag("bdi", pair.classes.names[shift.taken_for]),
                f" {'more' if shift.change > 0 else 'less'} often ({points(shift.change, 0)})",
            ]
        )
        for shift in pair.shifts_by_class.get(label, ())
    ]
    return join(["; taken for ", join(told, ", for ")]) if told else None


def _gallery(comparison: Comparison, pair: Pair, label: int, best: bool) -> Html | None:
    indices = pair.examples(label, best=best)[:IMAGES_SHOWN]
    if comparison.thumbnails is None or not indices:
        return None
    wrong = pair.reference if best else pair.other
    return tag("div", *(_example(comparison, index, int(wrong.predictions.predicted[index])) for index in indices),
               class_="gallery")  # fmt: skip


def _example(comparison: Comparison, index: int, taken_for: int) -> Html:
    assert comparison.thumbnails is not None
    names, predictions = comparison.classes.names, comparison.reference.predictions
    alt = f"Test image {index}: {names[int(predictions.targets[index])]}, taken for {names[taken_for]}"
    image = picture(comparison.thumbnails(index), alt, predictions.paths[index] if predictions.paths else None)
    return tag("figure", image, tag("figcaption", tag("bdi", names[taken_for])))
