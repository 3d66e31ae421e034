import math

import pytest
import torch
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.losses import InfluenceBalancedLoss
from tests.conformance import COUNTS, batch
from tests.losses.reference import assert_equals_reference, examples, softmax


def influence_balanced_of_the_authors(z: list[float], y: int, norm: float, alpha: float) -> float:
    """`alpha / (|p - y|_1 * norm + 0.001)` times cross-entropy, with class weights 1 / n of mean 1."""
    inverse = [1 / count for count in COUNTS]
    weight = inverse[y] / sum(inverse) * len(COUNTS)
    p = softmax(z)
    influence = sum(abs(value - (j == y)) for j, value in enumerate(p)) * norm
    return alpha * weight * -math.log(p[y]) / (influence + 0.001)


def test_equals_the_authors_formula_on_the_bias() -> None:
    loss = InfluenceBalancedLoss(COUNTS, reduction="none")
    assert_equals_reference(loss, lambda z, y: influence_balanced_of_the_authors(z, y, norm=1.0, alpha=1.0))


def test_equals_the_authors_formula_with_embeddings() -> None:
    logits, targets = examples()
    embeddings = torch.randn(30, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    actual = InfluenceBalancedLoss(COUNTS, reduction="none")(logits, targets, embeddings)
    rows = zip(logits.tolist(), targets.tolist(), embeddings.tolist(), strict=True)
    expected = [influence_balanced_of_the_authors(z, y, sum(map(abs, h)), alpha=1000) for z, y, h in rows]
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=2e-6, atol=1e-8)


def test_value_by_hand() -> None:
    """Equal counts, p = 1/2, embedding (3, -1): log 2 / (1 * 4 + 0.001), times alpha = 2."""
    loss = InfluenceBalancedLoss([5, 5], alpha=2)
    value = loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([[3.0, -1.0]]))
    assert float(value) == pytest.approx(2 * math.log(2) / 4.001)


def test_divides_by_the_gradient_norm_of_the_last_layer() -> None:
    """The paper's derivation: the influence of an example is the L1 norm of its gradient on the weights."""
    torch.manual_seed(0)
    embeddings, layer = torch.randn(16, 7), torch.nn.Linear(7, 5)
    _, targets = batch()
    balanced = InfluenceBalancedLoss((1,) * 5, alpha=1, reduction="none")(
        layer(embeddings), targets, embeddings
    ).detach()
    for i in range(16):
        plain = F.cross_entropy(layer(embeddings[i : i + 1]), targets[i : i + 1])
        (weight_gradient,) = torch.autograd.grad(plain, [layer.weight])
        assert float(balanced[i]) == pytest.approx(
            float(plain.detach() / (weight_gradient.abs().sum() + 1e-3)), rel=1e-4
        )


def test_without_embeddings_by_the_gradient_norm_of_the_bias() -> None:
    logits, targets = batch()
    balanced = InfluenceBalancedLoss((1,) * 5, reduction="none")(logits, targets)
    for i in range(16):
        leaf = logits[i : i + 1].clone().requires_grad_()
        plain = F.cross_entropy(leaf, targets[i : i + 1])
        (gradient,) = torch.autograd.grad(plain, [leaf])
        assert float(balanced[i]) == pytest.approx(float(plain.detach() / (gradient.abs().sum() + 1e-3)), rel=1e-4)


def test_example_of_a_larger_embedding_counts_less() -> None:
    logits, targets = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)
    embeddings = torch.tensor([[1.0], [2.0], [4.0]])
    each = InfluenceBalancedLoss([5, 5], reduction="none")(logits, targets, embeddings)
    assert (each[0] / each[1], each[1] / each[2]) == (pytest.approx(2, rel=1e-3), pytest.approx(2, rel=1e-3))


def test_class_weights_are_inverse_to_the_counts_with_mean_one() -> None:
    weights = InfluenceBalancedLoss([30, 10, 0], absent="mask").weights_C
    assert weights.tolist() == pytest.approx([0.5, 1.5, 0])


def test_gradient_reaches_the_embeddings() -> None:
    embeddings = torch.ones(1, 3, requires_grad=True)
    InfluenceBalancedLoss([5, 5])(torch.zeros(1, 2), torch.tensor([0]), embeddings).backward()
    assert embeddings.grad is not None
    assert (embeddings.grad < 0).all()


def test_half_precision_embeddings_are_widened() -> None:
    value = InfluenceBalancedLoss([5, 5])(torch.zeros(1, 2), torch.tensor([0]), torch.full((1, 100), 1e3).half())
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(1000 * math.log(2) / 1e5)


def test_bad_input_is_refused() -> None:
    for alpha in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="`alpha` must be > 0"):
            InfluenceBalancedLoss(COUNTS, alpha=alpha)
    for embeddings in (torch.ones(3), torch.ones(2, 4)):
        with pytest.raises(InputError, match=r"embeddings must have shape \(3, D\) .*, got"):
            InfluenceBalancedLoss([5, 5])(torch.zeros(3, 2), torch.tensor([0, 1, 0]), embeddings)


def test_it_is_cross_entropy_until_the_share_of_the_training() -> None:
    loss, logits, targets = (
        InfluenceBalancedLoss([5, 1], balance_from=0.5),
        torch.tensor([[0.3, 0.1]]),
        torch.tensor([1]),
    )
    embeddings, switched = torch.ones(1, 4), []
    for epoch in range(200):
        loss.set_progress(epoch / 200)
        value = loss(logits, targets, embeddings)
        switched.append(not torch.equal(value, torch.nn.functional.cross_entropy(logits, targets)))
    assert switched.index(True) == 100
    assert all(switched[100:])
    torch.testing.assert_close(value, InfluenceBalancedLoss([5, 1])(logits, targets, embeddings))
    with pytest.raises(InputError, match="`balance_from` must be >= 0 and <= 1"):
        InfluenceBalancedLoss([5, 1], balance_from=2)
