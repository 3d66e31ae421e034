"""Report of one run, or of the predictions of any other tool: `report.html`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from longtail.evaluation import Predictions, Scores
from longtail.evaluation.metrics import Groups
from longtail.report.classes import Classes
from longtail.report.confusions import Confusion, precision, weakest_classes
from longtail.report.data import ReportData
from longtail.report.html import render_page, write_page
from longtail.report.images import Example, Thumbnails, example
from longtail.report.tables import Cell, Column, Table
from longtail.report.verdict import verdict
from longtail.report.wording import DASH, number, percent, several
from longtail.run.run import Run

OPEN_ROWS = 200
"""A table with more rows is closed at first, and printed only if it is open."""

_CONFUSIONS = 10  # rows of the table of confusions
_CONFUSIONS_SHOWN = 4  # confusions with examples
_WEAKEST = 6  # classes with examples
_EXAMPLES = 4  # images of each
# not among the facts: shown elsewhere on the page, or repeated in the notes
_ELSEWHERE = frozenset({"test", "notes", "command", "class_groups", "skipped", "duplicates"})


def write_report(
    run: str | Path | Run,
    thumbnails: Thumbnails | None = None,
    target: str | Path | None = None,
    *,
    predictions: Predictions | None = None,
    groups: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of a finished run atomically.

    Args:
        run: Run, or its folder.
        thumbnails: Function from the index of a test image to its pixels, uint8 (3, h, w); None shows no examples.
        target: File to write. Default: `report.html` in the run's folder.
        predictions: Predictions of the run with other class counts. Default: those of the run.
        groups: Options of `evaluate_logits` for the groups of classes. Default: those of the run.

    Returns:
        Path of the page.

    Raises:
        InputError: If the folder holds no finished run, one of its files cannot be read, or the page cannot be
            written.

    Example:
        >>> write_report("runs/none")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: runs/none holds no run...
    """
    run = run if isinstance(run, Run) else Run.load(run)
    own = predictions is None and groups in (None, run.groups)
    predictions, groups = predictions or run.predictions(), groups or run.groups
    data = ReportData(
        title=_title(run),
        predictions=predictions,
        scores=run.scores if own else predictions.scores(**groups),
        classes=Classes.grouped(predictions.class_names, predictions.class_counts, **groups),
        result=run.result,
        config=(run.folder / "config.yaml").read_text("utf-8", errors="replace"),
        log=run.log,
        thumbnails=thumbnails,
    )
    return write_page(run.folder / "report.html" if target is None else Path(target), page(data))


def write_report_for(
    predictions: Predictions,
    scores: Scores,
    target: str | Path,
    title: str,
    *,
    many: int = 100,
    few: int = 20,
    groups: Groups = "fixed",
    thumbnails: Thumbnails | None = None,
) -> Path:
    """Write the report of predictions by any tool atomically.

    Args:
        predictions: Predictions on N test images.
        scores: Scores of those predictions.
        target: File to write.
        title: Title of the page.
        many: Group limit that `scores` was computed with.
        few: Group limit that `scores` was computed with.
        groups: Kind of groups that `scores` was computed with.
        thumbnails: Function from the index of a test image to its pixels, uint8 (3, h, w); None shows no examples.

    Returns:
        Path of the page.

    Raises:
        InputError: If the file cannot be written, or `scores` was computed with other groups.

    Example:
        >>> import tempfile, torch
        >>> found = Predictions(torch.tensor([0, 1]), [500, 5], predicted=torch.tensor([0, 0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report_for(found, found.scores(), Path(folder) / "other.html", "another tool").name
        'other.html'
    """
    classes = Classes.grouped(predictions.class_names, predictions.class_counts, many, few, groups)
    data = ReportData(title, predictions, scores, classes, thumbnails=thumbnails)
    return write_page(Path(target), page(data))


def page(data: ReportData) -> str:
    """Return the HTML of a report."""
    from longtail.report import charts  # matplotlib takes most of a second to import
    from longtail.report.style import themed

    return render_page(
        "run.html.j2",
        data=data,
        charts=charts,
        themed=themed,
        verdict=verdict(data),
        subtitle=list(_subtitle(data)),
        key_figures=list(_cards(data)),
        margins={name: margins.numpy() for name, margins in data.margins.items()},
        untested=data.scores.per_class.count(None),
        flow=flow_table(data),
        confusions=confusions_table(data),
        mixed_up=list(_confusion_examples(data)),
        weakest=[_weak_class(data, label) for label in _weakest_labels(data)],
        every=class_table(data),
        open_rows=OPEN_ROWS,
        notes=list(_notes(data)),
        facts=list(_facts(data.result)),
        command=data.result.get("command"),
        stages=len({str(line.get("stage")) for line in data.log}),
    )


