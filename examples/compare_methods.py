"""Compare two methods on one data set, with two seeds each."""

import statistics
import tempfile
from pathlib import Path

import longtail as lt


def main() -> None:
    """Print the few-shot accuracy of each method, averaged over the seeds."""
    with tempfile.TemporaryDirectory() as scratch:
        for method in ("ce", "balanced-softmax"):
            few = []
            for seed in (0, 1):
                folder = Path(scratch) / f"{method}-{seed}"
                run = lt.train("digits-lt", method, seed=seed, epochs=20, out=folder)
                few.append(run.scores.few or 0.0)
            print(f"{method:18} few-shot accuracy {statistics.mean(few):.1f} (seeds: {few})")


if __name__ == "__main__":
    main()
