"""A folder of images from Python: what `longtail train photos/` does."""

import sys
import tempfile
from pathlib import Path

import torch

from longtail.config.schema import DataConfig
from longtail.data.export import export_dataset
from longtail.data.load import load_data
from longtail.run.fit import fit
from longtail.run.resolve import resolve_names


def main() -> None:
    """Train on the folder given, or on a folder of digits written for the purpose."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "digits"
        if not folder.exists():
            export_dataset(load_data(DataConfig(), torch.device("cpu")), folder)
        plan = resolve_names(str(folder), None, None, [{"training": {"epochs": 5}}], torch.device("cpu"))
        print("\n".join(plan.reasons))
        run = fit(plan.config, Path(scratch) / "run", data=plan.data)
        print({key: round(value, 1) for key, value in run.scores.summary().items() if value is not None})


if __name__ == "__main__":
    main()
