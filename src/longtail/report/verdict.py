"""Summary of a report in plain sentences."""

from collections.abc import Iterator

from markupsafe import Markup, escape

from longtail.report.confusions import Confusion, weakest_classes
from longtail.report.data import ReportData
from longtail.report.wording import GROUP_WORDS, percent, several

_SMALL_TEST = 100  # below, chance alone changes an accuracy by several points
_TINY_TEST = 30  # below, the weight of one image is more informative
_ALIKE = 5.0  # largest difference of two groups, in points, that is not called below or above
_CALIBRATED = 5.0  # largest difference of confidence and accuracy, in points, that counts as calibrated


def verdict(data: ReportData) -> Markup:
    """Summarize a report for readers who do not know the vocabulary of the field.

    Args:
        data: Content of the report.
    """
    return Markup(" ").join([_overall(data), *_groups(data), *_errors(data), *_confidence(data), _weakest(data)])


def named(name: str) -> Markup:
    """Mark a class or run name up within a sentence."""
    return Markup('<bdi class="name">{}</bdi>').format(name)


def strong(text: str) -> Markup:
    """Emphasize text within a sentence."""
    return Markup("<strong>{}</strong>").format(text)


def _overall(data: ReportData) -> Markup:
    scores, images = data.scores, several(len(data.predictions), "test image")
    start = Markup("The accuracy is {} on {}").format(strong(percent(scores.top1)), images)
    if abs(scores.top1 - scores.balanced) < 0.05:
        return start + "."
    return start + f", and {percent(scores.balanced)} with equal weight for every class."


def _tested(data: ReportData) -> list[str]:
    """Return the groups with test images."""
    return [name for name in data.classes.masks if getattr(data.scores, name) is not None]


def _groups(data: ReportData) -> Iterator[Markup]:
    """Compare the rarest with the most frequent group that was tested."""
    tested, limits = _tested(data), data.classes.limits
    full, rare = tested[0], tested[-1]
    if full == rare:
        yield escape(f"All tested classes are {GROUP_WORDS[full]} ({limits[full]}).")
    else:
        accuracy, other = getattr(data.scores, rare), getattr(data.scores, full)
        rival = f"{GROUP_WORDS[full]} ({limits[full]}), which reach {percent(other)}."
        gap = f"{abs(other - accuracy):.0f} points {'below' if other > accuracy else 'above'}"
        comparison = gap if abs(other - accuracy) > _ALIKE else f"within {_ALIKE:.0f} points of"
        start = f"{GROUP_WORDS[rare].capitalize()} ({limits[rare]}) reach "
        yield Markup("{}{}, {} {}").format(start, strong(percent(accuracy)), comparison, rival)
    yield from _chance(data, rare)


def _chance(data: ReportData, group: str) -> Iterator[Markup]:
    """Warn if the accuracy of a group depends on few test images."""
    images = data.test_images(group)
    if images >= _SMALL_TEST:
        return
    start = f"This depends on only {several(images, 'test image')}"
    if images >= _TINY_TEST:
        yield escape(f"{start}, so several points may be chance.")
        return
    pairs = zip(data.test_counts, data.classes.group_names, strict=True)
    tested = [count for count, name in pairs if name == group and count]
    # classes have equal weight, so an image of the class with the fewest test images counts most
    points = 100 / (len(tested) * min(tested))
    yield escape(f"{start}: one image is worth {'' if min(tested) == max(tested) else 'up to '}{points:.0f} points.")


def _errors(data: ReportData) -> Iterator[Markup]:
    rare, names = _tested(data)[-1], data.classes.group_names
    wrong = {name: share for name, share in data.flow[rare].items() if name != "right"}
    if sum(wrong.values()) == 0:
        return
    group = max(wrong, key=lambda name: wrong[name])
    share = percent(100 * wrong[group] / sum(wrong.values()), 0)
    others = f"other {GROUP_WORDS[group]}" if group == rare else GROUP_WORDS[group]
    pair = next(pair for pair in data.confusions if names[pair.true] == rare)
    there = f" on {GROUP_WORDS[rare]}" if len(_tested(data)) > 1 else ""
    text = "Of the errors there, {} are predictions of {}; the most frequent error{} is {}."
    yield Markup(text).format(share, others, there, _described(data, pair))


def _described(data: ReportData, pair: Confusion) -> Markup:
    true, predicted = (named(data.classes.names[label]) for label in (pair.true, pair.predicted))
    tested = data.test_counts[pair.true]
    return Markup("{} predicted as {} ({:,} of {:,})").format(true, predicted, pair.images, tested)


def _confidence(data: ReportData) -> Iterator[Markup]:
    """Compare confidence and accuracy on the rarest group that was tested."""
    found = data.reliability.get(_tested(data)[-1])
    if found is None or found.ece is None:
        return
    total = found.count.sum()
    confidence = float((found.confidence.nan_to_num() * found.count).sum() / total)
    accuracy = float((found.accuracy.nan_to_num() * found.count).sum() / total)
    if accuracy == 0:
        yield escape(f"No prediction there is correct; the mean confidence is {_rounded(confidence)}.")
        return
    numbers = f"mean confidence {_rounded(confidence)}, share of correct predictions {_rounded(accuracy)}"
    kind = "over-confident" if confidence > accuracy else "under-confident"
    if abs(confidence - accuracy) <= _CALIBRATED:
        kind = f"calibrated to within {_CALIBRATED:.0f} points"
    yield escape(f"The model is {kind} there: {numbers}.")


def _rounded(value: float) -> str:
    """Format a percentage without decimals, unless it would read as an exact 0 or 100."""
    return percent(value, 0 if value in (0, 100) or 0.5 < value < 99.5 else 1)


def _weakest(data: ReportData) -> Markup:
    per_class, counts = data.scores.per_class, data.classes.counts
    never = sum(value == 0 for value in per_class)
    tested = sum(value is not None for value in per_class)
    if never > 1:
        return escape(f"{never:,} of {several(tested, 'class', 'classes')} are never recognized.")
    weakest = weakest_classes(per_class, counts, 1)
    if not weakest:
        return escape("No class has an error.")
    name, training = named(data.classes.names[weakest[0]]), several(int(counts[weakest[0]]), "training image")
    text = Markup("The weakest class is {} ({}): accuracy {}.")
    return text.format(name, training, _rounded(per_class[weakest[0]] or 0.0))
