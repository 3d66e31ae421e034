"""Accuracy of linear classifiers under an oracle split of head and tail classes, on the features of a run.

    longtail train --data digits-lt --method ce --out runs/ce
    python benchmarks/dlsa_probe.py runs/ce [--seeds 5] [--epochs 30]

The probe of Figure 2 of Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567 (supplement, Sec. 1). In training and testing, an oracle assigns each image of a head
class to group A with probability p and to group B with 1 - p, and each image of a tail class the other way round. Each
group has its own classifier. The paper trains a ResNet-50 for each group (Adam, rate 3e-4, batch 512). Here the
features are fixed, and each group trains a linear classifier with cross-entropy. Head and tail are the more and the
less frequent half of the classes. Prints accuracy for each p; takes seconds on `digits-lt`.

Shapes: N = images, D = embedding dimension, C = classes.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from longtail import _random as randomness
from longtail.data.counts import ClassCounts
from longtail.data.load import load_data
from longtail.evaluation import Scores, evaluate_predictions
from longtail.losses import CrossEntropy
from longtail.models import LinearHead
from longtail.posthoc import ClassifierSettings
from longtail.posthoc.dlsa import fit_classifier
from longtail.posthoc.dlsa.analysis import oracle_groups
from longtail.run.fit import choose_device
from longtail.run.folder import load_config
from longtail.run.run import Run
from longtail.training.predict import predict

SEPARATIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
Part = tuple[Tensor, Tensor]  # features (N, D) and labels (N,)


def probe(train: Part, test: Part, counts: ClassCounts, p: float, settings: ClassifierSettings, seed: int) -> Scores:
    """Compute the joint scores of the two classifiers under an oracle with separation p."""
    is_head_C = counts.quantile_groups((0.5, 0.0))["many"]
    groups = [
        oracle_groups(part[1], is_head_C, p, randomness.generator("oracle", seed, name))
        for part, name in ((train, "train"), (test, "test"))
    ]
    predicted_N = torch.zeros_like(test[1])
    for group in (0, 1):
        own_N, test_N = (groups[0] == group).nonzero().flatten(), (groups[1] == group).nonzero().flatten()
        if len(own_N) == 0 or len(test_N) == 0:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.key("initialise", "probe", seed, group))  # codespell:ignore
            classifier = LinearHead(train[0].shape[1], len(counts)).to(train[0].device)
        inputs, targets = train[0][own_N.to(train[0].device)], train[1][own_N].to(train[0].device)
        loss = CrossEntropy(counts, absent="mask")
        fit_classifier(classifier, inputs.__getitem__, targets, loss, settings, "probe", seed, group)
        with torch.no_grad():
            predicted_N[test_N] = classifier(test[0][test_N.to(test[0].device)]).argmax(dim=1).cpu()
    return evaluate_predictions(predicted_N, test[1], counts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run; features are those of its backbone")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds of the oracle and the classifiers")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    device, config = choose_device(options.device), load_config(options.run)
    data, model = load_data(config.data, device), Run(options.run).trained(device).model
    parts = []
    for part in (data.train, data.test):
        _, features_ND = predict(model, part.images)
        parts.append((features_ND.clone().to(device), part.targets))
    settings = ClassifierSettings(epochs=options.epochs, lr=options.lr)
    print(f"{'p':>5}{'top1':>14}{'head half':>12}{'tail half':>12}")
    head_C = data.class_counts.quantile_groups((0.5, 0.0))["many"]
    for p in SEPARATIONS:
        scores = [probe(parts[0], parts[1], data.class_counts, p, settings, seed) for seed in range(options.seeds)]
        top1 = [each.top1 for each in scores]
        per_class_C = torch.tensor(
            [[v if v is not None else torch.nan for v in each.per_class] for each in scores]
        ).mean(dim=0)
        spread = f"± {statistics.stdev(top1):.1f}" if len(top1) > 1 else ""
        halves = "".join(f"{float(per_class_C[mask].nanmean()):12.1f}" for mask in (head_C, ~head_C))
        print(f"{p:5.1f}{statistics.mean(top1):9.1f}{spread:>5}{halves}", flush=True)


if __name__ == "__main__":
    main()
