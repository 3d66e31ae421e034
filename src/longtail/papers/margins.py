"""Logit margins of the images of one head, one torso and one tail class.

gamma = f_y - max_{j != y} f_j on the logits as the run gives them: Figures 3 (histograms) and 6 (cumulative) of "ELM:
Embedding and Logit Margins for Long-Tail Learning" (2022). An image with a margin above zero is recognised.
"""

from collections.abc import Sequence

from longtail.errors import InputError
from longtail.evaluation.geometry import logit_margins
from longtail.papers.distributions import Values, distributions
from longtail.papers.labels import chosen_labels, panel_title
from longtail.papers.plot import Plot
from longtail.papers.runs import FinishedRun, PartName, check_comparable, warnings_of


def margin_histograms(
    runs: Sequence[FinishedRun], *, part: PartName = "test", classes: Sequence[str] | None = None
) -> Plot:
    """Histograms of the logit margins of a few classes.

    Args:
        runs: 1 to 10.
        part: "test", or "train" for the training images.
        classes: names; by default the middle one by count of each group.

    Raises:
        InputError: if the runs do not compare, a class is unknown, or the part has no image of one.
    """
    return _plot(runs, part, classes, cumulative=False)


def margin_cdfs(runs: Sequence[FinishedRun], *, part: PartName = "test", classes: Sequence[str] | None = None) -> Plot:
    """Cumulative distributions of the same margins; arguments as of `margin_histograms`."""
    return _plot(runs, part, classes, cumulative=True)


def margins_by_class(runs: Sequence[FinishedRun], part: PartName, labels: Sequence[int]) -> Values:
    """Margins by the title of a class's panel and the name of a run."""
    of_runs = {}
    for run in runs:
        logits_NC, targets_N = run.logits(part)
        of_runs[run.label] = (logit_margins(logits_NC, targets_N), targets_N)
    return {
        panel_title(label, runs[0].classes): {
            name: margins_N[targets_N == label] for name, (margins_N, targets_N) in of_runs.items()
        }
        for label in labels
    }


def _plot(runs: Sequence[FinishedRun], part: PartName, classes: Sequence[str] | None, *, cumulative: bool) -> Plot:
    check_comparable(runs)
    labels = chosen_labels(classes, runs[0].classes)
    values = margins_by_class(runs, part, labels)
    if len(values) < len(labels):
        raise InputError("two of the classes have names that look alike; choose others with --classes")
    note = "; ".join(filter(None, [f"{part} images", warnings_of(runs)]))
    label = "logit margin (true class minus best other)"
    return distributions(values, "margin", label, cumulative=cumulative, zero=True, note=note)
