import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.models.heads import CosineHead, LinearHead
from longtail.transfer import ISDA
from longtail.transfer.isda import spread

CLASSES, DIMENSION = 4, 3


def batch(seed: int = 0, size: int = 12) -> tuple[Tensor, Tensor, LinearHead]:
    generator = torch.Generator().manual_seed(seed)
    head = LinearHead(DIMENSION, CLASSES)
    with torch.no_grad():
        head.weight.copy_(torch.randn(CLASSES, DIMENSION, generator=torch.Generator().manual_seed(9)))
    targets_B = torch.arange(size) % CLASSES
    return torch.randn(size, DIMENSION, generator=generator) * (1 + targets_B[:, None]), targets_B, head


def naive(embeddings: Tensor, targets: Tensor, head: LinearHead, strength: float, diagonal: bool) -> Tensor:
    """Proposition 1 entry by entry, with the covariance of the class over this batch."""
    weight, logits = head.weight.detach().double(), head(embeddings).detach().double()
    for i, y in enumerate(targets.tolist()):
        own = embeddings[targets == y].double()
        centered = own - own.mean(dim=0)
        covariance = centered.T @ centered / len(own)
        if diagonal:
            covariance = torch.diag(torch.diag(covariance))
        for j in range(CLASSES):
            logits[i, j] += strength / 2 * (weight[j] - weight[y]) @ covariance @ (weight[j] - weight[y])
    return logits


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("size", [12, 3])  # more images than classes, and fewer
def test_equals_proposition_1(diagonal: bool, size: int) -> None:
    embeddings, targets, head = batch(size=size)
    targets = targets % 2
    isda = ISDA([9] * CLASSES, DIMENSION, strength=0.7, memory_budget_gb=1e-9 if diagonal else 2.0)
    assert isda.running.diagonal == diagonal
    actual = isda.adjust(head(embeddings), embeddings, targets, head)
    torch.testing.assert_close(actual.double(), naive(embeddings, targets, head, 0.7, diagonal), rtol=1e-4, atol=1e-4)


def test_bounds_the_expected_loss_of_augmented_embeddings() -> None:
    """By Monte Carlo: embeddings drawn from N(a, lambda Cov_y) under the same head; the bound is slightly above."""
    embeddings, targets, head = batch()
    strength, covariances = 0.3, []
    isda = ISDA([9] * CLASSES, DIMENSION, strength=strength)
    bound_B = F.cross_entropy(isda.adjust(head(embeddings), embeddings, targets, head), targets, reduction="none")
    expected_B, generator = torch.zeros(len(targets)), torch.Generator().manual_seed(1)
    for i, y in enumerate(targets.tolist()):
        covariances.append(isda.running.covariances_KCC[y] + 1e-6 * torch.eye(DIMENSION))
        root = torch.linalg.cholesky(strength * covariances[i])
        copies = embeddings[i] + torch.randn(20_000, DIMENSION, generator=generator) @ root.T
        expected_B[i] = F.cross_entropy(head(copies), torch.full((20_000,), y))
    assert (bound_B >= expected_B - 0.02).all()
    plain_B = F.cross_entropy(head(embeddings), targets, reduction="none")
    assert (expected_B > plain_B - 0.02).all()  # augmentation makes the loss harder
    assert (bound_B > plain_B).all()


def test_lambda_grows_with_the_training() -> None:
    embeddings, targets, head = batch()
    plain = head(embeddings)
    raised = []
    for progress in (0.0, 0.5):
        isda = ISDA([9] * CLASSES, DIMENSION, strength=0.6)
        isda.set_progress(progress)
        raised.append(isda.adjust(plain, embeddings, targets, head) - plain)
    assert not raised[0].any()
    whole = ISDA([9] * CLASSES, DIMENSION, strength=0.6).adjust(plain, embeddings, targets, head) - plain
    torch.testing.assert_close(raised[1], whole / 2)


