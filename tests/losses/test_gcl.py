import math

import pytest
import torch
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.losses import GCLLoss
from longtail.losses.gcl import cloud_sizes
from tests.conformance import COUNTS, value_and_gradient
from tests.losses.reference import examples


def gcl_of_the_authors(z: list[float], y: int, draws: list[float]) -> float:
    """`cosine - noise_mul * noise.abs() / m_list.max() * m_list`, with m_list = log n_max - log n, then a softmax."""
    m_list = [math.log(max(COUNTS)) - math.log(count) for count in COUNTS]
    lowered = [
        cosine - 0.5 * abs(min(max(e, -1), 1)) / max(m_list) * m for cosine, e, m in zip(z, draws, m_list, strict=True)
    ]
    exps = [math.exp(30 * value) for value in lowered]
    return -math.log(exps[y] / sum(exps))


def test_equals_the_authors_formula_for_the_same_draws() -> None:
    logits, targets = examples(scale=0.3)
    torch.manual_seed(3)
    actual = GCLLoss(COUNTS, reduction="none")(logits, targets)
    torch.manual_seed(3)
    draws = (torch.randn_like(logits) / 3).tolist()
    rows = zip(logits.tolist(), targets.tolist(), draws, strict=True)
    expected = torch.tensor([gcl_of_the_authors(z, y, e) for z, y, e in rows], dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=2e-6, atol=1e-8)


def test_value_by_hand() -> None:
    """Without a draw, scale 2, cosines 1 and 0, label 1: log(1 + e^2)."""
    value = GCLLoss([100, 1], scale=2).eval()(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert float(value) == pytest.approx(math.log1p(math.exp(2)))


def test_cloud_size_grows_with_rarity_from_0_to_1() -> None:
    sizes = cloud_sizes(torch.tensor(COUNTS))
    assert sizes[0] == 0
    assert sizes[-1] == 1
    assert (sizes[:-1] < sizes[1:]).all()


def test_absent_class_does_not_stretch_the_sizes() -> None:
    assert cloud_sizes(torch.tensor([100, 0, 10])).tolist() == [0, 0, 1]


def test_equal_counts_have_no_cloud() -> None:
    """The authors' code divides 0 by 0 here."""
    logits, targets = torch.randn(6, 3).clamp(-1, 1), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(GCLLoss([7, 7, 7])(logits, targets), F.cross_entropy(30 * logits, targets))


def lowered_by(label: int, size: int = 20_000) -> torch.Tensor:
    """Recover the reduction of the cosine of a class from the loss: log(1 + e^(d)) if only that class is lowered."""
    counts = [100, 1]
    torch.manual_seed(0)
    values = GCLLoss(counts, scale=1, reduction="none")(torch.zeros(size, 2).double(), torch.full((size,), label))
    return torch.log(torch.expm1(values))


def test_a_cosine_is_lowered_by_a_half_normal_cut_off_at_one() -> None:
    drops = lowered_by(1)
    # E min(|e|, 1), e ~ N(0, 1/9): (sqrt(2 / pi) (1 - e^-4.5) + 3 erfc(3 / sqrt 2)) / 3
    mean = (math.sqrt(2 / math.pi) * (1 - math.exp(-4.5)) + 3 * math.erfc(3 / math.sqrt(2))) / 3
    assert float(drops.mean()) == pytest.approx(0.5 * mean, rel=0.02)
    assert float(drops.min()) >= 0
    assert float(drops.max()) == pytest.approx(0.5)


def test_only_rarer_classes_are_lowered() -> None:
    """For an example of the most frequent class, noise lowers only the other cosine and the loss."""
    assert float(lowered_by(0).max()) <= 0


def test_rare_example_goes_on_pulling_where_the_softmax_is_saturated() -> None:
    """The paper's "softmax saturation": with cosines 0.4 and 0 the gradient of a plain softmax is 30 e^-12."""
    logits, plain = torch.tensor([[0.0, 0.4]]).expand(2000, 2), 30 * math.exp(-12)
    torch.manual_seed(0)
    _, rare = value_and_gradient(GCLLoss([1000, 1], reduction="none"), logits, torch.ones(2000, dtype=torch.long))
    _, full = value_and_gradient(GCLLoss([1, 1000], reduction="none"), logits, torch.ones(2000, dtype=torch.long))
    assert -float(rare[:, 1].mean()) > 10 * plain
    assert -float(full[:, 1].mean()) < plain


def test_draws_only_in_training_mode() -> None:
    loss, logits, targets = GCLLoss(COUNTS), torch.zeros(4, 5), torch.tensor([1, 2, 3, 4])
    assert loss(logits, targets) != loss(logits, targets)
    assert float(loss.eval()(logits, targets)) == pytest.approx(math.log(5))


def test_bad_options_are_refused() -> None:
    for options in ({"noise": -0.1}, {"scale": 0.0}, {"noise": float("nan")}):
        with pytest.raises(InputError, match=r"`(noise|scale)` must be >"):
            GCLLoss(COUNTS, **options)


def test_second_stage_equals_the_authors_formula() -> None:
    """`where(index, cosine - m, cosine)`, then `(1 - p) ** gamma * cross_entropy(s * output)`."""
    logits, targets = examples(scale=0.3)
    loss = GCLLoss(COUNTS, margin=0.1, scale=20.0, gamma=1.0, reduction="none").eval()
    each = F.cross_entropy(20 * (logits - 0.1 * F.one_hot(targets, len(COUNTS))), targets, reduction="none")
    expected = (1 - (-each).exp()) * each
    torch.testing.assert_close(loss(logits, targets), expected)
    torch.testing.assert_close(loss(logits, F.one_hot(targets, len(COUNTS)).double()), expected)


def test_the_focal_factor_has_no_gradient() -> None:
    logits = torch.tensor([[0.2, 0.1]], requires_grad=True)
    GCLLoss([5, 5], gamma=1.0)(logits, torch.tensor([0])).backward()
    p = torch.softmax(30 * logits.detach(), dim=1)[0]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 1], (1 - p[0]) * 30 * p[1])


def test_invalid_options_of_the_second_stage_are_refused() -> None:
    with pytest.raises(InputError, match="`margin` must be >= 0"):
        GCLLoss(COUNTS, margin=-0.1)
