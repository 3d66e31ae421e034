"""Two methods on one data set, two seeds each, from Python."""

import statistics
import tempfile
from pathlib import Path

from longtail.config import recipes
from longtail.run.fit import fit


def main() -> None:
    """Print the few-shot accuracy of each, mean over the seeds."""
    with tempfile.TemporaryDirectory() as scratch:
        for method in ("ce", "balanced-softmax"):
            few = []
            for seed in (0, 1):
                config = recipes.compose("digits-lt", method, changes=[{"seed": seed, "training": {"epochs": 20}}])
                few.append(fit(config, Path(scratch) / f"{method}-{seed}").scores.few or 0.0)
            print(f"{method:18} few-shot accuracy {statistics.mean(few):.1f} (seeds: {few})")


if __name__ == "__main__":
    main()