def test_statistics_run_over_batches_and_carry_no_gradient_while_the_weights_do() -> None:
    isda, parts = ISDA([9] * CLASSES, DIMENSION, strength=1.0), []
    for seed in (1, 2, 3):
        embeddings, targets, head = batch(seed)
        parts.append(embeddings)
        leaf = embeddings.requires_grad_()
        raised = isda.adjust(torch.zeros(12, CLASSES), leaf, targets, head)
    every = torch.cat(parts).detach()
    expected = torch.cov(every[torch.arange(36) % CLASSES == 2].T, correction=0)
    torch.testing.assert_close(isda.running.covariances_KCC[2], expected, rtol=1e-4, atol=1e-4)
    raised.sum().backward()
    assert leaf.grad is None
    assert head.weight.grad is not None
    assert head.weight.grad.abs().sum() > 0


def test_gradient_of_the_weights_is_the_derivative() -> None:
    _, _, head = batch()
    weight, covariances = head.weight.detach().double().requires_grad_(), torch.eye(3).double().expand(2, 3, 3) * 2
    classes = torch.tensor([1, 3])
    assert torch.autograd.gradcheck(lambda w: spread(w, w[classes], covariances), (weight,))
    variances = torch.rand(2, 3, generator=torch.Generator().manual_seed(0)).double()
    assert torch.autograd.gradcheck(lambda w: spread(w, w[classes], variances), (weight,))
    torch.testing.assert_close(
        spread(weight, weight[classes], variances), spread(weight, weight[classes], torch.diag_embed(variances))
    )


def test_maps_and_evaluation_are_left_alone() -> None:
    embeddings, targets, head = batch()
    isda = ISDA([9] * CLASSES, DIMENSION)
    maps = torch.randn(12, DIMENSION, 2, 2)
    same, weights = isda(maps, targets, torch.zeros(12, dtype=torch.bool))
    assert same is maps
    assert weights is None
    assert isda.stream is None
    logits = head(embeddings)
    assert isda.eval().adjust(logits, embeddings, targets, head) is logits
    assert not isda.running.counts_K.any()


def test_computes_in_float32_under_autocast() -> None:
    embeddings, targets, head = batch()
    isda, plain = ISDA([9] * CLASSES, DIMENSION), ISDA([9] * CLASSES, DIMENSION)
    expected = plain.adjust(torch.zeros(12, CLASSES), embeddings.bfloat16().float(), targets, head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = isda.adjust(torch.zeros(12, CLASSES).bfloat16(), embeddings.bfloat16(), targets, head)
    torch.testing.assert_close(actual, expected)


def test_bad_input_is_refused() -> None:
    embeddings, targets, head = batch()
    for options in ({"strength": -1.0}, {"strength": math.nan}, {"memory_budget_gb": 0.0}):
        with pytest.raises(InputError, match=r"`(strength|memory_budget_gb)` must be >"):
            ISDA([9] * CLASSES, DIMENSION, **options)
    for other in (CosineHead(DIMENSION, CLASSES), nn.Linear(DIMENSION + 1, CLASSES)):
        with pytest.raises(InputError, match="needs a LinearHead on embeddings of dimension 3"):
            ISDA([9] * CLASSES, DIMENSION).adjust(torch.zeros(12, CLASSES), embeddings, targets, other)
    with pytest.raises(InputError, match="Train without mixing"):
        ISDA([9] * CLASSES, DIMENSION).adjust(torch.zeros(12, 4), embeddings, torch.ones(12, 4), head)


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_common_offset_of_the_weights_does_not_change_the_spread(diagonal):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(CLASSES, DIMENSION, generator=generator)
    factors = torch.randn(CLASSES, DIMENSION, DIMENSION, generator=generator)
    covariances = factors @ factors.transpose(1, 2)
    covariances = covariances.diagonal(dim1=1, dim2=2) if diagonal else covariances
    shifted = weights + 100
    expected = spread(shifted.double(), shifted.double(), covariances.double())
    torch.testing.assert_close(spread(shifted, shifted, covariances).double(), expected, rtol=1e-4, atol=1e-3)
