"""The parts of the page that hold key figures, plots and what is known of the run."""

from collections.abc import Iterator, Mapping
from typing import Any

from longtail.report.content import Content
from longtail.report.markup import Html, escape, join, tag
from longtail.report.wording import number, percent, several

MIXUPS_SHOWN = 10


def section(key: str, title: str, *parts: object) -> Html:
    """A part of the page under its heading, which links can reach by `key`."""
    body = tag("div", *parts, class_="body")
    return tag("section", tag("h2", title, id=f"{key}-title"), body, id=key, aria_labelledby=f"{key}-title")


def figure(svg: str, alt: str, caption: str) -> Html:
    """A plot in the page: what it shows as text, and how to read it below.

    Args:
        svg: from `longtail.report.plots` or `curves`.
        alt: its message for those who cannot see it.
        caption: for everyone.
    """
    from longtail.report.style import themed  # matplotlib takes most of a second to import

    return tag("figure", Html(themed(svg, escape(alt))), tag("figcaption", caption), class_="plot")


def cards(content: Content) -> Html:
    """The key figures, the accuracies first and large."""
    scores, classes = content.scores, content.classes
    large = [
        _card("Accuracy", percent(scores.top1), several(len(content.predictions), "test image"), "all"),
        _card("Balanced", percent(scores.balanced), "mean of the class accuracies", "all"),
    ]
    for name, mask_C in classes.masks.items():
        size = f"{several(int(mask_C.sum()), 'class', 'classes')}, {several(content.test_images(name), 'test image')}"
        large.append(_card(f"{name.capitalize()}-shot", percent(getattr(scores, name)), size, name))
    rare = next(name for name in reversed(list(classes.masks)) if getattr(scores, name) is not None)
    never = several(sum(value == 0 for value in scores.per_class), "class", "classes")
    large.append(_card("Worst class", percent(scores.worst), f"{never} at zero", "all"))
    calibration = "needs probabilities" if scores.ece is None else "calibration error"
    small = [
        _card("MCC", number(scores.mcc), "scale \N{MINUS SIGN}100 to 100"),
        _card("NMI", number(scores.nmi), "scale 0 to 100"),
        _card("Macro F1", percent(scores.macro_f1), "mean over classes"),
        _card("G-mean", percent(scores.g_mean), "geometric, over classes"),
        _card("ECE", percent(scores.ece, 2), calibration),
        _card(f"ECE, {rare}-shot", percent(getattr(scores, f"ece_{rare}"), 2), calibration),
    ]
    return join([tag("dl", *large, class_="cards large"), tag("dl", *small, class_="cards")])


def _card(label: str, value: str, meaning: str, kind: str | None = None) -> Html:
    return tag("div", tag("dt", label), tag("dd", value, class_="value"), tag("dd", meaning), class_=kind)


def groups_section(content: Content) -> Html:
    """Group accuracies, and where the images of each group end up."""
    from longtail.report import plots

    scores, warning = content.scores, content.warning
    values = {name: getattr(scores, name) for name in ("top1", "balanced", *content.classes.masks)}
    alt = "; ".join(f"{name} {percent(value)}" for name, value in values.items())
    limits = "; ".join(f"{name}-shot: {limit}" for name, limit in content.classes.limits.items())
    bars = figure(
        plots.groups_figure(content.classes, values, warning),
        f"Accuracy: {alt}.",
        f"Accuracy by shot group; {limits}.",
    )
    return section("groups", "By group", tag("div", bars, _flow_table(content), class_="pair"))


def _flow_table(content: Content) -> Html:
    names = list(content.classes.masks)
    head = tag(
        "tr",
        tag("th", "images of", scope="col"),
        tag("th", "right", scope="col"),
        *(tag("th", f"taken for {name}", scope="col") for name in names),
    )
    rows = []
    for name, shares in content.flow.items():
        cells = [_share(share, "right" if key == "right" else "wrong") for key, share in shares.items()]
        rows.append(tag("tr", tag("th", f"{name}-shot", scope="row", class_=name), *cells))
    caption = "Where the test images of each group end up (%). “Taken for” counts mistakes only; rows sum to 100."
    return _table(caption, head, rows, "flow")


def _share(share: float, kind: str) -> Html:
    return tag("td", number(share), class_=f"number {kind}", style=f"--share:{share / 100:.3f}")


def _table(caption: str, head: Html, rows: list[Html], kind: str) -> Html:
    body = join([tag("thead", head), tag("tbody", *rows)])
    return tag("div", tag("table", tag("caption", caption), body, class_=kind), class_="scroll")


def classes_section(content: Content) -> Html:
    """Class counts against accuracy, and the confusion matrix with its largest entries."""
    from longtail.report import plots

    classes, predictions, warning = content.classes, content.predictions, content.warning
    counts = figure(
        plots.counts_figure(classes, content.scores.per_class, warning),
        f"Training images and accuracy of {len(classes):,} classes, from the fullest class to the rarest.",
        _counts_caption(content),
    )
    binned = f" Each cell gathers about {len(classes) / plots.MAX_CELLS:.0f} neighbouring classes a side."
    confusion = figure(
        plots.confusion_figure(classes, predictions.predicted, predictions.targets, warning),
        "Confusion matrix, true class by predicted class; the largest entries off the diagonal are in the table.",
        "Confusion matrix, in percent of each true class, the class with the most training images first. Entries to "
        "the left of the diagonal are images given to fuller classes."
        + (binned if len(classes) > plots.MAX_CELLS else ""),
    )
    return section("classes", "By class", tag("div", counts, confusion, class_="pair"), _mixup_table(content))


