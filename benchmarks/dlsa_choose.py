"""Choice of the settings of DLSA on held-out training images, and the test scores of the choice.

    longtail train --data cifar100-lt --method ce --val-share 0.1 --out runs/ce
    longtail train --data cifar100-lt --method dlsa --val-share 0.1 --from runs/ce --out runs/dlsa
    python benchmarks/dlsa_choose.py runs/dlsa --before runs/ce [--seeds 5]

Starts from the settings of the run and optimizes levels, share, clusters, prior and sigma in turn. Each keeps the value
with the highest balanced accuracy on the held-out images (mean over the seeds; the first of equal values). The backbone
was not trained on these images either. "one classifier" has no level and is trained on all features. At the end three
settings are evaluated once on the test set, with seeds other than those of the search: one classifier, DLSA as in the
run, and DLSA as chosen. Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567.

Shapes: N = images, D = embedding dimension, C = classes.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsa_analysis import head_of
from torch import Tensor, nn

from longtail.data.counts import ClassCounts
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.evaluation import Scores, evaluate_logits
from longtail.posthoc import DLSA, DLSASettings
from longtail.posthoc.dlsa.head import DLSAHead
from longtail.run.fit import choose_device
from longtail.run.folder import load_config
from longtail.run.run import Run
from longtail.training.predict import predict

AXES: Mapping[str, Sequence[Any]] = {
    "levels": (1, 2, 3),
    "share": (0.3, 0.1, 0.5),
    "clusters": (100, 20, 300),
    "prior": ("whole", "subset", "mixed"),
    "sigma": (0.05, 0.15, 0.5),
}
COLUMNS = ("balanced", "many", "medium", "few", "mcc", "nmi")
Part = tuple[Tensor, Tensor]  # features (N, D) and labels (N,)


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of each part, class counts, and the head from which the classifiers start."""

    parts: Mapping[str, Part]
    class_counts: ClassCounts
    start: nn.Linear | None

    def scores(self, settings: DLSASettings, part: str, seeds: Iterable[int]) -> list[Scores]:
        """Fit on the training features and evaluate on a part, once per seed."""
        test_ND, targets_N = self.parts[part]
        found = []
        for seed in seeds:
            dlsa = DLSA(settings, seed=seed).fit(*self.parts["train"], self.start, self.class_counts)
            found.append(evaluate_logits(dlsa.predict_logits(test_ND).cpu(), targets_N, self.class_counts))
        return found


def read(folder: Path, before: Path | None, device: str) -> tuple[DLSASettings, Features]:
    """Load the settings of a run that ends with `Filter`, and compute the features of its backbone.

    Raises:
        InputError: If the run ends with another stage, or has no validation split.
    """
    config, where = load_config(folder), choose_device(device)
    settings, model = config.stages[-1], Run(folder).trained(where).model
    if not isinstance(settings, DLSASettings) or not isinstance(model.head, DLSAHead):
        raise InputError(
            f"the last stage of {folder} is {type(config.stages[-1]).__name__}, not Filter; pass a run of dlsa"
        )
    data = load_data(config.data, where)
    if data.val is None:
        raise InputError(f"{folder} has no validation split to choose on; train it with --val-share 0.1")
    parts = {}
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        parts[name] = (predict(model, part.images)[1].clone().to(where), part.targets)
    start = None if before is None else head_of(before, model, where)
    return settings, Features(parts, data.class_counts, start)


def mean(scores: Sequence[Scores], column: str = "balanced") -> tuple[float, float]:
    """Compute mean and standard deviation over the seeds, in percent."""
    numbers = [getattr(each, column) for each in scores]
    return statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0


def show(name: str, scores: Sequence[Scores], columns: Sequence[str] = ("balanced",)) -> None:
    cells = (mean(scores, column) for column in columns)
    print(f"{name:28}" + "".join(f"{middle:9.1f} ± {spread:<4.1f}" for middle, spread in cells), flush=True)


def choose(features: Features, settings: DLSASettings, seeds: Sequence[int]) -> DLSASettings:
    """Optimize one axis after the other by the balanced accuracy on the held-out images."""
    best = features.scores(settings, "val", seeds)
    show("as in the run", best)
    for axis, values in AXES.items():
        for value in values:
            if value == getattr(settings, axis):
                continue
            try:
                changed = dataclasses.replace(settings, **{axis: value})
                found = features.scores(changed, "val", seeds)
            except InputError as error:  # e.g. a level with too few remaining images
                print(f"{f'{axis} {value}':28} {error}")
                continue
            show(f"{axis} {value}", found)
            if mean(found)[0] > mean(best)[0]:
                best, settings = found, changed
        print(f"{'':4}kept: {axis} {getattr(settings, axis)}")
    return settings


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run with --val-share whose last stage is Filter")
    parser.add_argument("--before", type=Path, help="previous run, from whose head the classifiers start")
    parser.add_argument("--search-seeds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds for the test")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    settings, features = read(options.run, options.before, options.device)
    if settings.initialize == "keep" and features.start is None:
        settings = dataclasses.replace(settings, initialize="new")
        print("the classifiers start from random weights, because --before is not given")
    one = dataclasses.replace(settings, levels=0)
    search = range(options.search_seeds)
    print(f"balanced accuracy on {len(features.parts['val'][1])} held-out training images, {len(search)} seeds")
    show("one classifier", features.scores(one, "val", search))
    chosen = choose(features, settings, search)
    print(f"\ntest, {options.seeds} other seeds\n{'':28}" + "".join(f"{column:>9}{'':7}" for column in COLUMNS))
    seeds = range(len(search), len(search) + options.seeds)
    for name, tested in {"one classifier": one, "dlsa as in the run": settings, "dlsa as chosen": chosen}.items():
        show(name, features.scores(tested, "test", seeds), COLUMNS)


if __name__ == "__main__":
    main()
