import math

import pytest
import torch

from longtail.embedding import SpreadOutLoss
from longtail.errors import InputError
from tests.embedding.examples import COUNTS, DIM, Point, assert_equals_reference, batch


def cosine(one: Point, other: Point) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


@pytest.mark.parametrize("pairs", ["other-class", "all"])
def test_equals_equations_7_to_9(pairs: str) -> None:
    def omega_spread(row: int, points: list[Point], labels: list[int]) -> float:
        rows = range(len(points))
        chosen = [(i, j) for i in rows for j in rows if (i != j if pairs == "all" else labels[i] != labels[j])]
        cosines = [cosine(points[i], points[j]) for i, j in chosen]
        second = sum(value**2 for value in cosines) / len(cosines)
        return (sum(cosines) / len(cosines)) ** 2 + max(0.0, second - 1 / DIM)

    assert_equals_reference(SpreadOutLoss(COUNTS, pairs=pairs), omega_spread)  # type: ignore[arg-type]


def test_an_even_spread_costs_nothing() -> None:
    """Both ends of every axis, each a class of its own: cosines 0 and -1, mean -1/7, mean square 1/7 < 1/4."""
    embeddings = torch.cat([torch.eye(4), -torch.eye(4)])
    value = SpreadOutLoss([1] * 8, weight=1.0)(embeddings, torch.arange(8))
    assert float(value) == pytest.approx(1 / 49)


def test_one_direction_costs_most() -> None:
    value = SpreadOutLoss([5, 5], weight=1.0)(torch.tensor([[1.0, 0.0], [7.0, 0.0]]), torch.tensor([0, 1]))
    assert float(value) == pytest.approx(1 + 1 - 1 / 2)


def test_one_class_has_no_pair_of_another() -> None:
    embeddings, targets = batch()[0], torch.zeros(24, dtype=torch.long)
    assert float(SpreadOutLoss(COUNTS)(embeddings, targets)) == 0.0
    assert float(SpreadOutLoss(COUNTS, pairs="all")(embeddings, targets)) > 0.0


def test_other_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="kind of pairs 'any'"):
        SpreadOutLoss(COUNTS, pairs="any")  # type: ignore[arg-type]
