"""The numbers of a report in plain words: what works, where it fails, what rare classes are mistaken for."""

from longtail.report.content import Content
from longtail.report.markup import Html, join, tag
from longtail.report.mistakes import Mixup, weakest_classes
from longtail.report.wording import percent, several

_CLASSES = {"many": "classes with many", "medium": "classes in between", "few": "rare classes"}
SMALL_TEST = 100  # on fewer images, chance alone moves an accuracy by several percent
TINY_TEST = 30  # on fewer, what one image is worth says it better
CALIBRATED = 5.0  # percent by which confidence and accuracy may differ and still be called about right


def verdict(content: Content) -> Html:
    """One paragraph that a reader without the field's vocabulary understands.

    Args:
        content: of the report.
    """
    sentences = [_overall(content), *_groups(content), _confusion(content), _confidence(content), _weakest(content)]
    return tag("p", join([sentence for sentence in sentences if sentence], " "), class_="verdict")


def _overall(content: Content) -> Html:
    scores = content.scores
    images = several(len(content.predictions), "test image")
    start = join(["The model is right on ", tag("strong", percent(scores.top1)), f" of {images}"])
    if abs(scores.top1 - scores.balanced) < 0.05:
        return join([start, "."])
    return join([start, f", and on {percent(scores.balanced)} when every class counts the same."])


def _measured(content: Content) -> list[str]:
    return [name for name in content.classes.masks if getattr(content.scores, name) is not None]


def _groups(content: Content) -> list[Html]:
    """The rarest group that was measured against the fullest."""
    names = _measured(content)
    if len(names) < 2:
        only = f"All classes of the test are {_CLASSES[names[0]]} ({content.classes.limits[names[0]]})."
        return [join([only]), *_chance(content, names[0])]
    full, rare = names[0], names[-1]
    right, behind = getattr(content.scores, rare), getattr(content.scores, full) - getattr(content.scores, rare)
    subject = f"{_CLASSES[rare].capitalize()} ({content.classes.limits[rare]}): "
    rival = f"{_CLASSES[full]} ({content.classes.limits[full]}), which reach {percent(getattr(content.scores, full))}"
    if behind > 5:
        comparison = f", {behind:.0f} points behind {rival}."
    elif behind >= -5:
        comparison = f", on a par with {rival}."
    else:
        comparison = f", {-behind:.0f} points ahead of {rival}."
    return [join([subject, tag("strong", percent(right), " right"), comparison]), *_chance(content, rare)]


def _chance(content: Content, group: str) -> list[Html]:
    """How little the accuracy of a group with few test images says."""
    images = content.test_images(group)
    if images >= SMALL_TEST:
        return []
    start = f"This rests on only {several(images, 'test image')}"
    if images >= TINY_TEST:
        return [join([f"{start}, so expect several points of chance."])]
    pairs = zip(content.test_counts, content.classes.group_names, strict=True)
    tested = [count for count, name in pairs if name == group and count]
    # every class counts the same, so that an image of the class with the fewest weighs most
    points = 100 / (len(tested) * min(tested))
    return [join([f"{start}: one image is {'' if min(tested) == max(tested) else 'up to '}{points:.0f} points here."])]


def _confusion(content: Content) -> Html | None:
    rare = _measured(content)[-1]
    wrong = {name: share for name, share in content.flow[rare].items() if name != "right"}
    if sum(wrong.values()) == 0:
        return None
    taken_for = max(wrong, key=lambda name: wrong[name])
    share = 100 * wrong[taken_for] / sum(wrong.values())
    others = f"other {_CLASSES[taken_for]}" if taken_for == rare else _CLASSES[taken_for]
    pair = next(pair for pair in content.mixups if content.classes.group_names[pair.true] == rare)
    start = f"What is missed there goes to {others} in {percent(share, 0)} of the cases"
    of_group = f" on {_CLASSES[rare]}" if len(_measured(content)) > 1 else ""
    return join([start, f"; the most frequent mistake{of_group} is ", _described(content, pair), "."])


def _described(content: Content, pair: Mixup) -> Html:
    true, taken_for = (tag("bdi", content.classes.names[label], class_="name") for label in (pair.true, pair.taken_for))
    return join([true, " taken for ", taken_for, f" ({pair.images:,} of {content.test_counts[pair.true]:,})"])


def _confidence(content: Content) -> Html | None:
    """How far to trust what the model says of itself, on the rarest group that was measured."""
    rare = _measured(content)[-1]
    found = content.reliability.get(rare)
    if found is None or found.ece is None:
        return None
    total = found.count.sum()
    claimed = float((found.confidence.nan_to_num() * found.count).sum() / total)
    right = float((found.accuracy.nan_to_num() * found.count).sum() / total)
    numbers = f"it claims {percent(claimed, 0)} on average and is right in {percent(right, 0)}"
    if abs(claimed - right) <= CALIBRATED:
        return join([f"Its confidence is about right there: {numbers}."])
    return join([f"It is {'over' if claimed > right else 'under'}-confident there: {numbers}."])


def _weakest(content: Content) -> Html | None:
    scores, names = content.scores, content.classes.names
    never = sum(value == 0 for value in scores.per_class)
    tested = sum(value is not None for value in scores.per_class)
    if never > 1:
        return join([f"{never:,} of {several(tested, 'class', 'classes')} are never recognised."])
    weakest = weakest_classes(scores.per_class, content.classes.counts, 1)
    if not weakest:
        return join(["No class has a mistake."])
    name, training = names[weakest[0]], several(int(content.classes.counts[weakest[0]]), "training image")
    right = percent(scores.per_class[weakest[0]], 0)
    return join(["The weakest class is ", tag("bdi", name, class_="name"), f" ({training}): {right} right."])
