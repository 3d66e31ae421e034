"""Intra-class distances, compactness and logit margins against slow loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.data import ClassCounts
from longtail.errors import InputError
from longtail.evaluation import class_means, empirical_cdf, geometry, logit_margins
from longtail.evaluation.geometry import (
    class_centroids,
    compactness,
    largest_norm,
    max_intra_class_distances,
    mean_intra_class_distances,
    nearest_centroid_distances,
)
from tests.evaluation.conftest import Example

COUNTS = (12, 7, 0, 3, 1)  # no example of class 2, one of class 4


def examples(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets_N = torch.repeat_interleave(torch.tensor(COUNTS))[torch.randperm(sum(COUNTS), generator=generator)]
    return torch.randn(sum(COUNTS), 6, generator=generator).to(dtype), targets_N


def distance(one: list[float], other: list[float]) -> float:
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


def pairs_of(embeddings_ND: Tensor, targets_N: Tensor, row: int) -> list[float]:
    points, labels = embeddings_ND.tolist(), targets_N.tolist()
    return [distance(points[row], points[i]) for i in range(len(points)) if i != row and labels[i] == labels[row]]


@pytest.mark.parametrize("block", [1, 25, 2**22])
def test_largest_and_mean_distances_equal_slow_loops(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "BLOCK", block)
    embeddings, targets = examples()
    by_row = [pairs_of(embeddings, targets, row) for row in range(len(targets))]
    longest = max(distance(point, [0.0] * 6) for point in embeddings.tolist())
    expected = torch.tensor([max(pairs) if pairs else math.nan for pairs in by_row], dtype=torch.float64)
    raw = max_intra_class_distances(embeddings, targets, relative=False)
    torch.testing.assert_close(raw, expected, equal_nan=True)
    torch.testing.assert_close(max_intra_class_distances(embeddings, targets), expected / longest, equal_nan=True)
    means = []
    for c, count in enumerate(COUNTS):
        distances = [d for row, pairs in enumerate(by_row) if targets[row] == c for d in pairs]
        means.append(sum(distances) / len(distances) if count > 1 else math.nan)
    actual = mean_intra_class_distances(embeddings, targets, 5)
    torch.testing.assert_close(actual, torch.tensor(means, dtype=torch.float64), equal_nan=True)


@pytest.mark.parametrize("block", [1, 7, 2**22])
def test_nearest_centroid_equals_slow_loops(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "BLOCK", block)
    embeddings, targets = examples(torch.float64)
    centroids = class_centroids(embeddings, targets, 5)
    for c in (0, 1, 3, 4):
        torch.testing.assert_close(centroids[c], embeddings[targets == c].mean(dim=0))
    assert centroids[2].isnan().all()
    nearest = nearest_centroid_distances(centroids)
    for c in (0, 1, 3, 4):
        points = centroids.tolist()
        assert float(nearest[c]) == pytest.approx(min(distance(points[c], points[k]) for k in {0, 1, 3, 4} - {c}))
    assert nearest[2].isnan()


def test_one_class_has_no_neighbour() -> None:
    assert nearest_centroid_distances(class_centroids(torch.randn(4, 2), torch.zeros(4).long(), 3)).isnan().all()


def test_groups_by_hand() -> None:
    """Class 0 at 0, 1, 2: maxima 2, 1, 2, mean 4/3. Class 1 at 9 and 11, with centroids 9 apart."""
    embeddings = torch.tensor([[0.0], [1.0], [2.0], [9.0], [11.0]])
    targets = torch.tensor([0, 0, 0, 1, 1])
    groups = ClassCounts([200, 50, 2]).groups(many_closed=True)
    values = compactness(embeddings, targets, groups)
    assert values["many"] == pytest.approx((5 / 3, 4 / 3, 9.0, 4 / 27))
    assert values["medium"] == pytest.approx((2.0, 2.0, 9.0, 2 / 9))
    assert values["few"] == (None, None, None, None)
    relative = compactness(embeddings, targets, groups, relative=True)
    assert relative["many"] == pytest.approx((5 / 33, 4 / 33, 9 / 11, 4 / 27))


def test_every_class_of_a_group_counts_the_same() -> None:
    embeddings, targets = examples()
    everything = compactness(embeddings, targets, {"all": torch.ones(5, dtype=torch.bool)})["all"]
    alone = [compactness(embeddings, targets, {"one": torch.arange(5) == c})["one"] for c in (0, 1, 3)]
    for name in ("max_distance", "mean_distance", "ratio"):
        assert getattr(everything, name) == pytest.approx(sum(getattr(one, name) for one in alone) / 3)


def test_distances_follow_the_scale_of_the_space_and_ratios_do_not() -> None:
    embeddings, targets = examples()
    group = {"all": torch.ones(5, dtype=torch.bool)}
    once, twice = (compactness(scale * embeddings, targets, group)["all"] for scale in (1, 2))
    assert twice[:3] == pytest.approx([2 * value for value in once[:3]])  # type: ignore[operator]
    assert twice.ratio == pytest.approx(once.ratio)
    relative = [compactness(scale * embeddings, targets, group, relative=True)["all"] for scale in (1, 2)]
    assert relative[0] == pytest.approx(relative[1])


def test_equal_embeddings_are_at_distance_zero() -> None:
    embeddings = torch.full((40, 3), 1000.1)
    assert max_intra_class_distances(embeddings, torch.zeros(40).long()).max() < 1e-6
    assert float(mean_intra_class_distances(embeddings, torch.zeros(40).long(), 1)[0]) < 1e-3


def test_half_precision_and_largest_norm() -> None:
    embeddings, targets = examples(torch.bfloat16)
    assert max_intra_class_distances(embeddings, targets).dtype == torch.float64
    assert largest_norm(torch.tensor([[3.0, -4.0], [0.0, 1.0]], dtype=torch.bfloat16)) == 5.0


def test_bad_input_is_named() -> None:
    embeddings, targets = examples()
    for bad in ((embeddings[0], targets), (embeddings, targets[1:]), (embeddings[:0], targets[:0])):
        with pytest.raises(InputError, match=r"embeddings must have shape \(N, D\) with N >= 1"):
            max_intra_class_distances(*bad)
    with pytest.raises(InputError, match="at least one group of classes, got none"):
        compactness(embeddings, targets, {})


def test_margins_margins_equal_the_definition(long_tail: Example) -> None:
    expected = []
    for row, target in zip(long_tail.logits.tolist(), long_tail.targets.tolist(), strict=True):
        rivals = [value for label, value in enumerate(row) if label != target]
        expected.append(row[target] - max(rivals))
    np.testing.assert_allclose(logit_margins(long_tail.logits, long_tail.targets), expected, rtol=1e-4, atol=1e-6)


def test_margins_a_margin_is_positive_exactly_where_the_example_is_recognised(long_tail: Example) -> None:
    margins = logit_margins(long_tail.logits, long_tail.targets)
    assert torch.equal(margins > 0, long_tail.predicted == long_tail.targets)


def test_margins_a_tie_has_no_margin() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0]] * 2)
    assert logit_margins(logits, torch.tensor([0, 1])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_margins_any_floating_type(dtype: torch.dtype) -> None:
    logits = torch.tensor([[3.0, 1.0], [3.0, 1.0]], dtype=dtype)
    margins = logit_margins(logits, torch.tensor([0, 1]))
    assert margins.dtype == torch.float32
    assert margins.tolist() == [2.0, -2.0]


def test_margins_class_means_equal_a_loop_and_skip_absent_classes(long_tail: Example) -> None:
    margins = logit_margins(long_tail.logits, long_tail.targets)
    means = class_means(margins, long_tail.targets, 12)
    for label in range(11):
        assert means[label] == pytest.approx(np.mean(margins[long_tail.targets == label].double().numpy()))
    assert math.isnan(means[11])


def test_margins_empirical_cdf_is_the_share_that_is_no_larger(long_tail: Example) -> None:
    margins = logit_margins(long_tail.logits, long_tail.targets)
    values, shares = empirical_cdf(margins)
    for value, share in zip(values[::50].tolist(), shares[::50].tolist(), strict=True):
        assert share == pytest.approx(float((margins <= value).float().mean()))
    assert shares[-1] == 1.0
