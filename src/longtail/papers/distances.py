"""How far the farthest image of the same class is, for one head, one torso and one tail class.

d_max(x) = max over x+ of the class of ||Phi(x) - Phi(x+)||, over the largest norm of all embeddings: Figure 4 of "ELM:
Embedding and Logit Margins for Long-Tail Learning" (2022), which does not say whether it is drawn from training or
test images.
"""

from collections.abc import Sequence

from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation.geometry import max_intra_class_distances
from longtail.papers.distributions import distributions
from longtail.papers.labels import chosen_labels, panel_title
from longtail.papers.plot import Plot
from longtail.papers.runs import FinishedRun, PartName, check_comparable, warnings_of


def intra_class_distances(
    runs: Sequence[FinishedRun], *, part: PartName = "train", classes: Sequence[str] | None = None
) -> Plot:
    """Histograms of the distance from each image of a class to the farthest other one.

    Args:
        runs: 1 to 10.
        part: "train", or "test" for the test images.
        classes: names; by default the middle one by count of each group.

    Raises:
        InputError: if the runs do not compare, a class is unknown, or has fewer than two images.
    """
    check_comparable(runs)
    known = runs[0].classes
    labels = chosen_labels(classes, known)
    values: dict[str, dict[str, Tensor]] = {panel_title(label, known): {} for label in labels}
    if len(values) < len(labels):
        raise InputError("two of the classes have names that look alike; choose others with --classes")
    for run in runs:
        found = run.outputs(part)
        farthest_N = max_intra_class_distances(found.embeddings_ND, found.targets_N)
        for label in labels:
            own_M = farthest_N[found.targets_N == label]
            values[panel_title(label, known)][run.label] = own_M[~own_M.isnan()]  # NaN: the only image of its class
    note = "; ".join(filter(None, [f"{part} images", warnings_of(runs)]))
    axis_label = "largest distance within the class, over the largest norm"
    return distributions(values, "distance", axis_label, cumulative=False, note=note)
