"""Embeddings of two imbalanced moons, with logit margins alone and with embedding margins too.

Figure 1 and Section 2.3 of "ELM: Embedding and Logit Margins for Long-Tail Learning" (2022): a network with 16, 8 and 2
hidden units, 5 % of the images in the tail; the figure shows the two units before the output. The paper gives neither
the number of points, nor noise, lambda, alpha or the length of training. Here: 2,000 points with noise 0.1, lambda 0.1,
alpha equal to the share of the class, Adam at 5e-3, batches of 128 for 100 epochs. The two units have no ReLU: with a
ReLU, two of three seeds end with all embeddings at zero. The pull also shrinks all embeddings, so distances are given
raw, over the largest norm, and over the distance of the two centroids.
Shapes: N = points, B = batch, S = steps of an epoch.
"""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from sklearn.datasets import make_moons
from torch import Tensor, nn

from longtail import _random as randomness
from longtail._logging import progress_bar
from longtail.data.counts import ClassCounts
from longtail.embedding import PullLoss
from longtail.embedding.pull import Pairs
from longtail.errors import InputError
from longtail.evaluation import evaluate_logits
from longtail.evaluation.geometry import (
    class_centroids,
    largest_norm,
    mean_intra_class_distances,
    nearest_centroid_distances,
)
from longtail.losses import LogitAdjustedLoss
from longtail.papers.plot import Plot, Table
from longtail.report.style import GROUP_COLORS, GROUP_MARKERS
from longtail.samplers import ClassAwareSampler

HEAD, TAIL = 1_900, 100
NOISE = 0.1
BATCH = 128
LEARNING_RATE = 5e-3
METHODS: Mapping[str, Pairs | None] = {
    "LogAdj": None,
    "ELM, pairs of the batch": "batch",
    "ELM, balanced pairs": "balanced",
}


class Trial(NamedTuple):
    """Result of one method and one seed. Distances within a class are means over its pairs.

    Args:
        method: One of `METHODS`.
        seed: Seed of data, initialization and order.
        head: Distance within the head class.
        tail: Distance within the tail class.
        between: Distance of the two centroids.
        head_scaled: `head` over the largest norm of an embedding.
        tail_scaled: `tail` over the largest norm of an embedding.
        head_ratio: `head` over `between`.
        tail_ratio: `tail` over `between`.
        accuracy: Mean accuracy of the two classes on new points, in percent.
    """

    method: str
    seed: int
    head: float
    tail: float
    between: float
    head_scaled: float
    tail_scaled: float
    head_ratio: float
    tail_ratio: float
    accuracy: float


class MoonNet(nn.Module):
    """Network of three layers and a classifier: (B, 2) -> embeddings (B, 2) and logits (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        hidden = (nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
        self.backbone, self.head = nn.Sequential(*hidden), nn.Linear(2, 2)

    def forward(self, points_B2: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings and logits of points."""
        embeddings_B2 = self.backbone(points_B2)
        return embeddings_B2, self.head(embeddings_B2)


def two_moons(*, seeds: int = 3, epochs: int = 100, weight: float = 0.1) -> Plot:
    """Draw the embeddings of the training points for LogAdj, ELM with pairs of the batch and ELM with balanced pairs.

    Args:
        seeds: Number of seeds. Seed 0 is drawn; the table and the means include all.
        epochs: Number of epochs.
        weight: Weight of the pull, lambda.

    Raises:
        InputError: If `seeds` or `epochs` is below 1.
    """
    if seeds < 1 or epochs < 1:
        raise InputError(f"`seeds` and `epochs` must be integers >= 1, got {seeds} and {epochs}")
    trials, drawn = [], {}
    with progress_bar("two moons", seeds * len(METHODS)) as bar:
        for seed in range(seeds):
            points_N2, targets_N = moons(HEAD, TAIL, seed)
            for method, pairs in METHODS.items():
                net = train(points_N2, targets_N, pairs, seed=seed, epochs=epochs, weight=weight)
                trials.append(_measure(method, seed, net, points_N2, targets_N))
                if seed == 0:
                    drawn[method] = (_embed(net, points_N2), targets_N)
                bar.advance()
    return Plot(
        Table(Trial._fields, trials),
        lambda figure: _draw(figure, drawn, trials),
        height=2.7,
        note="embeddings over their largest norm; label: distance within the tail over distance of the centroids",
        summary=tuple(_format_trials(method, trials) for method in METHODS),
    )


