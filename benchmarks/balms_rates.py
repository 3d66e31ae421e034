"""Sample rates that the Meta Sampler learns with softmax and with Balanced Softmax.

    python benchmarks/balms_rates.py [--data digits-lt] [--imbalance-factor 200] [--recipe balms] [--run FOLDER]
                                     [--epochs E] [--iterations I] [--augment none] [--seed 0] [--out figures]

Figure 1 of the supplement of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020
(https://arxiv.org/abs/2007.10740): on CIFAR-100-LT with imbalance factor 200, the rates of softmax end with a variance
of 0.13 over the classes, near 1 for rare and near 0 for frequent classes; those of Balanced Softmax with 0.03.

The backbone comes from a finished run of cross-entropy (`--run`), or is trained first. The classifier stage of BALMS is
then trained from it with both losses. By default it uses features that are computed once; `--augment
autoaugment-cutout` follows the paper. Writes the runs and the figure `learned-rates`, and prints the variances. Takes
about half a minute on the digits on one core.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from longtail.config import recipes
from longtail.config.schema import Config
from longtail.papers import draw, write_plot
from longtail.run.fit import fit
from longtail.run.folder import load_config

LOSSES = {"CrossEntropy": "Softmax", "BalancedSoftmax": "Balanced Softmax"}


def first_config(arguments: argparse.Namespace) -> Config:
    """Return the configuration of the backbone."""
    if arguments.run is not None:
        return load_config(arguments.run)
    return recipes.compose(arguments.data, "ce", arguments.recipe, [_changes(arguments)])


def second_config(arguments: argparse.Namespace, first: Config, loss: str) -> Config:
    """Return the configuration of the classifier stage with a loss, after the first stage of `first`."""
    settings = [("stages.1.loss", loss), ("stages.1.training.augment", arguments.augment)]
    if arguments.augment == "none":
        settings.append(("stages.1.batch_norm", "freeze"))
    if arguments.iterations is not None:
        settings.append(("stages.1.training.iterations", arguments.iterations))
    both = recipes.compose(arguments.data, "balms", arguments.recipe, [_changes(arguments), {"set": settings}])
    return replace(first, method="balms", stages=(*first.stages, *both.stages[1:]))


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    changes: dict[str, Any] = {"seed": arguments.seed}
    if arguments.imbalance_factor is not None:
        changes["data"] = {"imbalance_factor": arguments.imbalance_factor}
    if arguments.epochs is not None:
        changes["set"] = [("stages.0.training.epochs", arguments.epochs)]
    return changes


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits-lt")
    parser.add_argument("--imbalance-factor", type=float)
    parser.add_argument("--recipe")
    parser.add_argument("--run", type=Path, help="finished run of cross-entropy that provides data and backbone")
    parser.add_argument("--epochs", type=int, help="epochs of the backbone; default: from the recipe")
    parser.add_argument("--iterations", type=int, help="iterations of the classifier stage; default: from the recipe")
    parser.add_argument("--augment", default="none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figure and of the runs")
    arguments = parser.parse_args(given)
    first = first_config(arguments)
    start = arguments.run or fit(first, arguments.out / "balms-rates" / "backbone", resume=True, report=False).folder
    folders = []
    for loss in LOSSES:
        folders.append(arguments.out / "balms-rates" / loss)
        fit(second_config(arguments, first, loss), folders[-1], resume=True, start=start, report=False)
    plot = draw("learned-rates", folders, labels=list(LOSSES.values()))
    print("\n".join(plot.summary))
    write_plot(plot, "learned-rates", arguments.out)


if __name__ == "__main__":
    main()
