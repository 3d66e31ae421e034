import math

import pytest
import torch
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.losses import LDAMLoss
from longtail.losses.ldam import ldam_margins
from tests.conformance import COUNTS, batch, value_and_gradient
from tests.losses.reference import assert_equals_reference, own_gradient


def ldam_eqs_12_and_13(z: list[float], y: int) -> float:
    """The margin is C / n_y^(1/4), with C such that the largest is 0.5; then a softmax of 30 times the cosines."""
    margin = 0.5 * (min(COUNTS) / COUNTS[y]) ** 0.25
    own = math.exp(30 * (z[y] - margin))
    return -math.log(own / (own + sum(math.exp(30 * value) for j, value in enumerate(z) if j != y)))


def test_equals_equations_12_and_13() -> None:
    assert_equals_reference(LDAMLoss(COUNTS, reduction="none"), ldam_eqs_12_and_13, scale=0.4)


def test_value_by_hand() -> None:
    """Counts 16 and 1: margins 0.25 and 0.5. Cosines 0.5 and 0, scale 2, label 0: log(1 + e^(2 (0 - 0.25)))."""
    value = LDAMLoss([16, 1], scale=2)(torch.tensor([[0.5, 0.0]]), torch.tensor([0]))
    assert float(value) == pytest.approx(math.log1p(math.exp(-0.5)))


def test_rarest_class_has_the_largest_margin() -> None:
    margins = ldam_margins(torch.tensor(COUNTS).float(), 0.5)
    assert margins[-1] == 0.5
    assert (margins[:-1] < margins[1:]).all()
    assert float(margins[0] / margins[4]) == pytest.approx((1 / 5000) ** 0.25)


def test_absent_class_does_not_set_the_scale_of_the_margins() -> None:
    assert ldam_margins(torch.tensor([16.0, 0.0, 4.0]), 0.5).tolist() == pytest.approx([0.5 / 2**0.5, 0, 0.5])


def test_no_margin_is_scaled_cross_entropy() -> None:
    logits, targets = batch()
    expected = value_and_gradient(lambda z, y: F.cross_entropy(30 * z, y), logits, targets)
    for actual, one in zip(value_and_gradient(LDAMLoss(COUNTS, max_margin=0), logits, targets), expected, strict=True):
        torch.testing.assert_close(actual, one)


def test_rarer_class_pulls_harder() -> None:
    pulls = [own_gradient(LDAMLoss(COUNTS, scale=2), label) for label in range(5)]
    assert pulls == sorted(pulls)
    assert pulls[4] > pulls[0]


def test_reweighting_on_the_training_proportions_is_the_authors_weighted_mean() -> None:
    """DRW of the authors: `cross_entropy(weight=(1 - beta) / (1 - beta^n))`, which divides by the batch weights."""
    counts = (12, 6, 2)
    targets = torch.tensor([c for c, n in enumerate(counts) for _ in range(n)])
    logits = 0.3 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    shifted = 30 * (logits - F.one_hot(targets, 3) * ldam_margins(torch.tensor(counts).float(), 0.5))
    weights = torch.tensor([(1 - 0.9) / (1 - 0.9**n) for n in counts])
    expected = F.cross_entropy(shifted, targets, weight=weights)
    torch.testing.assert_close(LDAMLoss(counts, reweight_beta=0.9)(logits, targets), expected)


def test_no_reweighting_leaves_all_classes_at_one() -> None:
    for beta in (None, 0.0):
        assert LDAMLoss(COUNTS, reweight_beta=beta).weights_C.tolist() == [1.0] * 5


def test_bad_options_are_refused() -> None:
    for options in ({"max_margin": -0.1}, {"scale": 0.0}, {"scale": float("nan")}):
        with pytest.raises(InputError, match=r"`(max_margin|scale)` must be >"):
            LDAMLoss(COUNTS, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`reweight_beta` must be >= 0 and < 1"):
        LDAMLoss(COUNTS, reweight_beta=1.0)


def test_deferred_reweighting_begins_at_its_share_of_the_training() -> None:
    logits, targets = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 5
    plain, weighted = LDAMLoss(COUNTS)(logits, targets), LDAMLoss(COUNTS, reweight_beta=0.9999)(logits, targets)
    assert not torch.allclose(plain, weighted)
    loss = LDAMLoss(COUNTS, reweight_beta=0.9999, reweight_from=0.7)
    assert torch.equal(loss(logits, targets), weighted)  # without `set_progress`
    for epoch in range(10):
        loss.set_progress(epoch / 10)
        torch.testing.assert_close(loss(logits, targets), plain if epoch < 7 else weighted)


def test_a_share_outside_0_to_1_is_refused() -> None:
    with pytest.raises(InputError, match=r"`reweight_from` must be >= 0 and <= 1 \(a share of the training\), got 160"):
        LDAMLoss(COUNTS, reweight_from=160)


def test_normalized_by_the_batch_it_is_the_weighted_mean_of_the_authors_and_starts_with_the_weights() -> None:
    """`F.cross_entropy(s * output, target, weight=...)` divides by the sum of the weights of the batch."""
    counts, logits, targets = [500, 50, 5], torch.tensor([[0.5, 0.1, -0.2], [0.3, 0.2, 0.4]]), torch.tensor([0, 2])
    loss = LDAMLoss(counts, reweight_beta=0.9999, reweight_from=0.8, normalize="batch")
    moved = 30 * (logits - F.one_hot(targets, 3) * loss.margins_C)
    torch.testing.assert_close(loss(logits, targets), F.cross_entropy(moved, targets, loss.weights_C))
    loss.set_progress(0.0)
    torch.testing.assert_close(loss(logits, targets), F.cross_entropy(moved, targets))


def test_class_balanced_batches_of_cifar_100_have_weights_of_5() -> None:
    counts = [int(500 * 0.01 ** (label / 99)) for label in range(100)]
    assert float(LDAMLoss(counts, reweight_beta=0.9999).weights_C.mean()) == pytest.approx(4.93, abs=0.01)
