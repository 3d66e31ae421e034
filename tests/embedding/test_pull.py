import math
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from longtail.data import long_tailed_counts
from longtail.embedding import PullLoss
from longtail.embedding.pairs import same_class
from longtail.embedding.pull import PAPER_SETTINGS, pull_margins
from longtail.errors import InputError
from longtail.samplers import ClassAwareSampler, InstanceSampler
from tests.embedding.examples import (
    COUNTS,
    DIM,
    Point,
    assert_equals_reference,
    batch,
    log1p_sum_exp,
    mean_of,
    squared,
    value_and_gradient,
)

ALPHA = [math.sqrt(count) for count in COUNTS]


def excesses(row: int, points: list[Point], labels: list[int]) -> list[float]:
    """d^2 - alpha_y to the other examples of the class."""
    mates = [point for i, point in enumerate(points) if i != row and labels[i] == labels[row]]
    return [squared(points[row], mate) - ALPHA[labels[row]] for mate in mates]


def omega_pull(row: int, points: list[Point], labels: list[int]) -> float:
    return log1p_sum_exp(excesses(row, points, labels))


@pytest.mark.parametrize("pairs", ["batch", "balanced"])
def test_equals_section_3_1(pairs: Any) -> None:
    assert_equals_reference(PullLoss(COUNTS, pairs=pairs), omega_pull)


def test_hinge_is_the_largest_excess() -> None:
    loss = PullLoss(COUNTS, relaxation="hinge")
    assert_equals_reference(loss, lambda *batch: max([0.0, *excesses(*batch)]))


def test_centroid_pairs() -> None:
    """The first batch sets the centroids."""
    loss = PullLoss(COUNTS, DIM, pairs="centroid")
    points, labels = batch(7)
    loss(points, labels)

    def to_centroid(row: int, now: list[Point], classes: list[int]) -> float:
        centroid = mean_of(points[labels == classes[row]].tolist())
        return log1p_sum_exp([squared(now[row], centroid) - ALPHA[classes[row]]])

    assert_equals_reference(loss, to_centroid)


def test_memory_pairs() -> None:
    """Those of the batch, and the newest of earlier ones until there are n - 1, or `memory_size`, in all."""
    loss = PullLoss(COUNTS, DIM, pairs="memory", memory_size=6)
    earlier: list[tuple[Point, int]] = []
    for seed in (1, 2):
        points, labels = batch(seed)
        loss(points, labels)
        earlier = [*zip(points.tolist(), labels.tolist(), strict=True)][::-1] + earlier

    def with_memory(row: int, now: list[Point], classes: list[int]) -> float:
        label = classes[row]
        mine = excesses(row, now, classes)
        room = max(0, min(COUNTS[label] - 1, 6) - len(mine))
        kept = [point for point, c in earlier if c == label][:room]
        return log1p_sum_exp(mine + [squared(now[row], point) - ALPHA[label] for point in kept])

    assert_equals_reference(loss, with_memory)


def test_value_by_hand() -> None:
    """Two images at distance 2, counts 4 and so alpha 2: log(1 + e^(4 - 2)); no partner for the third; lambda 0.1."""
    loss = PullLoss([4, 9], weight=0.1)
    value = loss(torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0]]), torch.tensor([0, 0, 1]))
    assert float(value) == pytest.approx(0.1 * 2 * math.log1p(math.exp(2)) / 3)


def test_softplus_lies_above_the_hinge() -> None:
    """By at most log(1 + pairs)."""
    for seed in range(5):
        embeddings, targets = batch(seed, dtype=torch.float64)
        soft, hinge = (PullLoss(COUNTS, relaxation=kind).per_example(embeddings, targets) for kind in SOFT_AND_HARD)
        pairs = same_class(targets).sum(dim=1)
        assert (soft[pairs > 0] > hinge[pairs > 0]).all()
        assert (soft <= hinge + torch.log1p(pairs) + 1e-9).all()


SOFT_AND_HARD: Any = ("softplus", "hinge")