def flow_table(data: ReportData) -> Table:
    """List the predicted groups of the test images of each group."""
    columns = [Column("images of"), Column("right", "right")]
    columns += [Column(f"predicted as {name}", "right") for name in data.classes.masks]
    rows = []
    for name, shares in data.flow.items():
        cells = [share_cell(share, "right" if key == "right" else "wrong") for key, share in shares.items()]
        rows.append([Cell(f"{name}-shot", kind=name), *cells])
    return Table(columns, rows, FLOW_TITLE)


FLOW_TITLE = (
    "Predictions for the test images of each group (%). “Predicted as” counts errors only; each row sums to 100."
)


def share_cell(share: float, kind: str) -> Cell:
    """Return a cell with a percentage and a bar."""
    return Cell(number(share), kind=kind, share=share / 100)


def confusions_table(data: ReportData) -> Table | None:
    """List the most frequent confusions; None if there are none."""
    # errors of a single image are shown only if there are no others
    shown = [pair for pair in data.confusions if pair.images > 1][:_CONFUSIONS] or data.confusions[:3]
    if not shown:
        return None
    columns = [
        Column("true class", names=True),
        Column("predicted as", names=True),
        Column("images", "right"),
        Column("of its test images (%)", "right"),
    ]
    return Table(columns, [_confusion_row(data, pair) for pair in shown], "The most frequent errors.")


def _confusion_row(data: ReportData, pair: Confusion) -> list[Cell | str]:
    names, share = data.classes.names, 100 * pair.images / data.test_counts[pair.true]
    true = Cell(names[pair.true], kind=data.classes.group_names[pair.true])
    return [true, names[pair.predicted], f"{pair.images:,}", share_cell(share, "wrong")]


@dataclass(frozen=True)
class _ConfusionExamples:
    """Test images of one class that were predicted as another."""

    true: str
    predicted: str
    images: int
    group: str
    examples: list[Example]


def _confusion_examples(data: ReportData) -> Iterator[_ConfusionExamples]:
    """Yield examples of the most frequent confusions."""
    if data.thumbnails is None:
        return
    names, predictions = data.classes.names, data.predictions
    for pair in data.confusions[:_CONFUSIONS_SHOWN]:
        chosen = (predictions.targets == pair.true) & (predictions.predicted == pair.predicted)
        yield _ConfusionExamples(
            names[pair.true],
            names[pair.predicted],
            pair.images,
            data.classes.group_names[pair.true],
            _examples(data, chosen),
        )


def class_table(data: ReportData) -> Table:
    """List every class with counts, accuracy, precision and main confusion, the most frequent class first."""
    predicted = data.predictions.predicted
    precisions = precision(predicted, data.predictions.targets, len(data.classes))
    columns = [
        Column("class", names=True),
        Column("group"),
        Column("training images", "right"),
        Column("test images", "right"),
        Column("accuracy (%)", "right", "share of the test images of the class that are predicted as it"),
        Column("precision (%)", "right", "share of the images predicted as the class that show it"),
        Column("mostly predicted as", names=True, meaning="the most frequent error"),
        Column("images", "right", "test images of the class with that error"),
    ]
    rows = [_class_row(data, label, precisions[label]) for label in data.classes.order.tolist()]
    return Table(columns, rows, "Every class, from the most to the least frequent.")


def _class_row(data: ReportData, label: int, right: float | None) -> list[Cell | str]:
    classes, main = data.classes, data.main_confusions.get(label)
    group, accuracy = classes.group_names[label], data.scores.per_class[label]
    return [
        classes.names[label],
        Cell(group, kind=group),
        f"{int(classes.counts[label]):,}",
        f"{data.test_counts[label]:,}",
        Cell(number(accuracy), share=None if accuracy is None else accuracy / 100),
        number(right),
        classes.names[main.predicted] if main else DASH,
        f"{main.images:,}" if main else DASH,
    ]


@dataclass(frozen=True)
class _WeakClass:
    """One of the weakest classes, with examples of its errors."""

    name: str
    group: str
    facts: str
    main: str
    main_images: int
    examples: list[Example]


def _weakest_labels(data: ReportData) -> list[int]:
    return weakest_classes(data.scores.per_class, data.classes.counts, _WEAKEST)


def _weak_class(data: ReportData, label: int) -> _WeakClass:
    classes, tested, main = data.classes, data.test_counts[label], data.main_confusions[label]
    right = round(tested * (data.scores.per_class[label] or 0.0) / 100)
    training = several(int(classes.counts[label]), "training image")
    facts = f"{training}, {right:,} of {several(tested, 'test image')} right"
    return _WeakClass(
        name=classes.names[label],
        group=classes.group_names[label],
        facts=facts,
        main=classes.names[main.predicted],
        main_images=main.images,
        examples=_examples(data, (data.predictions.targets == label) & (data.predictions.predicted != label)),
    )


