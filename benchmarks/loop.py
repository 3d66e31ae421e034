"""Images per second of the training loop, compared with its floor and with a usual PyTorch loop.

    python benchmarks/loop.py [--steps 40] [--rounds 5] [--device auto] [--precisions fp32 bf16] [--json FILE]

The floor is forward, backward and optimizer step on one fixed batch: no data, no augmentation, no bookkeeping. Floor
and our loop have the memory layout that `channels_last: null` chooses. The usual loop of peers uses torchvision's CIFAR
data set of PIL images, torchvision's transforms and a DataLoader with workers, single precision, contiguous layout. All
train the same ResNet-32 on random images of CIFAR's shape, in turn within every round. The script prints medians over
the rounds and a row for results.md; `--json` writes all times.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import seconds
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from longtail.config.schema import OptimizerConfig, ScheduleConfig, TrainingConfig
from longtail.data.dataset import Part
from longtail.data.resident import ResidentImages
from longtail.losses import BalancedSoftmax
from longtail.models.cifar import resnet32
from longtail.models.classifier import STATISTICS, Classifier
from longtail.models.heads import LinearHead
from longtail.run.fit import choose_device
from longtail.samplers import InstanceSampler
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.log import RunLog
from longtail.training.loop import train
from longtail.training.precision import channels_last_is_faster, computes_bf16
from longtail.training.state import AUTOCAST
from longtail.training.step import Step

BATCH, CLASSES = 128, 100


class PillowCIFAR(Dataset):
    """Equivalent of a loaded `torchvision.datasets.CIFAR100`: an array, `Image.fromarray`, a transform."""

    def __init__(self, images: np.ndarray, targets: list[int]) -> None:
        self.images, self.targets = images, targets
        mean, std = STATISTICS["cifar10"]
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


def new_model(device: torch.device) -> Classifier:
    torch.manual_seed(0)
    return Classifier(resnet32(), LinearHead(64, CLASSES), *STATISTICS["cifar10"]).to(device).train()


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4, fused=True)


def plain_step(
    model: nn.Module, optimizer: torch.optim.SGD, images: torch.Tensor, targets: torch.Tensor, precision: str
) -> None:
    with torch.autocast(images.device.type, AUTOCAST[precision], enabled=AUTOCAST[precision] is not None):
        loss = F.cross_entropy(model(images), targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def floor(steps: int, device: torch.device, precision: str) -> Callable[[], None]:
    model = new_model(device)
    if channels_last_is_faster(device, model.backbone):
        model.to(memory_format=torch.channels_last)
    optimizer = sgd(model)
    images = torch.rand(BATCH, 3, 32, 32, device=device) * 255
    targets = torch.randint(0, CLASSES, (BATCH,), device=device)

    def run() -> None:
        for _ in range(steps):
            plain_step(model, optimizer, images, targets, precision)

    return run


def ours(steps: int, device: torch.device, precision: str, engine: str, folder: Path) -> Callable[[], None]:
    pixels = torch.randint(0, 256, (steps * BATCH, 3, 32, 32), dtype=torch.uint8)
    data = Part(ResidentImages(pixels, device), torch.randint(0, CLASSES, (steps * BATCH,)))
    settings = TrainingConfig(
        epochs=1,
        batch_size=BATCH,
        augment="crop-flip",
        optimizer=OptimizerConfig(lr=0.1),
        schedule=ScheduleConfig(kind="constant"),
        precision=precision,
    )
    step = Step(new_model(device), BalancedSoftmax([100] * CLASSES))
    store, log = CheckpointStore(folder / "checkpoint"), RunLog(folder / "log.jsonl")

    def run() -> None:
        context = Context(seed=0, stage=0, split="", device=device, store=store, log=log, engine=engine)
        train(step, data, InstanceSampler(data.targets), settings, context)
        store.wait()

    return run


def peers(steps: int, device: torch.device, workers: int) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps * BATCH, 32, 32, 3), dtype=np.uint8)
    data = PillowCIFAR(images, rng.integers(0, CLASSES, steps * BATCH).tolist())
    pinned = device.type == "cuda"
    loader = DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, pin_memory=pinned, persistent_workers=workers > 0
    )
    model = new_model(device)
    # the transforms normalize already
    net = nn.Sequential(model.backbone, model.head)
    optimizer = sgd(net)

    def run() -> None:
        for batch, targets in loader:
            placed = batch.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            plain_step(net, optimizer, *placed, "fp32")

    return run


def measure(options: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each round of each loop, by "precision loop". The loops of a round run in turn."""
    sides = {"fp32 peers": peers(options.steps, device, options.workers)}
    for precision in options.precisions:
        sides[f"{precision} floor"] = floor(options.steps, device, precision)
        for engine in options.engines:
            place = folder / f"{precision}-{engine}"
            place.mkdir()
            sides[f"{precision} {engine}"] = ours(options.steps, device, precision, engine, place)
    for run in sides.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            times[name].append(seconds(run, device))
    return times


def ratio(over: list[float], under: list[float]) -> float:
    """Return the median of the ratios of two loops within the rounds."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def summary(times: dict[str, list[float]], images: int) -> list[dict[str, object]]:
    """Return a row per loop: images per second, share of the floor of its precision, and speed over the peers' loop."""
    rows = []
    for name, taken in times.items():
        precision, loop = name.split()
        rows.append(
            {
                "precision": precision,
                "loop": loop,
                "images_per_second": images / statistics.median(taken),
                "share_of_floor": ratio(times[f"{precision} floor"], taken) if f"{precision} floor" in times else None,
                "over_peers": ratio(times["fp32 peers"], taken),
                "seconds": taken,
            }
        )
    return rows


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="steps of each loop in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="workers of the peers' DataLoader")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precisions", nargs="+", help="default: fp32, and bf16 where the device computes it")
    parser.add_argument("--engines", nargs="+", help="default: eager, and captured on a GPU; compiled takes minutes")
    parser.add_argument("--json", type=Path, help="file to write all times to")
    options = parser.parse_args(given)
    device = choose_device(options.device)
    options.precisions = options.precisions or ["fp32", *(["bf16"] if computes_bf16(device) else [])]
    options.engines = options.engines or ["eager", *(["captured"] if device.type == "cuda" else [])]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    about = f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {options.steps} steps of {BATCH}"
    print(f"{about}, {options.rounds} rounds, load {load:.1f} at the start")
    with tempfile.TemporaryDirectory() as folder:
        rows = summary(measure(options, device, Path(folder)), options.steps * BATCH)
    print("precision  loop               images/s  share of the floor  over the peers' loop")
    for row in rows:
        share = "" if row["share_of_floor"] is None else f"{row['share_of_floor']:.1%}"
        print(
            f"{row['precision']:10} {row['loop']:18} {row['images_per_second']:8.0f} {share:>19} "
            f"{row['over_peers']:20.2f}x"
        )
    rates = ", ".join(f"{row['precision']} {row['loop']} {row['images_per_second']:.0f}" for row in rows)
    print(f"| {commit()} | {about} | {options.rounds} | {load:.1f} | {rates} |")
    if options.json is not None:
        options.json.write_text(json.dumps({"about": about, "commit": commit(), "load": load, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