@pytest.mark.parametrize("spread", [0.05, 1.0, 4.0])
def test_proposition_1_on_full_classes(spread: float) -> None:
    """2n / (n - 1) sum of the variances - alpha + log(n - 1) <= mean Omega."""
    embeddings = spread * torch.randn(sum(COUNTS), DIM, generator=torch.Generator().manual_seed(0))
    targets = torch.repeat_interleave(torch.tensor(COUNTS))
    omega = PullLoss(COUNTS).per_example(embeddings, targets)
    for c, n in enumerate(COUNTS[:-1]):  # the last has one image, and the bound divides by 0
        variances = embeddings[targets == c].var(dim=0, correction=0)
        bound = 2 * n / (n - 1) * float(variances.sum()) - ALPHA[c] + math.log(n - 1)
        assert bound <= float(omega[targets == c].mean()) + 1e-5


def test_proposition_1_is_tight_for_a_class_of_two_far_apart() -> None:
    embeddings = torch.tensor([[0.0], [6.0]])
    omega = PullLoss([2, 2]).per_example(embeddings, torch.tensor([0, 0]))
    assert float(omega.mean()) == pytest.approx(4 * 9 - math.sqrt(2), abs=1e-5)


class TestCifar100:
    """Imbalance 100, batches of 128: how often a batch holds a pair of the rarest class, of 5 images."""

    counts = long_tailed_counts(500, 100, 100)
    targets = torch.repeat_interleave(counts)

    def share_of_paired_batches(self, sampler: Any, epochs: int) -> float:
        paired = batches = 0
        for epoch in range(epochs):
            order = sampler.order(seed=0, epoch=epoch)
            rarest = (self.targets[order[: len(order) // 128 * 128]] == 99).view(-1, 128).sum(dim=1)
            paired, batches = paired + int((rarest >= 2).sum()), batches + len(rarest)
        return paired / batches

    def test_instance_sampling_hardly_ever_pairs_the_rarest(self) -> None:
        total, rarest = len(self.targets), 5
        none_or_one = math.comb(total - rarest, 128) + rarest * math.comb(total - rarest, 127)
        expected = 1 - none_or_one / math.comb(total, 128)
        assert expected == pytest.approx(0.00135, abs=1e-5)
        simulated = self.share_of_paired_batches(InstanceSampler(self.targets), epochs=600)
        assert simulated == pytest.approx(expected, rel=0.2)

    def test_the_stream_of_balanced_pairs_pairs_it_often(self) -> None:
        """A batch has 32 turns of four images, over 100 classes."""
        stream = PullLoss(self.counts, pairs="balanced").stream
        assert stream is not None
        assert stream.name == "ClassAwareSampler"
        sampler = ClassAwareSampler(self.targets, **stream.options)
        assert self.share_of_paired_batches(sampler, epochs=20) == pytest.approx(0.32, rel=0.1)


@pytest.mark.parametrize("pairs", ["batch", "memory", "centroid"])
def test_other_pairs_need_no_second_stream(pairs: Any) -> None:
    assert PullLoss(COUNTS, DIM, pairs=pairs).stream is None


def full_class_sums(embeddings: Tensor, targets: Tensor) -> Tensor:
    return PullLoss(COUNTS).per_example(embeddings, targets)


def test_memory_gives_the_sum_over_the_full_class() -> None:
    """Exact once every image was seen, if each pass has the same order; with fewer images per batch than classes."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.repeat_interleave(torch.tensor(COUNTS))[torch.randperm(sum(COUNTS), generator=generator)]
    embeddings = torch.randn(sum(COUNTS), DIM, generator=generator)
    expected = full_class_sums(embeddings, targets)
    remembers, forgets = PullLoss(COUNTS, DIM, pairs="memory", memory_size=50), PullLoss(COUNTS)
    seen, seen_in_batch = [], []
    for pass_number in range(2):
        for rows in torch.arange(sum(COUNTS)).split(7):
            if pass_number == 1:
                seen.append(remembers.per_example(embeddings[rows], targets[rows]))
                seen_in_batch.append(forgets.per_example(embeddings[rows], targets[rows]))
            remembers(embeddings[rows], targets[rows])
    torch.testing.assert_close(torch.cat(seen), expected)
    assert torch.cat(seen_in_batch).sum() < expected.sum() / 1.5


def test_count_correction_is_exact_on_average() -> None:
    """Over all choices of 2 of the other 7 images, exp(Omega) - 1 averages to that of the full class."""
    points = torch.randn(8, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = PullLoss([8, 8], count_correct=True)
    full = PullLoss([8, 8]).per_example(points, torch.zeros(8, dtype=torch.long))[0].expm1()
    sums = [
        loss.per_example(points[[0, *others]], torch.zeros(3, dtype=torch.long))[0].expm1()
        for others in combinations(range(1, 8), 2)
    ]
    torch.testing.assert_close(torch.stack(sums).mean(), full)


def test_count_correction_stands_for_nobody_where_the_class_has_one_image() -> None:
    """A sampler with replacement pairs it with itself: the sum over the full class is empty."""
    value, gradient = value_and_gradient(
        PullLoss([5, 1], count_correct=True), torch.tensor([[0.0], [3.0]]), torch.tensor([1, 1])
    )
    assert value == 0
    assert not gradient.any()


def test_stopped_keys_halve_the_gradient_and_keep_the_value() -> None:
    """Each end is a query once and a key once."""
    embeddings, targets = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([0, 0])
    value, gradient = value_and_gradient(PullLoss([4, 4]), embeddings, targets)
    stopped_value, stopped = value_and_gradient(PullLoss([4, 4], stop_grad_keys=True), embeddings, targets)
    torch.testing.assert_close(stopped_value, value)
    torch.testing.assert_close(2 * stopped, gradient)


def test_gradient_of_equal_embeddings_is_zero() -> None:
    for normalize in ("none", "l2", "scale_by_sqrt_dim"):
        loss = PullLoss(COUNTS, normalize=normalize)  # type: ignore[arg-type]
        _, gradient = value_and_gradient(loss, torch.ones(4, DIM), torch.zeros(4, dtype=torch.long))
        torch.testing.assert_close(gradient, torch.zeros(4, DIM))


def test_rarer_classes_are_pulled_harder() -> None:
    embeddings = torch.tensor([[0.0], [1.0]])
    losses = [float(PullLoss(COUNTS)(embeddings, torch.full((2,), c))) for c in range(5)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


def test_normalizations() -> None:
    embeddings, targets = batch()
    plain = PullLoss(COUNTS)
    by_length = plain(embeddings / embeddings.norm(dim=1, keepdim=True), targets)
    torch.testing.assert_close(PullLoss(COUNTS, normalize="l2")(embeddings, targets), by_length)
    by_width = plain(embeddings / math.sqrt(DIM), targets)
    torch.testing.assert_close(PullLoss(COUNTS, normalize="scale_by_sqrt_dim")(embeddings, targets), by_width)


def test_margins_of_the_paper() -> None:
    """The ranges of alpha: 0.004 to 0.40 in CIFAR-10-LT, 2.2 to 22.4 in CIFAR-100-LT."""
    counts = {"cifar10-lt": long_tailed_counts(5000, 10, 100), "cifar100-lt": long_tailed_counts(500, 100, 100)}
    ranges = {"cifar10-lt": (0.0040, 0.4030), "cifar100-lt": (math.sqrt(5), math.sqrt(500))}
    for name, (low, high) in ranges.items():
        loss = PullLoss(counts[name], **PAPER_SETTINGS[name])
        assert float(loss.alpha_C.min()) == pytest.approx(low, rel=0.01)
        assert float(loss.alpha_C.max()) == pytest.approx(high, rel=0.01)
        assert loss.weight == 0.01
    assert torch.equal(PullLoss(COUNTS).alpha_C, PullLoss(COUNTS, **PAPER_SETTINGS["cifar100-lt"]).alpha_C)
    assert pull_margins([3, 1], "prior", 10.0, 0.5).tolist() == pytest.approx([10 * math.sqrt(0.75), 5.0])
    assert PAPER_SETTINGS["imagenet-lt"]["weight"] == 0.001


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "memmory"}, "'memmory'; did you mean memory"),
        ({"alpha_of": "priors"}, "'priors'; did you mean prior"),
        ({"relaxation": "max"}, "relaxation 'max'"),
        ({"normalize": "l1"}, "'l1'; there are: l2"),
        ({"alpha_scale": -1.0}, "`alpha_scale` must be >= 0, got -1.0"),
        ({"alpha_power": float("nan")}, "`alpha_power` must be >= 0, got nan"),
        ({"memory_size": 0}, r"`memory_size` must be an integer >= 1 .*, got 0"),
        ({"count_correct": True, "relaxation": "hinge"}, "`count_correct=True` has no effect"),
        ({"pairs": "memory"}, "`embedding_dim` is required: PullLoss stores embeddings of each class"),
        ({"pairs": "centroid"}, "`embedding_dim` is required: PullLoss stores the centroid"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PullLoss(COUNTS, **options)
