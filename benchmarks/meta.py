"""Bilevel step of BALMS: seconds per iteration compared with `higher`, and memory of a draw.

    pip install higher
    python benchmarks/meta.py [--steps 50] [--rounds 7] [--device auto] [--threads 1] [--skip-memory]

Two sides run the same iteration in turn within every round: a linear head of 100 classes on 10,847 embeddings of 64
numbers, a batch of 512 drawn by class, and a class-balanced batch of 512. Ours is the training loop, which takes the
step once and the gradient of the rates in closed form. The other side takes the six steps of the authors' code with
`higher.innerloop_ctx`. A first check asserts that both learn the same. Three variants are timed: the step on batches
drawn in advance; with the same draw on both sides; and with the authors' draw (a Gumbel softmax over all images) on the
side of `higher`. Medians over the rounds are printed, with median, minimum and maximum of the ratio.

Then the peak memory of a draw of 512 at the size of ImageNet-LT (115,846 images, 1,000 classes), by class and by image,
from the events of the allocator (CPU) or its statistics (CUDA).
Shapes: N = images, D = embedding dimension, K = classes, B = batch.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path

import higher
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.config.schema import OptimizerConfig, TrainingConfig
from longtail.data import long_tailed_counts
from longtail.data.dataset import Part
from longtail.losses import BalancedSoftmax
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier
from longtail.models.heads import LinearHead
from longtail.run.fit import choose_device
from longtail.samplers import MetaSampler
from longtail.samplers.meta import Level
from longtail.training.balms.bilevel import Batch, BilevelState, MetaFeed
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.features import FeatureImages
from longtail.training.log import RunLog
from longtail.training.step import Step

CLASSES, DIMENSION, BATCH = 100, 64, 512
SGD = OptimizerConfig(lr=0.1, weight_decay=5e-4, nesterov=False)
SETTINGS = TrainingConfig(batch_size=BATCH, augment="none", optimizer=SGD, precision="fp32", channels_last=False)
COUNTS = long_tailed_counts(500, CLASSES, 100)


class Ours:
    """Feed and state of the training loop."""

    def __init__(self, embeddings_ND: Tensor, targets_N: Tensor, head: nn.Module, level: Level = "class") -> None:
        folder, device = Path(tempfile.mkdtemp()), embeddings_ND.device
        context = Context(0, 0, "", device, CheckpointStore(folder), RunLog(folder / "log.jsonl"))
        model = Classifier(small_net(), copy.deepcopy(head)).to(device)
        model.backbone.requires_grad_(False)
        self.head = model.head
        self.sampler = MetaSampler(targets_N, level=level).to(device)
        self.state = BilevelState(
            Step(model, BalancedSoftmax(COUNTS).to(device), "skip"), self.sampler, SETTINGS, context
        )
        data = Part(FeatureImages(embeddings_ND), targets_N)
        self.feed = MetaFeed(data, self.sampler, SETTINGS, context, BATCH, 1)

    def batches(self, first: int, last: int) -> Iterator[tuple[Batch, Batch]]:
        """Return the batches of iterations `first` to `last`: drawn by the current rates, and class-balanced."""
        epoch, step = divmod(first, self.feed.steps)
        later = (self.feed.batches(each, 0) for each in count(epoch + 1))
        return islice(chain(self.feed.batches(epoch, step), chain.from_iterable(later)), last - first)

    def step(self, drawn: Batch, balanced: Batch) -> None:
        """Run one iteration on drawn batches."""
        self.state.update(SETTINGS.optimizer.lr, drawn, balanced)


class WithHigher(Ours):
    """Six steps of the authors' code on the same batches."""

    def __init__(self, embeddings_ND: Tensor, targets_N: Tensor, head: nn.Module, level: Level = "class") -> None:
        super().__init__(embeddings_ND, targets_N, head, level)
        options = SETTINGS.optimizer
        self.optimizer = torch.optim.SGD(
            self.head.parameters(), lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
        self.loss = BalancedSoftmax(COUNTS, reduction="none").to(embeddings_ND.device)

    def step(self, drawn: Batch, balanced: Batch) -> None:
        """Run one iteration on drawn batches."""
        samples_B = drawn.draw.weights(self.sampler.log_rates)
        self.optimizer.zero_grad()
        with higher.innerloop_ctx(self.head, self.optimizer) as (copied, differentiable):
            differentiable.step((self.loss(copied(drawn.images), drawn.targets_B) * samples_B).mean())
            meta_loss = F.cross_entropy(copied(balanced.images), balanced.targets_B)
            (gradient_K,) = torch.autograd.grad(meta_loss, self.sampler.logits_K)
        self.sampler.learn(gradient_K)
        self.loss(self.head(drawn.images), drawn.targets_B).mean().backward()
        self.optimizer.step()


def seconds(side: Ours, first: int, last: int, *, draw: bool, device: torch.device) -> float:
    """Return the seconds of an iteration, with or without its draws."""
    pairs = side.batches(first, last) if draw else list(side.batches(first, first + 1)) * (last - first)
    started = time.perf_counter()
    for drawn, balanced in pairs:
        side.step(drawn, balanced)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / (last - first)


def compare(words: str, sides: tuple[Ours, Ours], steps: int, rounds: int, *, draw: bool) -> None:
    """Time both sides in turn within every round, with alternating order."""
    device = sides[0].state.context.device
    times: list[tuple[float, float]] = []
    for turn in range(rounds + 1):
        span = (turn * steps, (turn + 1) * steps)
        measured = [seconds(side, *span, draw=draw, device=device) for side in sides[:: 1 if turn % 2 else -1]]
        ours, theirs = measured[:: 1 if turn % 2 else -1]
        times.append((ours, theirs))
    del times[0]  # the warm-up
    ratios = sorted(theirs / ours for ours, theirs in times)
    milliseconds = [1e3 * statistics.median(values) for values in zip(*times, strict=True)]
    print(
        f"{words:42} {milliseconds[0]:8.3f} ms, with higher {milliseconds[1]:8.3f} ms, "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def compare_all(steps: int, rounds: int, device: torch.device) -> None:
    """Check that both sides learn the same, and time them."""
    generator = torch.Generator().manual_seed(0)
    targets_N = torch.repeat_interleave(COUNTS)
    embeddings_ND = torch.randn(len(targets_N), DIMENSION, generator=generator).relu().to(device)
    torch.manual_seed(0)
    material = (embeddings_ND, targets_N, LinearHead(DIMENSION, CLASSES).to(device))
    ours, theirs = Ours(*material), WithHigher(*material)
    for side in (ours, theirs):
        seconds(side, 0, 10, draw=True, device=device)
    torch.testing.assert_close(ours.head.weight, theirs.head.weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.sampler.rates, theirs.sampler.rates, rtol=1e-2, atol=1e-3)
    compare("the bilevel step", (ours, theirs), steps, rounds, draw=False)
    compare("with the same draw, by class", (ours, theirs), steps, rounds, draw=True)
    authors = WithHigher(*material, level="instance")
    compare("with the authors' draw, by instance", (ours, authors), 2, rounds, draw=True)


def peak_memory(work: Callable[[], object], device: torch.device) -> float:
    """Return the peak memory of some work above the memory held before, in MB (10^6 bytes)."""
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
    """Measure draws from a long tail of the size of ImageNet-LT: 1,280 to 5 images per class."""
    counts = (5 + 1275 * torch.linspace(1, 0, 1000) ** 10.4).long()
    counts[0] += 115_846 - counts.sum()
    targets_N = torch.repeat_interleave(counts)
    for level in ("class", "instance"):
        sampler = MetaSampler(targets_N, level=level).to(device)
        megabytes = peak_memory(lambda draw=sampler.draw_batch: draw(BATCH, torch.Generator().manual_seed(0)), device)
        print(f"draw of {BATCH} from {len(targets_N):,} by {level:9} {megabytes:8.1f} MB")


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, help="iterations of each side in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip-memory", action="store_true")
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    print(f"torch {torch.__version__}, {device}, {arguments.threads} threads")
    compare_all(arguments.steps, arguments.rounds, device)
    if not arguments.skip_memory:
        draws(device)


if __name__ == "__main__":
    main()
