"""Time of a training step under each loss, over the same step under plain cross-entropy.

    python benchmarks/overhead.py [--steps 2] [--rounds 7] [--classes 100] [--device auto]

The same ResNet-32, batch and optimizer step (`TrainState.update`, what the loop calls); within a round every loss takes
its turn, so that a change of the machine's speed meets all alike. Printed: the median over the rounds of loss time /
cross-entropy time, with the lowest and highest. Losses that take cosines get a cosine head, and so does the
cross-entropy that they are held against.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from timing import seconds

from longtail import losses
from longtail.config import TrainingConfig
from longtail.models.classifier import Classifier
from longtail.models.heads import CosineHead, LinearHead
from longtail.models.resnet_cifar import resnet32
from longtail.run import choose_device
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.log import RunLog
from longtail.training.loop import TrainState
from longtail.training.step import Step

BATCH = 128


def stepper(name: str, cosine: bool, classes: int, device: torch.device, folder: Path) -> Callable[[], None]:
    torch.manual_seed(0)
    counts = [int(500 * 0.01 ** (label / (classes - 1))) for label in range(classes)]
    head = CosineHead(64, classes, scale=1.0) if cosine else LinearHead(64, classes)
    step = Step(Classifier(resnet32(), head), getattr(losses, name)(counts)).to(device).train()
    store, log = CheckpointStore(folder / "checkpoint"), RunLog(folder / "log.jsonl")
    state = TrainState(step, TrainingConfig(), Context(0, 0, "", device, store, log))
    images = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8, device=device)
    targets = torch.randint(0, classes, (BATCH,), device=device)
    return lambda: state.update(images, targets, lr=0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        sides = {}
        for name in losses.__all__:
            cosine = getattr(losses, name).expects_cosines
            sides[name, cosine] = stepper(name, cosine, options.classes, device, Path(folder))
        sides["CrossEntropy", True] = stepper("CrossEntropy", True, options.classes, device, Path(folder))
        for run in sides.values():
            run()
        times = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side, run in sides.items():
                times[side].append(seconds(run, device, options.steps))
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, B = {BATCH}, C = {options.classes}")
    for (name, cosine), taken in sorted(times.items()):
        ratios = [ours / plain for ours, plain in zip(taken, times["CrossEntropy", cosine], strict=True)]
        head = " (cosine head)" if cosine else ""
        print(f"{name + head:40} {statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