def _counts_caption(content: Content) -> str:
    from longtail.report import plots

    caption = "Above, training images per class on a logarithmic axis; below, accuracy of the same classes."
    if len(content.classes) > plots.MAX_POINTS:
        caption += " Each point is the mean of neighbouring classes of one group."
    if None in content.scores.per_class:
        missing = several(content.scores.per_class.count(None), "class has", "classes have")
        caption += f" {missing} no test image and no accuracy."
    return caption


def _mixup_table(content: Content) -> Html | None:
    names = content.classes.names
    # a pair that was mixed up once says little, unless there is no other
    shown = [pair for pair in content.mixups if pair.images > 1][:MIXUPS_SHOWN] or content.mixups[:3]
    if not shown:
        return None
    columns = ("true class", "taken for", "images", "of its test images (%)")
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    rows = []
    for pair in shown:
        share = 100 * pair.images / content.test_counts[pair.true]
        true, taken_for = tag("bdi", names[pair.true]), tag("bdi", names[pair.taken_for])
        group = content.classes.group_names[pair.true]
        cells = [tag("td", taken_for), tag("td", f"{pair.images:,}", class_="number"), _share(share, "wrong")]
        rows.append(tag("tr", tag("th", true, scope="row", class_=group), *cells))
    return _table("The most frequent mistakes.", head, rows, "mixups")


def confidence_section(content: Content) -> Html:
    """Reliability and margins by group, or why there are none."""
    if not content.reliability:
        text = "The predictions hold labels only. Reliability and margins need logits or probabilities."
        return section("confidence", "Confidence", tag("p", text))
    from longtail.report import curves

    errors = {name: found.ece for name, found in content.reliability.items() if found.ece is not None}
    reliability = figure(
        curves.reliability_figure(content.reliability, content.warning),
        "Expected calibration error: " + "; ".join(f"{name} {percent(ece, 2)}" for name, ece in errors.items()) + ".",
        "Reliability: of the images given a confidence, the share that is right, in 15 bins. On the diagonal, "
        "confidence can be taken at its word. The larger the mark, the more images; bins with fewer than "
        f"{curves.FEWEST} are not drawn.",
    )
    right = "; ".join(f"{name} {percent(float((m > 0).double().mean()) * 100)}" for name, m in content.margins.items())
    margins = figure(
        curves.margins_figure({name: m.numpy() for name, m in content.margins.items()}, content.warning),
        f"Share of images with a positive margin: {right}.",
        "Margins of the test images: how far the logit of the true class lies above the best other one. Left of zero "
        "the model is wrong; close to zero it could as well have been.",
    )
    return section("confidence", "Confidence", tag("div", reliability, margins, class_="pair"))


def training_section(content: Content) -> Html | None:
    """The training curve; None where nothing was logged."""
    if not content.log:
        return None
    from longtail.report import curves

    stages = len({str(line.get("stage")) for line in content.log})
    length = several(len(content.log), "epoch") + (f" in {stages} stages" if stages > 1 else "")
    plot = figure(
        curves.training_figure(content.log, content.warning), f"Training curve over {length}.", f"Training: {length}."
    )
    return section("training", "Training", tag("div", plot, class_="pair"))


def about_section(content: Content) -> Html:
    """Notes, protocol, facts, command and configuration of the run."""
    result = content.result
    facts = [join([tag("dt", name), tag("dd", value)]) for name, value in _facts(result)]
    command = result.get("command")
    return section(
        "about",
        "About this result",
        tag("ul", *(tag("li", note) for note in _notes(content)), class_="notes"),
        tag("dl", *facts, class_="facts") if facts else None,
        join([tag("h3", "Command"), tag("pre", tag("code", command))]) if command else None,
        _configuration(content.config) if content.config else None,
    )


def _configuration(config: str) -> Html:
    return tag("details", tag("summary", "Configuration (config.yaml)"), tag("pre", tag("code", config)))


def _notes(content: Content) -> Iterator[str]:
    """What a reader must know before believing a number."""
    result = content.result
    yield from (str(note) for note in result.get("notes") or ())
    if content.warning:
        yield (
            "The checkpoint was chosen on the test set, as much published code does: the numbers flatter the model and "
            "must not stand beside honest ones."
        )
    elif "checkpoint" in content.about("protocol"):
        chosen_on, checkpoint = content.about("protocol").get("selected_on"), content.about("protocol")["checkpoint"]
        chosen = f", chosen on {chosen_on}" if chosen_on else ""
        yield f"Scored: the {checkpoint} checkpoint{chosen}. Nothing was chosen on the test set, which was read once."
    yield "Groups: " + "; ".join(f"{name}-shot, {limit}" for name, limit in content.classes.limits.items()) + "."


# the notes name what was skipped and what stands in two parts: the bare counts would say it twice
_ELSEWHERE = frozenset({"test", "notes", "command", "class_groups", "skipped", "duplicates"})


def _facts(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every plain value of a result that the page does not show elsewhere, with its dotted name."""
    for key, value in values.items():
        if not prefix and key in _ELSEWHERE:
            continue
        if isinstance(value, Mapping):
            yield from _facts(value, f"{prefix}{key}.")
        elif isinstance(value, (str, int, float)):
            yield f"{prefix}{key}".replace("_", " ").replace(".", ", "), _fact(value)


def _fact(value: str | int | float) -> str:
    if isinstance(value, float) and abs(value) >= 10:
        return number(value)
    # a seed or a year of four digits reads better without a comma
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
