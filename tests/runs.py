"""What tests compare of finished runs."""

from pathlib import Path

import torch


def bits(folder: Path) -> bytes:
    """Return the bytes of all tensors of the model in the last checkpoint of a run."""
    model = torch.load(folder / "checkpoint" / "last.pt", weights_only=True)["model"]
    return b"".join(tensor.numpy().tobytes() for tensor in model.values())
