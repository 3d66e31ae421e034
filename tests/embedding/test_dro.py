import math

import pytest
import torch

from longtail.embedding import DROLoss
from longtail.errors import InputError
from tests.embedding.examples import COUNTS, DIM, Point, assert_equals_reference, batch, mean_of, squared

TOTAL = sum(COUNTS)


def test_equals_equation_5() -> None:
    """With the centroids of the first batch, over the examples of the second."""
    loss = DROLoss(COUNTS, DIM, margin_scale=0.7)
    first, labels_of_first = batch(1)
    loss(first, labels_of_first)

    def omega_dro(row: int, points: list[Point], labels: list[int]) -> float:
        mu, margin = (
            mean_of(first[labels_of_first == labels[row]].tolist()),
            0.7 * math.sqrt(TOTAL / COUNTS[labels[row]]),
        )
        exponents = [
            squared(points[row], mu) - squared(point, mu) + (margin if label != labels[row] else 0.0)
            for point, label in zip(points, labels, strict=True)
        ]
        top = max(exponents)
        return top + math.log(sum(math.exp(value - top) for value in exponents))

    assert_equals_reference(loss, omega_dro)


def test_value_by_hand() -> None:
    """Shares 1/4 and 3/4, centroids 0 and 2: from x = 1 of class 0, log(e^0 + e^(1 - 4 + 2))."""
    loss = DROLoss([1, 3], 1)
    loss(torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1]))
    omega = loss.per_example(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))
    assert omega[0].item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert omega[1].item() == pytest.approx(math.log(1 + math.exp(-1 + math.sqrt(4 / 3))))


def test_never_negative_and_rarer_classes_have_wider_margins() -> None:
    loss = DROLoss(COUNTS, DIM)
    loss(*batch(1))
    assert (loss.per_example(*batch(2)) >= 0).all()
    assert loss.margin_C.tolist() == pytest.approx([math.sqrt(TOTAL / n) for n in COUNTS])
    assert DROLoss(COUNTS, DIM, margin_power=0).margin_C.tolist() == [1.0] * 5


def test_pulls_its_own_and_pushes_others_off_the_centroid() -> None:
    loss = DROLoss([1, 1], 1, weight=1.0)
    loss(torch.tensor([[0.0]]), torch.tensor([0]))
    points = torch.tensor([[1.0], [1.5]], requires_grad=True)
    loss(points, torch.tensor([0, 1])).backward()
    assert points.grad is not None
    assert points.grad[0, 0] > 0  # a step against it brings the first nearer to 0,
    assert points.grad[1, 0] < 0  # and the second farther away


def test_a_class_without_a_centroid_contributes_nothing() -> None:
    loss = DROLoss([3, 3], 1)
    loss(torch.tensor([[0.0]]), torch.tensor([0]))
    assert loss.per_example(torch.tensor([[1.0], [9.0]]), torch.tensor([0, 1]))[1] == 0


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="`embedding_dim` is required: DROLoss stores the centroid"):
        DROLoss(COUNTS)
    for options in ({"margin_scale": -1.0}, {"margin_power": float("inf")}):
        with pytest.raises(InputError, match=r"`margin_(scale|power)` must be >= 0"):
            DROLoss(COUNTS, DIM, **options)  # type: ignore[arg-type]