def _examples(data: ReportData, chosen_N: Tensor) -> list[Example]:
    """Return some of the chosen images, those with the highest confidence first."""
    if data.thumbnails is None:
        return []
    predictions = data.predictions
    wrong = chosen_N.nonzero()[:, 0]
    if data.confidence is not None:
        wrong = wrong[data.confidence[wrong].argsort(descending=True, stable=True)]
    return [
        example(
            data.thumbnails, predictions, index, int(predictions.predicted[index]), data.classes.names, data.confidence
        )
        for index in wrong[:_EXAMPLES].tolist()
    ]


@dataclass(frozen=True)
class _Card:
    """A key figure."""

    label: str
    value: str
    meaning: str
    kind: str = ""


def _cards(data: ReportData) -> Iterator[_Card]:
    """Yield the key figures, those with a kind first; they are shown larger."""
    scores, classes = data.scores, data.classes
    yield _Card("Accuracy", percent(scores.top1), several(len(data.predictions), "test image"), "all")
    yield _Card("Balanced", percent(scores.balanced), "mean of the class accuracies", "all")
    for name, mask_C in classes.masks.items():
        size = f"{several(int(mask_C.sum()), 'class', 'classes')}, {several(data.test_images(name), 'test image')}"
        yield _Card(f"{name.capitalize()}-shot", percent(getattr(scores, name)), size, name)
    never = several(sum(value == 0 for value in scores.per_class), "class", "classes")
    yield _Card("Worst class", percent(scores.worst), f"{never} at zero", "all")
    yield _Card("MCC", number(scores.mcc), "scale \N{MINUS SIGN}100 to 100")
    yield _Card("NMI", number(scores.nmi), "scale 0 to 100")
    if scores.top5 is not None:
        yield _Card("Top-5 accuracy", percent(scores.top5), "class among the five most probable")
    yield _Card("Macro F1", percent(scores.macro_f1), "mean over classes")
    yield _Card("G-mean", percent(scores.g_mean), "geometric, over classes")
    rare = next(name for name in reversed(list(classes.masks)) if getattr(scores, name) is not None)
    calibration = "needs probabilities" if scores.ece is None else "calibration error"
    yield _Card("ECE", percent(scores.ece, 2), calibration)
    yield _Card(f"ECE, {rare}-shot", percent(getattr(scores, f"ece_{rare}"), 2), calibration)


def _title(run: Run) -> str:
    result = run.result
    if "method" not in result or "data" not in result:
        return run.folder.resolve().name
    return f"{result['method']} on {Path(str(result['data'])).name or result['data']}"


def _subtitle(data: ReportData) -> Iterator[str]:
    """Yield the facts that distinguish this result from others."""
    result, backbone, counts = data.result, data.about("backbone"), data.classes.counts
    if "name" in backbone:
        size = backbone.get("parameters")
        yield f"{backbone['name']} ({size / 1e6:.2f} M parameters)" if isinstance(size, int) else str(backbone["name"])
    if "recipe" in result:
        yield f"recipe {result['recipe']}"
    yield several(len(data.classes), "class", "classes")
    total, trained_on = int(counts.sum()), data.about("split").get("images")
    held_out = total - trained_on if isinstance(trained_on, int) else 0
    yield several(total, "training image") + (f", {held_out:,} of them held out for validation" if held_out > 0 else "")
    yield f"imbalance {int(counts.max()) / max(1, int(counts[counts > 0].min())):,.0f} to 1"
    if "seed" in result:
        yield f"seed {result['seed']}"


def _notes(data: ReportData) -> Iterator[str]:
    """Yield what a reader must know before trusting a number."""
    yield from (str(note) for note in data.result.get("notes") or ())
    protocol = data.about("protocol")
    if data.warning:
        yield (
            "The checkpoint was chosen on the test split, as in much published code. The numbers are optimistic and "
            "cannot be compared with those of other protocols."
        )
    elif "checkpoint" in protocol:
        chosen_on = protocol.get("selected_on")
        chosen = f", chosen on {chosen_on}" if chosen_on else ""
        yield (
            f"Scored: the {protocol['checkpoint']} checkpoint{chosen}. Nothing was chosen on the test split, which was "
            "read once."
        )
    yield f"Groups: {data.classes.described}."


def _facts(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every plain value of a result that the page does not show elsewhere, with its dotted name."""
    for key, value in values.items():
        if not prefix and key in _ELSEWHERE:
            continue
        if isinstance(value, Mapping):
            yield from _facts(value, f"{prefix}{key}.")
        elif isinstance(value, (str, int, float)):
            yield f"{prefix}{key}".replace("_", " ").replace(".", ", "), _format_fact(value)


def _format_fact(value: str | int | float) -> str:
    if isinstance(value, float) and abs(value) >= 10:
        return number(value)
    # a seed or a year of four digits reads better without a comma
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
