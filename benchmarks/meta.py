"""The bilevel step of BALMS: seconds an iteration against `higher`, and memory of a draw.

    pip install higher
    python benchmarks/meta.py [--steps 50] [--rounds 7] [--device auto] [--threads 1] [--skip-memory]

Two sides take the same iteration (a linear head of 100 classes on 10,847 embeddings of 64 numbers, a batch of 512 drawn
at the level of classes, a class-balanced batch of 512), in turn within every round: the loop's own, which takes the
step once and the gradient of the rates in closed form, and the six steps of the authors' code with
`higher.innerloop_ctx`. A first check asserts that both learn the same. Medians over the rounds are printed, and the
ratio of each round's times: its median, lowest and highest.

Then the most memory at once that a draw of 512 takes at the size of ImageNet-LT (115,846 images, 1,000 classes), at the
level of classes and at that of images, counted over the allocator's own events (CPU) or by its statistics (CUDA).
Shapes: N = images, D = embedding dimension, K = classes, B = batch.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.config import OptimizerConfig, TrainingConfig
from longtail.data import long_tailed_counts
from longtail.data.augment import policy
from longtail.data.dataset import Part
from longtail.losses import BalancedSoftmax
from longtail.models.classifier import Classifier
from longtail.models.heads import LinearHead
from longtail.models.small import small_net
from longtail.run import choose_device
from longtail.samplers import MetaSampler
from longtail.training.bilevel import BilevelState, Feed
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.features import FeatureImages
from longtail.training.log import RunLog
from longtail.training.step import Step

CLASSES, DIMENSION, BATCH = 100, 64, 512
SETTINGS = TrainingConfig(batch_size=BATCH, optimizer=OptimizerConfig(lr=0.1, weight_decay=5e-4, nesterov=False))
COUNTS = long_tailed_counts(500, CLASSES, 100)


class Ours:
    """The loop's own feed and state."""

    def __init__(self, embeddings_ND: Tensor, targets_N: Tensor, head: nn.Module) -> None:
        folder, device = Path(tempfile.mkdtemp()), embeddings_ND.device
        context = Context(0, 0, "", device, CheckpointStore(folder), RunLog(folder / "log.jsonl"))
        model = Classifier(small_net(), copy.deepcopy(head)).to(device)
        model.backbone.requires_grad_(False)
        self.head = model.head
        self.sampler = MetaSampler(targets_N).to(device)
        self.state = BilevelState(
            Step(model, BalancedSoftmax(COUNTS).to(device), "skip"), self.sampler, SETTINGS, context
        )
        data = Part(FeatureImages(embeddings_ND), targets_N)
        self.feed = Feed(data, self.sampler, context, policy("none"), BATCH, BATCH, 1)

    def run(self, first: int, last: int) -> None:
        """Take the iterations from `first` to `last`."""
        for _, drawn, balanced in self.feed.batches(0, first, last):
            self.state.learn(drawn, balanced, SETTINGS.optimizer.lr)


class WithHigher:
    """The six steps of the authors' code, on the same batches."""

    def __init__(self, embeddings_ND: Tensor, targets_N: Tensor, head: nn.Module) -> None:
        twin = Ours(embeddings_ND, targets_N, head)  # for its feed
        self.head, self.sampler, self.feed = twin.head, twin.sampler, twin.feed
        options = SETTINGS.optimizer
        self.optimizer = torch.optim.SGD(
            self.head.parameters(), lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
        self.loss = BalancedSoftmax(COUNTS, reduction="none").to(embeddings_ND.device)

    def run(self, first: int, last: int) -> None:
        """Take the iterations from `first` to `last`."""
        import higher

        learner = self.sampler.optimizer
        for _, drawn, balanced in self.feed.batches(0, first, last):
            samples_B = drawn.draw.weights(self.sampler.log_rates)
            self.optimizer.zero_grad()
            learner.zero_grad()
            with higher.innerloop_ctx(self.head, self.optimizer) as (copied, differentiable):
                differentiable.step((self.loss(copied(drawn.images), drawn.targets_B) * samples_B).mean())
                meta_loss = F.cross_entropy(copied(balanced.images), balanced.targets_B)
                (self.sampler.logits_K.grad,) = torch.autograd.grad(meta_loss, self.sampler.logits_K)
            learner.step()
            self.loss(self.head(drawn.images), drawn.targets_B).mean().backward()
            self.optimizer.step()


def seconds(run: Callable[[int, int], None], first: int, last: int, device: torch.device) -> float:
    """Seconds of an iteration."""
    started = time.perf_counter()
    run(first, last)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / (last - first)


def compare(steps: int, rounds: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    targets_N = torch.repeat_interleave(COUNTS)
    embeddings_ND = torch.randn(len(targets_N), DIMENSION, generator=generator).relu().to(device)
    torch.manual_seed(0)
    head = LinearHead(DIMENSION, CLASSES).to(device)
    sides = {"closed form": Ours(embeddings_ND, targets_N, head), "higher": WithHigher(embeddings_ND, targets_N, head)}
    for side in sides.values():
        side.run(0, 10)
    ours, theirs = sides.values()
    torch.testing.assert_close(ours.head.weight, theirs.head.weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.sampler.rates, theirs.sampler.rates, rtol=1e-2, atol=1e-3)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        first = 10 + turn * steps
        for name, side in list(sides.items())[:: 1 if turn % 2 else -1]:
            times[name].append(seconds(side.run, first, first + steps, device))
    for name, values in times.items():
        print(f"{name:12} {1e3 * statistics.median(values):8.3f} ms an iteration")
    ratios = sorted(slow / fast for fast, slow in zip(times["closed form"], times["higher"], strict=True))
    print(
        f"ratio        {statistics.median(ratios):8.2f}    ({ratios[0]:.2f} to {ratios[-1]:.2f} over {rounds} rounds)"
    )


def peak_memory(work: Callable[[], object], device: torch.device) -> float:
    """The most memory that some work holds at once beyond what was held before, in MB (10^6 bytes)."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    held, most = 0, 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 1e6


def draws(device: torch.device) -> None:
    """A long tail of ImageNet-LT's size and extremes: 1,280 images of the fullest class, 5 of the rarest."""
    counts = (5 + 1275 * torch.linspace(1, 0, 1000) ** 10.4).long()
    counts[0] += 115_846 - counts.sum()
    targets_N = torch.repeat_interleave(counts)
    for level in ("class", "instance"):
        sampler = MetaSampler(targets_N, level=level).to(device)
        megabytes = peak_memory(lambda draw=sampler.draw_batch: draw(BATCH, torch.Generator().manual_seed(0)), device)
        print(f"draw of {BATCH} from {len(targets_N):,} by {level:9} {megabytes:8.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, help="iterations of a side in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip-memory", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    print(f"torch {torch.__version__}, {device}, {arguments.threads} threads")
    compare(arguments.steps, arguments.rounds, device)
    if not arguments.skip_memory:
        draws(device)


if __name__ == "__main__":
    main()
