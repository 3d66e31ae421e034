import pytest
import torch

from longtail.embedding import CenterLoss
from longtail.errors import InputError
from tests.embedding.examples import COUNTS, DIM, Point, assert_equals_reference, batch, mean_of, squared


def test_equals_appendix_d() -> None:
    """Over two batches: the first sets the centers, the second moves them by a quarter of the distance."""
    loss = CenterLoss(COUNTS, DIM, momentum=0.75)
    batches = [batch(1), batch(2)]
    for embeddings, targets in batches:
        loss(embeddings, targets)

    def to_center(row: int, points: list[Point], labels: list[int]) -> float:
        first, second = (mean_of(e[t == labels[row]].tolist()) for e, t in batches)
        return squared(points[row], [0.75 * a + 0.25 * b for a, b in zip(first, second, strict=True)])

    assert_equals_reference(loss, to_center)


def test_a_class_without_a_center_contributes_nothing() -> None:
    loss = CenterLoss([3, 3], 1, weight=1.0)
    assert float(loss(torch.tensor([[5.0]]), torch.tensor([0]))) == 0.0
    assert loss.per_example(torch.tensor([[6.0], [9.0]]), torch.tensor([0, 1])).tolist() == [1.0, 0.0]


def test_pulls_towards_the_center_and_moves_it_by_no_gradient() -> None:
    loss = CenterLoss([3, 3], 2, weight=1.0)
    loss(torch.tensor([[1.0, 1.0]]), torch.tensor([0]))
    point = torch.tensor([[4.0, 1.0]], requires_grad=True)
    loss(point, torch.tensor([0])).backward()
    assert point.grad is not None
    assert point.grad.tolist() == [[6.0, 0.0]]
    assert not list(loss.parameters())


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="`embedding_dim` is required: CenterLoss stores the center"):
        CenterLoss(COUNTS)
    with pytest.raises(InputError, match="`momentum` must be >= 0 and < 1"):
        CenterLoss(COUNTS, DIM, momentum=1.0)
