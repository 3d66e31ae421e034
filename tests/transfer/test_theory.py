"""Numerical checks of the supplement of SMART: Lemma 2, Theorem 1, and the purpose of its map."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.transfer.maps import TransferMap
from tests.transfer.test_maps import covariances

CLASSES, DIMENSION = 5, 4


def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Weights (K, C), biases (K,) and embeddings (N, C), of class 0."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(CLASSES, DIMENSION, generator=generator).double()
    bias = torch.randn(CLASSES, generator=generator).double()
    return weight, bias, torch.randn(50, DIMENSION, generator=generator).double()


def distances(weight: Tensor, bias: Tensor, a: Tensor) -> tuple[list[float], list[float], list[float]]:
    """Return distances of a point to the boundaries with class 0, the lengths of the normals, and the sides."""
    far, lengths, sides = [], [], []
    for j in range(1, CLASSES):
        normal, offset = weight[j] - weight[0], float(bias[j] - bias[0])
        value = float(normal @ a) + offset
        lengths.append(float(normal.norm()))
        far.append(abs(value) / lengths[-1])
        sides.append(math.copysign(1.0, value))  # of the whole difference; the paper's cosine leaves out the offset
    return far, lengths, sides


def test_lemma_2_cross_entropy_is_a_sum_over_distances_to_boundaries() -> None:
    weight, bias, embeddings = problem()
    differ = 0
    for a in embeddings:
        far, lengths, sides = distances(weight, bias, a)
        loss = F.cross_entropy((weight @ a + bias)[None], torch.tensor([0]))
        total = sum(math.exp(d * n * s) for d, n, s in zip(far, lengths, sides, strict=True))
        torch.testing.assert_close(loss, torch.tensor(math.log1p(total)).double())
        cosines = [math.copysign(1.0, float((weight[j] - weight[0]) @ a)) for j in range(1, CLASSES)]
        differ += cosines != sides
    assert differ > 10  # as printed, with the sign of the angle, the lemma fails wherever there are biases


def test_theorem_1_bounds_the_expected_loss_of_augmented_embeddings_with_factors_above_1() -> None:
    weight, bias, embeddings = problem()
    covariance = 0.1 * covariances(1, DIMENSION, seed=5)[0]
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(40_000, DIMENSION, generator=generator).double() @ torch.linalg.cholesky(covariance).T
    for a in embeddings[:10]:
        far, lengths, sides = distances(weight, bias, a)
        beta = [math.exp(0.5 * float((w - weight[0]) @ covariance @ (w - weight[0]))) for w in weight[1:]]
        assert min(beta) > 1
        terms = [b * math.exp(d * n * s) for b, d, n, s in zip(beta, far, lengths, sides, strict=True)]
        losses = -F.log_softmax((a + noise) @ weight.T + bias, dim=1)[:, 0]
        expected, error = float(losses.mean()), float(losses.std()) / math.sqrt(len(losses))
        assert expected <= math.log1p(sum(terms)) + 3 * error
        plain = float(F.cross_entropy((weight @ a + bias)[None], torch.tensor([0])))
        assert plain <= expected + 3 * error


def test_optimal_map_reaches_the_heads_covariance_and_the_affordable_one_comes_nearer_than_none() -> None:
    """A.4: the map of Eq. 24 makes the covariances equal; Eq. 5 under the trace rule makes their traces equal."""
    tail, head = covariances(20, DIMENSION, seed=1, size=0.05), covariances(20, DIMENSION, seed=2)
    std = tail.diagonal(dim1=1, dim2=2).sqrt()
    standardized = tail / (std[:, :, None] * std[:, None, :])
    after = {}
    for scale in ("optimal-transport", "trace"):
        matrices = TransferMap(scale=scale, shrinkage=0.0)(tail, head, std)  # type: ignore[arg-type]
        after[scale] = matrices.transpose(1, 2) @ standardized @ matrices
    torch.testing.assert_close(after["optimal-transport"], head, rtol=1e-4, atol=1e-4)
    gap, gap_before = (after["trace"] - head).norm(), (tail - head).norm()
    assert gap < gap_before