def moons(head: int, tail: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return points (N, 2) on two moons and their labels (N,): 0 for the head, 1 for the tail."""
    points_N2, targets_N = make_moons((head, tail), noise=NOISE, random_state=seed)
    return torch.from_numpy(points_N2).float(), torch.from_numpy(targets_N).long()


def train(
    points_N2: Tensor, targets_N: Tensor, pairs: Pairs | None, *, seed: int, epochs: int, weight: float = 0.1
) -> MoonNet:
    """Train a network with logit adjustment, and with the pull of ELM if `pairs` is given.

    Args:
        points_N2: Training points.
        targets_N: Labels of the points.
        pairs: "batch" or "balanced", as in `PullLoss`. None trains without the pull.
        seed: Seed of initialization and order, which do not depend on the method.
        epochs: Number of epochs.
        weight: Weight of the pull, lambda.

    Example:
        >>> points, targets = moons(90, 10, seed=0)
        >>> embeddings, logits = train(points, targets, "batch", seed=0, epochs=1)(points)
        >>> embeddings.shape, logits.shape
        (torch.Size([100, 2]), torch.Size([100, 2]))
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.key("two moons", seed))
        net = MoonNet()
    counts = ClassCounts.from_targets(targets_N, 2)
    classify = LogitAdjustedLoss(counts)
    pull = None if pairs is None else PullLoss(counts, pairs=pairs, alpha_of="prior", alpha_power=1.0, weight=weight)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)
    for epoch in range(epochs):
        for first_B, second_B in zip(*_batches(targets_N, seed, epoch, pull is not None), strict=True):
            embeddings_B2, logits_B2 = net(points_N2[first_B])
            loss = classify(logits_B2, targets_N[first_B])
            if pull is not None and pairs == "batch":
                loss = loss + pull(embeddings_B2, targets_N[first_B])
            elif pull is not None:
                loss = loss + pull(net.backbone(points_N2[second_B]), targets_N[second_B])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net


def _batches(targets_N: Tensor, seed: int, epoch: int, balanced: bool) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return the batches of an epoch, and the same number of class-balanced ones."""
    order_N = torch.randperm(len(targets_N), generator=randomness.generator("order of the moons", seed, epoch))
    steps = max(1, len(order_N) // BATCH)
    first = order_N[: steps * BATCH].tensor_split(steps)
    if not balanced:
        return first, first
    sampler = ClassAwareSampler(targets_N, per_class=BATCH // 2, num_samples=steps * BATCH)
    return first, sampler.order(seed=seed, epoch=epoch).tensor_split(steps)


@torch.no_grad()
def _embed(net: MoonNet, points_N2: Tensor) -> Tensor:
    embeddings_N2: Tensor = net.backbone(points_N2)
    return embeddings_N2


@torch.no_grad()
def _measure(method: str, seed: int, net: MoonNet, points_N2: Tensor, targets_N: Tensor) -> Trial:
    embeddings_N2 = _embed(net, points_N2)
    head, tail = mean_intra_class_distances(embeddings_N2, targets_N, 2).tolist()
    between = float(nearest_centroid_distances(class_centroids(embeddings_N2, targets_N, 2))[0])
    largest = largest_norm(embeddings_N2)
    fresh_N2, labels_N = moons(1_000, 1_000, seed + 10_000)
    scores = evaluate_logits(net(fresh_N2)[1], labels_N, [HEAD, TAIL])
    ratios = (head / largest, tail / largest, head / between, tail / between)
    return Trial(method, seed, head, tail, between, *ratios, scores.balanced)


def _format_trials(method: str, trials: Sequence[Trial]) -> str:
    own = [trial for trial in trials if trial.method == method]
    mean_of = {field: mean(getattr(trial, field) for trial in own) for field in Trial._fields[2:]}
    return (
        f"{method:24} head|tail within: raw {mean_of['head']:.2f}|{mean_of['tail']:.2f}, over the largest norm "
        f"{mean_of['head_scaled']:.3f}|{mean_of['tail_scaled']:.3f}, over the distance of the centroids "
        f"({mean_of['between']:.2f}) {mean_of['head_ratio']:.3f}|{mean_of['tail_ratio']:.3f}; "
        f"accuracy {mean_of['accuracy']:.1f} % (n = {len(own)})"
    )


def _draw(figure: Figure, drawn: Mapping[str, tuple[Tensor, Tensor]], trials: Sequence[Trial]) -> None:
    panels = figure.subplots(1, len(drawn), sharex=True, sharey=True)
    for axes, (method, (embeddings_N2, targets_N)) in zip(panels, drawn.items(), strict=True):
        scaled_N2 = embeddings_N2 / largest_norm(embeddings_N2)
        for label, group, name in ((0, "many", "head"), (1, "few", "tail")):
            own_N2 = scaled_N2[targets_N == label]
            look = {"color": GROUP_COLORS[group], "ms": 3.5, "mew": 0, "alpha": 0.45, "label": name}
            axes.plot(own_N2[:, 0].numpy(), own_N2[:, 1].numpy(), GROUP_MARKERS[group], **look)
        trial = next(trial for trial in trials if trial.method == method and trial.seed == 0)
        axes.set_title(method.replace(", ", "\n") + ("\n" if ", " not in method else ""), fontsize=9.5)
        axes.set_xlabel(f"within/between {trial.tail_ratio:.3f}", fontsize=9)
        axes.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), xticks=[], yticks=[], aspect="equal")
        axes.grid(visible=False)
        axes.spines[:].set(visible=True, linewidth=0.5)
    legend = panels[0].legend(loc="best", fontsize=9, handletextpad=0.1)
    for handle in legend.legend_handles:
        handle.set(alpha=1.0, markersize=6)
