"""The toy agrees with the paper (BALMS, supplement, Fig. 3 and A.5)."""

import pytest
import torch
from torch import Tensor, nn

from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, CrossEntropy
from longtail.papers import draw, toy_boundaries
from tests.papers.conftest import svg_of

SOFTMAX, SOFTMAX_CBS, BALANCED, BALANCED_CBS = range(4)
RARE = 2  # the class of a single example


@pytest.fixture(scope="module")
def weights() -> Tensor:
    """Return the weights after 10, 1,000, 3,000 and 6,000 steps, shape (T, R, K, D)."""
    kept: Tensor = toy_boundaries.train((10, 1_000, 3_000, 6_000))
    return kept


@pytest.fixture(scope="module")
def shares(weights: Tensor) -> Tensor:
    """Return the shares of the square, shape (T, R, K)."""
    return torch.stack([toy_boundaries.shares(weights_RKD) for weights_RKD in weights])


def test_a_step_of_the_demonstration_is_one_of_the_library() -> None:
    counts, points_KD = toy_boundaries.COUNTS.long(), toy_boundaries.points()
    expected = []
    for loss_class in (CrossEntropy, BalancedSoftmax):
        for share_K in (
            toy_boundaries.COUNTS / toy_boundaries.COUNTS.sum(),
            torch.full((3,), 1 / 3, dtype=torch.float64),
        ):
            layer = nn.Linear(3, 3, bias=False).double()
            nn.init.zeros_(layer.weight)
            losses_K = loss_class(counts, reduction="none")(layer(points_KD), torch.arange(3))
            (gradient_KD,) = torch.autograd.grad((share_K * losses_K).sum(), layer.weight)
            expected.append(-10 * gradient_KD)
    torch.testing.assert_close(toy_boundaries.train((1,))[0], torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_softmax_is_symmetric_under_class_balanced_sampling_and_gets_there_faster(shares: Tensor) -> None:
    assert (shares[-1, SOFTMAX_CBS] - 1 / 3).abs().max() < 0.04  # a square has no exact thirds
    rare_T = shares[:, SOFTMAX, RARE]
    assert bool((rare_T.diff() > 0).all())
    assert rare_T[-1] < shares[0, SOFTMAX_CBS, RARE] - 0.1


def test_balanced_softmax_moves_the_boundaries_towards_the_frequent_classes(shares: Tensor) -> None:
    many, _, rare = shares[-1, BALANCED].tolist()
    assert many < 1 / 3 < 0.4 < rare


def test_balanced_softmax_with_class_balanced_sampling_over_balances(weights: Tensor, shares: Tensor) -> None:
    assert bool((shares[:, BALANCED_CBS, RARE] > shares[:, BALANCED, RARE] + 0.05).all())
    first_point_D = toy_boundaries.points()[0]
    assert int((weights[0, BALANCED_CBS] @ first_point_D).argmax()) == RARE  # overshoots at first
    assert int((weights[0, SOFTMAX_CBS] @ first_point_D).argmax()) == 0


def test_the_shares_of_the_specification() -> None:
    """At 1,000 steps the least frequent class has 0.58 of the plane (Balanced Softmax, class-balanced sampling)."""
    assert float(toy_boundaries.shares(toy_boundaries.train((1_000,))[0])[BALANCED_CBS, RARE]) == pytest.approx(
        0.58, abs=0.01
    )


def test_near_convergence_a_rival_weighs_n_j_over_n_y_times_its_softmax() -> None:
    """Eq. 76: with another factor of 1 / n from class-balanced sampling, classes weigh as 1 / n^2 (Eq. 78)."""
    counts = torch.tensor([1000.0, 30.0, 2.0], dtype=torch.float64)
    logits_BC = torch.tensor([[40.0, 1.0, 0.0], [2.0, 40.0, 1.0], [3.0, 0.5, 40.0]], dtype=torch.float64)
    ratio_BC = (logits_BC + counts.log()).softmax(dim=1) / logits_BC.softmax(dim=1)
    torch.testing.assert_close(ratio_BC, counts / counts.unsqueeze(1), rtol=1e-6, atol=0)


def test_the_table_has_the_shares_of_the_figure() -> None:
    plot = draw("toy-boundaries", options={"iterations": [5, 50]})
    assert plot.table.column("iteration") == [5] * 4 + [50] * 4
    assert all(sum(row[2:]) == pytest.approx(1) for row in plot.table.rows)
    late = dict(zip(plot.table.column("method")[4:], plot.table.column("share_of_1")[4:], strict=True))
    assert late["Balanced Softmax + class-balanced"] > late["Softmax + class-balanced"] > late["Softmax"]
    svg = svg_of(plot)
    assert "+ class-balanced" in svg


@pytest.mark.parametrize("iterations", [[], [0, 5], [5, 5], [50, 5]])
def test_iterations_that_do_not_rise_are_refused(iterations) -> None:
    with pytest.raises(InputError, match="must be ascending integers"):
        draw("toy-boundaries", options={"iterations": iterations})
