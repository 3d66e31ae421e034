"""Fit scikit-learn's LogisticRegression to a feature file, for comparison with the heads of this package.

The features are standardized (`StandardScaler`). `C` is chosen by balanced accuracy on the validation split, from
strong to weak penalties, each from the solution of the one before. The test split is read once per row.

Example:
    OMP_NUM_THREADS=1 python benchmarks/sklearn_heads.py features.npz --c 1e-4 1e-3 1e-2 1e-1
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from longtail.config.schema import DataConfig
from longtail.data.dataset import Part
from longtail.data.load import load_data
from longtail.evaluation import evaluate_logits

SEPARATOR = " | "


def main() -> None:
    """Print one row of a table per weighting of the classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("features", type=Path, help="feature file with the splits train, val and test")
    parser.add_argument("--c", type=float, nargs="+", default=[1e-4, 1e-3, 1e-2, 1e-1], help="values of C to try")
    parser.add_argument("--max-iter", type=int, default=2000, help="largest number of iterations for each C")
    given = parser.parse_args()
    data = load_data(DataConfig(name=str(given.features)), torch.device("cpu"))
    if data.val is None:
        raise SystemExit("the feature file must have a validation split")
    train, val, test = (_arrays(part) for part in (data.train, data.val, data.test))
    scaler = StandardScaler().fit(train[0])
    print("| class_weight | C | top-1 | balanced | many | medium | few | CPU seconds |", flush=True)
    for weighting in (None, "balanced"):
        started = time.process_time()
        model, c = choose(scaler.transform(train[0]), train[1], scaler.transform(val[0]), val[1], weighting, given)
        scores = evaluate_logits(
            torch.from_numpy(model.decision_function(scaler.transform(test[0]))),
            torch.from_numpy(test[1]),
            data.group_counts,
        )
        shares = (scores.top1, scores.balanced, scores.many, scores.medium, scores.few)
        row = [str(weighting), f"{c:g}", *("-" if share is None else f"{share:.1f}" for share in shares)]
        print(f"| {SEPARATOR.join(row)} | {time.process_time() - started:.0f} |", flush=True)


def choose(
    train_ND: Any, targets_N: Any, val_MD: Any, val_targets_M: Any, weighting: str | None, given: argparse.Namespace
) -> tuple[LogisticRegression, float]:
    """Return the model with the best balanced accuracy on the validation split, and its C."""
    best: tuple[float, float, Any] | None = None
    model = LogisticRegression(class_weight=weighting, max_iter=given.max_iter, warm_start=True)
    for c in sorted(given.c):
        model.C = c
        model.fit(train_ND, targets_N)
        hits_M = model.predict(val_MD) == val_targets_M
        score = float(np.mean([hits_M[val_targets_M == label].mean() for label in np.unique(val_targets_M)]))
        print(f"  {weighting} C={c:g}: balanced {100 * score:.2f} after {model.n_iter_.max()} iterations", flush=True)
        if best is None or score > best[0]:
            best = score, c, (model.coef_.copy(), model.intercept_.copy())
    assert best is not None
    model.coef_, model.intercept_ = best[2]
    return model, best[1]


def _arrays(part: Part) -> tuple[Any, Any]:
    order_1N = torch.arange(len(part))[None]
    (features_ND,) = part.images.batches(order_1N, None)
    return features_ND.numpy(), part.targets.numpy()


if __name__ == "__main__":
    main()
