import math

import pytest
import torch

from longtail.embedding import HybridContrastiveLoss
from longtail.errors import InputError
from tests.embedding.examples import COUNTS, DIM, NUM_CLASSES, batch, log1p_sum_exp


def test_equals_section_3_2() -> None:
    embeddings, targets = batch(dtype=torch.float64)
    logits = 3 * torch.randn(24, NUM_CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores, labels = logits.tolist(), targets.tolist()
    expected = [
        log1p_sum_exp([scores[i][y] - scores[row][y] for i in range(24) if labels[i] != y])
        for row, y in enumerate(labels)
    ]
    actual = HybridContrastiveLoss(COUNTS).per_example(embeddings, targets, logits)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


def test_value_by_hand() -> None:
    """Under logit 0, the own example has 1 and the two others 0 and 3: log(1 + e^-1 + e^2)."""
    logits = torch.tensor([[1.0, 0.0], [0.0, 5.0], [3.0, 5.0]])
    omega = HybridContrastiveLoss([4, 4]).per_example(torch.zeros(3, 1), torch.tensor([0, 1, 1]), logits)
    assert omega[0].item() == pytest.approx(math.log(1 + math.exp(-1) + math.exp(2)))
    assert omega[1].item() == pytest.approx(math.log(1 + math.exp(-5)))


def test_a_shift_of_all_logits_of_a_class_changes_nothing() -> None:
    """The loss compares examples and not classes, so the bias of the head has no effect."""
    embeddings, targets = batch()
    logits = torch.randn(24, NUM_CLASSES, generator=torch.Generator().manual_seed(1))
    loss = HybridContrastiveLoss(COUNTS)
    torch.testing.assert_close(
        loss(embeddings, targets, logits + 7 * torch.arange(5)), loss(embeddings, targets, logits)
    )


def test_logits_are_asked_for() -> None:
    embeddings, targets = batch()
    with pytest.raises(InputError, match=r"takes logits of shape \(24, 5\) after embeddings and labels, got none"):
        HybridContrastiveLoss(COUNTS)(embeddings, targets)
    with pytest.raises(InputError, match=r"got \[\(24, 6\)\]"):
        HybridContrastiveLoss(COUNTS)(embeddings, targets, torch.zeros(24, DIM))
