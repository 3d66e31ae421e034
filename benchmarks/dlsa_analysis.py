"""Effect of DLSA on the label space of a finished run: five tables, and the confusion matrices as a figure.

    longtail train --data cifar100-lt --method dlsa --out runs/dlsa
    python benchmarks/dlsa_analysis.py runs/dlsa [--before runs/ce] [--bins 5] [--out figures]

1. Share of each frequency bin that every level takes, for training and test images.
2. Size and purity of the clusters of each level, over the training images.
3. Balancedness of the clusters (divergence from uniform shares, in nats) over the training of each filter.
4. Accuracy on the test images of each level: of the level's cluster-aided classifier, of the regular classifier
   (trained on the rest only), of one trained on the same training images without clusters, and of one trained on all.
5. Confusions between groups of classes without DLSA (one classifier trained on all features with the settings of the
   run), with DLSA, and their difference.

The classifiers of tables 4 and 5 start like those of the run. If these started from the head of the previous stage
(initialize: keep), pass a run that ends with that stage as --before. Without it they start from random weights, which a
note in the output reports: on features of a short training this alone cost 4 points. --out writes the confusion
matrices of all classes by decreasing frequency (Figs. 1 to 3 of the supplement) to dlsa-confusion.svg. Xu et al.,
"Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022, https://arxiv.org/abs/2208.02567.
Takes seconds on `digits-lt`.

Shapes: N = images, C = classes, M = levels, G = groups.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.evaluation import confusion_matrix, evaluate_logits
from longtail.models import DLSAHead
from longtail.models.classifier import Classifier
from longtail.posthoc import DLSA, DLSASettings
from longtail.posthoc.dlsa import tally_clusters
from longtail.posthoc.dlsa.analysis import (
    PURITY_EDGES,
    SIZE_EDGES,
    accuracy_by_level,
    confusion_difference,
    frequency_bins,
    group_confusion,
    purity_histogram,
    shares_by_level,
)
from longtail.report.style import drawing, to_svg
from longtail.run.fit import choose_device
from longtail.run.folder import load_config
from longtail.run.run import Run
from longtail.training.features import fingerprint
from longtail.training.log import read_rows
from longtail.training.predict import predict


@dataclass(frozen=True)
class Subject:
    """Input of the analysis: the head, and the features and labels for its training and test.

    Args:
        head: Trained head.
        settings: Settings of the run.
        class_counts_C: Training images per class.
        train_ND: Features of the training images.
        train_targets_N: Labels of the training images.
        test_ND: Features of the test images.
        test_targets_N: Labels of the test images.
        start: Head from which the classifiers of the run started; None if unknown.
    """

    head: DLSAHead
    settings: DLSASettings
    class_counts_C: Tensor
    train_ND: Tensor
    train_targets_N: Tensor
    test_ND: Tensor
    test_targets_N: Tensor
    start: nn.Linear | None


def subject_of(folder: Path, before: Path | None, device: torch.device) -> Subject:
    """Load a run whose last stage is `Filter`, with its data.

    Raises:
        InputError: If the run ends with another stage, or the previous run has another backbone.
    """
    config = load_config(folder)
    settings = config.stages[-1]
    model = Run(folder).trained(device).model
    if not isinstance(settings, DLSASettings) or not isinstance(model.head, DLSAHead):
        raise InputError(
            f"the last stage of {folder} is {type(config.stages[-1]).__name__}, not Filter; pass a run of dlsa"
        )
    data = load_data(config.data, device)
    _, train_ND = predict(model, data.train.images)
    _, test_ND = predict(model, data.test.images)
    features = [features_ND.clone().to(device) for features_ND in (train_ND, test_ND)]
    parts = (features[0], data.train.targets, features[1], data.test.targets)
    start = None if before is None else head_of(before, model, device)
    return Subject(model.head, settings, data.class_counts.counts, *parts, start)


def head_of(folder: Path, model: Classifier, device: torch.device) -> nn.Linear:
    """Load the linear head of a run with the same backbone."""
    before = Run(folder).trained(device).model
    if fingerprint(before.backbone) != fingerprint(model.backbone) or not isinstance(before.head, nn.Linear):
        raise InputError(f"{folder} does not have the backbone of this run and a linear head; pass the previous run")
    return before.head


def print_table(title: str, head: Sequence[str], rows: Mapping[str, Sequence[float | None]], digits: int = 1) -> None:
    print(f"\n{title}\n{'':28}" + "".join(f"{name:>14}" for name in head))
    for name, numbers in rows.items():
        print(f"{name:28}" + "".join(f"{'-' if n is None else f'{n:.{digits}f}':>14}" for n in numbers))


def level_names(levels: int) -> list[str]:
    return [*(f"level {level + 1}" for level in range(levels)), "rest"]


def print_shares(it: Subject, num_bins: int) -> None:
    bins = frequency_bins(it.class_counts_C, min(num_bins, len(it.class_counts_C)))
    parts = {"training": (it.train_ND, it.train_targets_N), "test": (it.test_ND, it.test_targets_N)}
    for part, (features_ND, targets_N) in parts.items():
        shares = shares_by_level(it.head.route(features_ND).level_B, targets_N, bins, it.head.levels)
        title = f"Share of the {part} images that each level takes, by images per class (%)"
        print_table(title, level_names(it.head.levels), shares)


def print_clusters(it: Subject) -> None:
    clusters_MN, num_classes = it.head.route(it.train_ND).cluster_MB, len(it.class_counts_C)
    purities = [f"purity >= {edge}" for edge in PURITY_EDGES]
    for level, cluster_N in enumerate(clusters_MN):
        tally = tally_clusters(cluster_N, it.train_targets_N, it.settings.clusters, num_classes)
        counts = purity_histogram(tally.sizes_K.cpu(), tally.purity_K.cpu()).tolist()
        rows = {f"from {size} training images": n for size, n in zip(SIZE_EDGES, counts, strict=True)}
        print_table(f"Clusters of level {level + 1}, by size and purity", purities, rows, digits=0)


def print_balancedness(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        if "filter" not in row:
            continue
        course = row["filter"]
        last = len(course["balancedness"]) - 1
        shown = sorted({round(last * share / 5) for share in range(6)} | {course["kept"]})
        names = ("balancedness", "good_clusters", "largest_cluster")
        table = {name: [course[name][epoch] for epoch in shown] for name in names}
        title = f"Filter of level {row['epoch'] + 1} over its training (kept: epoch {course['kept'] + 1})"
        print_table(title, [f"epoch {epoch + 1}" for epoch in shown], table, digits=3)


def single_classifier(it: Subject, members_N: Tensor, level: int) -> DLSA:
    """Train one classifier without levels on some of the training images, with the settings of a level."""
    members_N = members_N.to(it.train_ND.device)
    settings = dataclasses.replace(it.settings, levels=0)
    if settings.initialize == "keep" and it.start is None:
        settings = dataclasses.replace(settings, initialize="new")
    if settings.prior == "mixed" and level < it.head.levels:
        settings = dataclasses.replace(settings, prior="subset")
    targets_N = it.train_targets_N[members_N.cpu()]
    return DLSA(settings).fit(it.train_ND[members_N], targets_N, it.start, it.class_counts_C)


def print_accuracy(it: Subject) -> None:
    train_route, route = it.head.route(it.train_ND), it.head.route(it.test_ND)
    own = torch.zeros_like(it.test_targets_N)
    for level in range(it.head.levels + 1):
        taken_N = (route.level_B == level).cpu()
        members_N = (train_route.level_B == level).nonzero().flatten()
        alone = single_classifier(it, members_N, level).predict_logits(it.test_ND[taken_N.to(it.test_ND.device)])
        own[taken_N] = alone.argmax(dim=1).cpu()
    with torch.no_grad():
        predicted = {
            "cluster-aided (DLSA)": it.head(it.test_ND).argmax(dim=1).cpu(),
            "regular (of the rest)": it.head.rest(it.test_ND).argmax(dim=1).cpu(),
            "same images, no clusters": own,
            "all images": single_labels(it),
        }
    table = accuracy_by_level(predicted, it.test_targets_N, route.level_B, it.head.levels)
    print_table("Accuracy on the test images of each level (%)", level_names(it.head.levels), table)


def single_labels(it: Subject) -> Tensor:
    """Predict the test images with one classifier trained on all training images."""
    dlsa = single_classifier(it, torch.arange(len(it.train_targets_N)), it.head.levels)
    return dlsa.predict_logits(it.test_ND).argmax(dim=1).cpu()


def print_confusion(it: Subject, num_bins: int) -> tuple[Tensor, Tensor]:
    """Print the tables, and return the predicted labels without and with DLSA."""
    bins = frequency_bins(it.class_counts_C, min(num_bins, len(it.class_counts_C)))
    everything = torch.arange(len(it.train_targets_N))
    logits = {"without": single_classifier(it, everything, it.head.levels).predict_logits(it.test_ND)}
    with torch.no_grad():
        logits["with"] = it.head(it.test_ND)
    tables = {name: group_confusion(z_NC.argmax(dim=1), it.test_targets_N, bins) for name, z_NC in logits.items()}
    for name, table_GG in {**tables, "difference": tables["with"] - tables["without"]}.items():
        rows = dict(zip(bins, table_GG.tolist(), strict=True))
        print_table(f"Classes of (row) predicted as classes of (column), {name} DLSA (%)", list(bins), rows)
    columns = ("top1", "balanced", "many", "medium", "few", "mcc", "nmi")
    scores = {name: evaluate_logits(z_NC.cpu(), it.test_targets_N, it.class_counts_C) for name, z_NC in logits.items()}
    print_table("Scores", columns, {name: [getattr(s, column) for column in columns] for name, s in scores.items()})
    return logits["without"].argmax(dim=1).cpu(), logits["with"].argmax(dim=1).cpu()


def draw(before_N: Tensor, after_N: Tensor, it: Subject, figure: Figure) -> None:
    """Draw the confusion matrices without and with DLSA, and their difference; most frequent classes first."""
    order_C = it.class_counts_C.argsort(descending=True, stable=True)
    matrices = []
    for predicted_N in (before_N, after_N):
        counts_CC = confusion_matrix(predicted_N, it.test_targets_N, len(order_C)).double()
        shares_CC = 100 * counts_CC / counts_CC.sum(dim=1, keepdim=True).clamp(min=1)
        matrices.append(shares_CC.fill_diagonal_(0)[order_C][:, order_C])
    change_CC = confusion_difference(before_N, after_N, it.test_targets_N, it.class_counts_C)
    most, widest = max(float(m.max()) for m in matrices), float(change_CC.abs().max()) or 1.0
    for axes, title, matrix, limits, colors in zip(
        figure.subplots(1, 3),
        ("without", "with", "difference"),
        (*matrices, change_CC),
        ((0, most or 1.0), (0, most or 1.0), (-widest, widest)),
        ("Blues", "Blues", "RdBu_r"),
        strict=True,
    ):
        axes.imshow(matrix.numpy(), cmap=colors, vmin=limits[0], vmax=limits[1])
        axes.set(title=title, xticks=[], yticks=[], xlabel="predicted class")
        axes.grid(visible=False)
    figure.axes[0].set_ylabel("true class, most to least frequent")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run whose last stage is Filter")
    parser.add_argument("--before", type=Path, help="folder of the run that ends with the stage before Filter")
    parser.add_argument("--bins", type=int, default=5, help="number of bins of classes, by training images")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="folder for dlsa-confusion.svg")
    options = parser.parse_args(arguments)
    it = subject_of(options.run, options.before, choose_device(options.device))
    print_shares(it, options.bins)
    print_clusters(it)
    print_balancedness(read_rows(options.run / "log.jsonl"))
    if it.settings.initialize == "keep" and it.start is None:
        print(
            "\nThe classifiers of this run started from the head of the previous stage. Those below start\nfrom "
            "random weights, which alone may cost points. Pass the previous run as --before."
        )
    print_accuracy(it)
    before_N, after_N = print_confusion(it, options.bins)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        with drawing(2.4) as figure:
            draw(before_N, after_N, it, figure)
            note = "share of the images of each class, without correct predictions; red: more with DLSA"
            (options.out / "dlsa-confusion.svg").write_text(to_svg(figure, "dlsa-confusion", note))


if __name__ == "__main__":
    main()
