import pytest
import torch

from longtail.embedding import RangeLoss
from longtail.embedding.range import harmonic_ranges, nearest_means
from longtail.errors import InputError
from tests.embedding.examples import (
    COUNTS,
    DIM,
    Point,
    assert_equals_reference,
    batch,
    mean_of,
    squared,
    value_and_gradient,
)


@pytest.mark.parametrize("num_ranges", [1, 2, 5])
def test_equals_the_paper(num_ranges: int) -> None:
    def omega_range(row: int, points: list[Point], labels: list[int]) -> float:
        groups = [[p for p, label in zip(points, labels, strict=True) if label == c] for c in set(labels)]
        intra = 0.0
        for group in groups:
            ranges = sorted(squared(one, other) for i, one in enumerate(group) for other in group[:i])[-num_ranges:]
            intra += len(ranges) / sum(1 / value for value in ranges) if ranges else 0.0
        means = [mean_of(group) for group in groups]
        nearest = min(squared(one, other) for i, one in enumerate(means) for other in means[:i])
        return 0.3 * intra + 2.0 * max(0.0, 9.0 - nearest)

    loss = RangeLoss(COUNTS, num_ranges=num_ranges, margin=9.0, intra_scale=0.3, inter_scale=2.0)
    assert_equals_reference(loss, omega_range)
    assert nearest_means(*batch()) < 9.0  # so the second term counts


def test_value_by_hand() -> None:
    """Class 0 at 0 and 2, class 1 at 3 and 4: ranges 4 and 1, means 1 and 3.5, [10 - 6.25]."""
    embeddings, targets = torch.tensor([[0.0], [2.0], [3.0], [4.0]]), torch.tensor([0, 0, 1, 1])
    assert float(RangeLoss([5, 5], margin=10.0, weight=1.0)(embeddings, targets)) == pytest.approx(4 + 1 + 3.75)
    assert float(RangeLoss([5, 5], margin=6.0, weight=1.0)(embeddings, targets)) == pytest.approx(4 + 1)


def test_only_the_widest_pair_moves_with_one_range() -> None:
    loss = RangeLoss([5, 5], num_ranges=1, margin=0.0, weight=1.0)
    _, gradient = value_and_gradient(loss, torch.tensor([[0.0], [1.0], [3.0]]), torch.zeros(3, dtype=torch.long))
    assert gradient.flatten().tolist() == pytest.approx([-6.0, 0.0, 6.0], abs=1e-5)


def test_equal_embeddings_have_no_range_and_a_finite_gradient() -> None:
    embeddings, targets = torch.ones(4, DIM), torch.tensor([0, 0, 1, 1])
    value, gradient = value_and_gradient(RangeLoss(COUNTS, weight=1.0), embeddings, targets)
    assert float(value) == pytest.approx(1.0)  # the margin of the means
    assert gradient.isfinite().all()


def test_no_pair_at_all() -> None:
    assert float(harmonic_ranges(torch.zeros(1, 1), torch.tensor([0]), 2)) == 0.0
    assert float(nearest_means(torch.zeros(2, 1), torch.tensor([0, 0]))) == float("inf")
    assert float(RangeLoss(COUNTS)(torch.ones(2, DIM), torch.tensor([3, 3]))) < 1e-12


@pytest.mark.parametrize("num_ranges", [0, 1.5])
def test_bad_number_of_ranges_is_refused(num_ranges: int) -> None:
    with pytest.raises(InputError, match="`num_ranges` must be an integer >= 1"):
        RangeLoss(COUNTS, num_ranges=num_ranges)


@pytest.mark.parametrize("name", ["margin", "intra_scale", "inter_scale"])
def test_bad_scale_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"`(margin|intra_scale|inter_scale)` must be >= 0"):
        RangeLoss(COUNTS, **{name: -1.0})  # type: ignore[arg-type]
