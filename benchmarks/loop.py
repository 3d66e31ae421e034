"""Images per second of the training loop, compared with its floor and with a usual PyTorch loop.

    python benchmarks/loop.py [--steps 40] [--rounds 5] [--device auto] [--precisions fp32 bf16]

The floor is forward, backward and optimizer step on one fixed batch: no data, no augmentation, no bookkeeping. The
usual loop of peers uses torchvision's CIFAR data set of PIL images, torchvision's transforms and a DataLoader with
workers. All three train the same ResNet-32 on random images of CIFAR's shape, in turn within every round. Medians over
the rounds are printed.
"""

import argparse
import os
import statistics
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
    optimizer = sgd(model)
    images = torch.rand(BATCH, 3, 32, 32, device=device) * 255
    targets = torch.randint(0, CLASSES, (BATCH,), device=device)

    def run() -> None:
        for _ in range(steps):
            plain_step(model, optimizer, images, targets, precision)

    return run


def ours(steps: int, device: torch.device, precision: str, folder: Path) -> Callable[[], None]:
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
        context = Context(seed=0, stage=0, split="", device=device, store=store, log=log)
        train(step, data, InstanceSampler(data.targets), settings, context)

    return run


def peers(steps: int, device: torch.device, precision: str, workers: int) -> Callable[[], None]:
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
            plain_step(net, optimizer, *placed, precision)

    return run


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="steps of each loop in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="workers of the peers' DataLoader")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    options = parser.parse_args(given)
    device = choose_device(options.device)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {options.steps} steps of {BATCH}")
    print("precision  loop     images/s (median)  share of the floor (median of the rounds' ratios)")
    for precision in options.precisions:
        with tempfile.TemporaryDirectory() as folder:
            sides = {
                "floor": floor(options.steps, device, precision),
                "ours": ours(options.steps, device, precision, Path(folder)),
                "peers": peers(options.steps, device, precision, options.workers),
            }
            for run in sides.values():
                run()
            times = {name: [] for name in sides}
            for _ in range(options.rounds):
                for name, run in sides.items():
                    times[name].append(seconds(run, device))
        for name, taken in times.items():
            rate = options.steps * BATCH / statistics.median(taken)
            share = statistics.median(f / t for f, t in zip(times["floor"], taken, strict=True))
            print(f"{precision:10} {name:8} {rate:10.0f}         {share:8.1%}")


if __name__ == "__main__":
    main()
