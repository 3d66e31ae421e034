"""Time of a training step with each loss, embedding loss and transfer, relative to cross-entropy.

    python benchmarks/overhead.py [--steps 2] [--rounds 7] [--classes 100] [--only PullLoss ...] [--device auto]

All sides use the same ResNet-32, batch and optimizer step (`TrainState.update` of the loop). They run in turn within
every round, so that changes of the machine's speed affect all of them. Printed: the median over the rounds of the ratio
to cross-entropy, with minimum and maximum. Losses of cosines, and the cross-entropy that they are compared with, have a
cosine head. Methods with a second stream of images are compared with cross-entropy on a batch of twice the size.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timing import seconds

from longtail import embedding, losses, transfer
from longtail.config.schema import TrainingConfig
from longtail.models.cifar import resnet32
from longtail.models.classifier import Classifier
from longtail.models.heads import CosineHead, LinearHead
from longtail.run.fit import choose_device
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.log import RunLog
from longtail.training.state import TrainState
from longtail.training.step import Step

BATCH = 128


@dataclass(frozen=True)
class Side:
    """A loss, embedding loss or transfer to time.

    Args:
        name: Name in the table.
        loss: Name of the loss.
        embedding_loss: Name of the embedding loss, or None.
        transfer: Name of the transfer, or None.
        options: Options of the embedding loss or transfer.
        cosine: Whether the head gives cosines.
        streams: Number of image streams.
    """

    name: str
    loss: str = "CrossEntropy"
    embedding_loss: str | None = None
    transfer: str | None = None
    options: tuple[tuple[str, Any], ...] = ()
    cosine: bool = False
    streams: int = 1

    @property
    def plain(self) -> "Side":
        """Cross-entropy under the same conditions."""
        streams = " (two streams)" if self.streams == 2 else ""
        head = " (cosine head)" if self.cosine else ""
        return Side(f"CrossEntropy{streams}{head}", cosine=self.cosine, streams=self.streams)


def sides() -> list[Side]:
    found = [Side(name, name, cosine=getattr(losses, name).expects_cosines) for name in losses.__all__]
    found += [Side(name, "BalancedSoftmax", embedding_loss=name) for name in embedding.__all__]
    for pairs in ("memory", "centroid"):
        found.append(Side(f"PullLoss {pairs}", "BalancedSoftmax", "PullLoss", options=(("pairs", pairs),)))
    found.append(Side("PullLoss balanced", "BalancedSoftmax", "PullLoss", options=(("pairs", "balanced"),), streams=2))
    found += [Side("ISDA", transfer="ISDA"), Side("SemanticTransfer", transfer="SemanticTransfer", streams=2)]
    return found


def stepper(side: Side, classes: int, device: torch.device, folder: Path) -> Callable[[], None]:
    torch.manual_seed(0)
    counts = [int(500 * 0.01 ** (label / (classes - 1))) for label in range(classes)]
    model = Classifier(resnet32(), CosineHead(64, classes, scale=1.0) if side.cosine else LinearHead(64, classes))
    pull = side.embedding_loss and getattr(embedding, side.embedding_loss)(counts, 64, **dict(side.options))
    moved = side.transfer and getattr(transfer, side.transfer)(counts, 64, **dict(side.options))
    step = Step(model, getattr(losses, side.loss)(counts), embedding_loss=pull or None, transfer=moved or None)
    step.to(device).train().set_progress(0.5)
    store, log = CheckpointStore(folder / "checkpoint"), RunLog(folder / "log.jsonl")
    state = TrainState(
        step, TrainingConfig(precision="fp32", channels_last=False), Context(0, 0, "", device, store, log)
    )
    images = torch.randint(0, 256, (side.streams * BATCH, 3, 32, 32), dtype=torch.uint8, device=device)
    targets = torch.randint(0, classes, (side.streams * BATCH,), device=device)
    return lambda: state.update(0.01, images, targets)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--only", nargs="+", help="first words of the names to time; default: all")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(given)
    device = choose_device(options.device)
    timed = [side for side in sides() if options.only is None or side.name.split()[0] in options.only]
    with tempfile.TemporaryDirectory() as folder:
        every = dict.fromkeys([*timed, *(side.plain for side in timed)])
        runs = {side: stepper(side, options.classes, device, Path(folder)) for side in every}
        for run in runs.values():
            run()
        times = {side: [] for side in runs}
        for _ in range(options.rounds):
            for side, run in runs.items():
                times[side].append(seconds(run, device, options.steps))
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, B = {BATCH}, C = {options.classes}")
    for side in sorted(timed, key=lambda each: each.name):
        ratios = [ours / plain for ours, plain in zip(times[side], times[side.plain], strict=True)]
        name = side.name + (" (cosine head)" if side.cosine else "") + (" (two streams)" if side.streams == 2 else "")
        print(f"{name:40} {statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
