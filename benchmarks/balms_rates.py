"""Sample rates that the Meta Sampler learns under plain softmax and under Balanced Softmax.

    python benchmarks/balms_rates.py [--data digits-lt] [--imbalance-factor 200] [--recipe balms] [--run FOLDER]
                                     [--iterations I] [--augment none] [--seed 0] [--out figures]

Figure 1 of the supplement of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020
(https://arxiv.org/abs/2007.10740): on CIFAR-100-LT with imbalance factor 200 the rates of plain softmax end with a
variance of 0.13 over the classes, near 1 for rare and near 0 for full classes; those of Balanced Softmax with 0.03.

The backbone is that of a finished run of plain cross-entropy (`--run`), or is trained first. By default the classifier
stage is that of the recipe on features computed once; `--augment autoaugment-cutout` does as the paper does. Writes
balms-rates.svg, .png and .json, and prints the variances. On digits about half a minute on one core.
Shapes: K = classes.
"""

import argparse
import copy
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from longtail.component import Component
from longtail.config import recipes
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.models.classifier import Classifier
from longtail.report.palette import GROUP_COLOURS
from longtail.report.style import drawing, to_svg
from longtail.run.fit import choose_device, fit
from longtail.run.folder import load_config
from longtail.run.run import Run
from longtail.stages import RetrainMeta
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.log import RunLog

LOSSES = {"CrossEntropy": "Softmax", "BalancedSoftmax": "Balanced Softmax"}


def backbone(arguments: argparse.Namespace, data: Dataset, config: Config) -> Classifier:
    """A model trained by plain cross-entropy."""
    device = choose_device("auto")
    if arguments.run is not None:
        return Run(arguments.run).trained(device).model
    with tempfile.TemporaryDirectory() as folder:
        return fit(config, Path(folder) / "run", data=data).model(device)


def learnt_rates(model: Classifier, data: Dataset, config: Config, loss: str) -> Tensor:
    """The rates (K,) after the second stage of a configuration, under another loss."""
    (stage,) = (stage for stage in config.stages if isinstance(stage, RetrainMeta))
    with tempfile.TemporaryDirectory() as folder:
        store, log = CheckpointStore(Path(folder) / "checkpoint"), RunLog(Path(folder) / "log.jsonl")
        device = next(model.parameters()).device
        context = Context(config.seed, 1, data.split.sha256, device, store, log)
        replace(stage, loss=Component(loss))(copy.deepcopy(model), data, context)
    return torch.tensor(context.chosen["sample_rates"])


def configurations(arguments: argparse.Namespace) -> tuple[Config, Config]:
    """Of the backbone, and of both stages."""
    changes: dict[str, Any] = {"seed": arguments.seed}
    if arguments.imbalance_factor is not None:
        changes["data"] = {"imbalance_factor": arguments.imbalance_factor}
    settings = [("stages.1.training.augment", arguments.augment)]
    if arguments.augment == "none":
        settings.append(("stages.1.batch_norm", "freeze"))
    if arguments.iterations is not None:
        settings.append(("stages.1.training.iterations", arguments.iterations))
    first = recipes.compose(arguments.data, "ce", arguments.recipe, [changes])
    both = recipes.compose(arguments.data, "balms", arguments.recipe, [changes, {"set": settings}])
    if arguments.run is None:
        return first, both
    trained = load_config(arguments.run)
    return trained, replace(both, data=trained.data, model=trained.model)


def draw(rates: dict[str, Tensor], figure: Figure) -> None:
    """Bars over the classes from the fullest to the rarest, one panel for each loss."""
    panels = figure.subplots(1, len(rates), sharey=True)
    for axes, (name, rates_K), colour in zip(panels, rates.items(), GROUP_COLOURS.values(), strict=False):
        axes.bar(range(len(rates_K)), rates_K.tolist(), width=1.0 if len(rates_K) > 30 else 0.8, color=colour)
        axes.set(ylim=(0, 1), xticks=[], xlabel="classes, fullest first")
        axes.set_title(f"{name}: variance {variance(rates_K):.3f}", fontsize=9)
    panels[0].set_ylabel("sample rate")


def variance(rates_K: Tensor) -> float:
    return float(rates_K.var(correction=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits-lt")
    parser.add_argument("--imbalance-factor", type=float)
    parser.add_argument("--recipe")
    parser.add_argument("--run", type=Path, help="finished run whose backbone is taken, with its data")
    parser.add_argument("--iterations", type=int, help="of the classifier stage; by default the recipe's")
    parser.add_argument("--augment", default="none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for balms-rates.svg, .png and .json")
    arguments = parser.parse_args()
    first, both = configurations(arguments)
    data = load_data(first.data, choose_device("auto"))
    model = backbone(arguments, data, first)
    order_K = data.class_counts.counts.argsort(descending=True, stable=True)
    rates = {name: learnt_rates(model, data, both, loss)[order_K] for loss, name in LOSSES.items()}
    for name, rates_K in rates.items():
        print(
            f"{name:18} variance {variance(rates_K):.4f}  from {rates_K[0]:.3f} (fullest) to {rates_K[-1]:.3f} (rarest)"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    numbers = {name: [round(rate, 4) for rate in rates_K.tolist()] for name, rates_K in rates.items()}
    (arguments.out / "balms-rates.json").write_text(json.dumps(numbers) + "\n")
    with drawing(2.6) as figure:
        draw(rates, figure)
        (arguments.out / "balms-rates.svg").write_text(to_svg(figure, "balms-rates"))
        figure.savefig(arguments.out / "balms-rates.png", dpi=160, facecolor="white")


if __name__ == "__main__":
    main()
