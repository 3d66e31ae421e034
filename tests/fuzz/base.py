"""Valid inputs that the fuzz damages: images, a run on them, its features and predictions."""

import io
import shutil
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from longtail.cli import main

CLASSES = {"ant": 6, "bee": 5, "cat": 4}
TRAIN = ("--epochs", "1", "--backbone", "small_net", "--pretrained", "false", "--method", "ce", "--device", "cpu")

AGAIN = (*TRAIN, "--epochs", "2", "--val-share", "0.2", "--set", "checkpoint_seconds=0")
"""Options of the run, which another run needs to start from it."""


def noise(rng: Random, height: int, width: int, channels: int = 3) -> np.ndarray[Any, Any]:
    """Return an image of noise, uint8, shape (height, width, channels)."""
    return np.frombuffer(rng.randbytes(height * width * channels), np.uint8).reshape(height, width, channels)


def run(*arguments: object) -> None:
    """Run a command that must succeed."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"longtail {' '.join(map(str, arguments))} ended with {ended.code}") from None


class Base:
    """Folder of valid inputs. It must be the current folder while they are made, as that of each case is.

    Args:
        folder: Empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._images(folder / "data" / "images")
        run("train", "data/images", *AGAIN, "--out", "data/run")
        run("features", "data/run", "data/images", "--output", "data/features.npz")
        shutil.rmtree(folder / "data" / "run" / ".lock", ignore_errors=True)

    @staticmethod
    def _images(folder: Path) -> None:
        rng = Random(0)
        for name, count in CLASSES.items():
            (folder / name).mkdir(parents=True)
            for index in range(count):
                Image.fromarray(noise(rng, 12, 12)).save(folder / name / f"{index}.png")

    @cached_property
    def paths(self) -> list[tuple[str, str]]:
        """Path and class of each image, relative to `data`."""
        return [(f"images/{name}/{index}.png", name) for name, count in CLASSES.items() for index in range(count)]

    @cached_property
    def config(self) -> dict[str, Any]:
        """Configuration of the run."""
        content: dict[str, Any] = yaml.safe_load((self.folder / "data/run/config.yaml").read_text())
        return content

    @cached_property
    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Predictions of the run."""
        return dict(np.load(self.folder / "data/run/predictions.npz"))

    @cached_property
    def features(self) -> dict[str, np.ndarray[Any, Any]]:
        """Features of the images."""
        return dict(np.load(self.folder / "data/features.npz"))

    @cached_property
    def checkpoints(self) -> dict[str, dict[str, Any]]:
        """Checkpoint of the finished run, and one in the middle of it."""
        place = self.folder / "data/run/checkpoint"
        names = {"end": "last.pt", "middle": "previous.pt"}
        return {key: torch.load(place / name, weights_only=True) for key, name in names.items()}

    @cached_property
    def cifar(self) -> bytes:
        """A CIFAR-10 archive in the binary layout, with black images."""
        import tarfile

        records = np.zeros((10_000, 3073), np.uint8)
        records[:, 0] = np.arange(10_000) % 10
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
            for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                member.size = records.nbytes
                archive.addfile(member, io.BytesIO(records.tobytes()))
        return file.getvalue()
