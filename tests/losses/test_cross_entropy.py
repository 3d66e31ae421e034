import math

import pytest
import torch
from torch.nn import functional as F

from longtail.losses import CrossEntropy
from tests.conformance import COUNTS
from tests.losses.reference import assert_equals_reference, examples, softmax


def cross_entropy_from_its_definition(z: list[float], y: int) -> float:
    return -math.log(softmax(z)[y])


def test_equals_its_definition() -> None:
    assert_equals_reference(CrossEntropy(COUNTS, reduction="none"), cross_entropy_from_its_definition)


def test_equals_torch_with_its_own_conventions() -> None:
    logits, targets = examples()
    targets[::4] = -100
    # torch sums the rows in another order
    torch.testing.assert_close(
        CrossEntropy(COUNTS)(logits, targets), F.cross_entropy(logits, targets), rtol=1e-14, atol=0
    )
    soft = torch.rand(logits.shape, dtype=torch.float64).softmax(dim=1)
    torch.testing.assert_close(CrossEntropy(COUNTS)(logits, soft), F.cross_entropy(logits, soft))


def test_uniform_logits_give_log_of_the_number_of_classes() -> None:
    assert float(CrossEntropy([3, 2, 1, 1])(torch.zeros(1, 4), torch.tensor([3]))) == pytest.approx(math.log(4))


def test_counts_do_not_matter() -> None:
    logits, targets = examples()
    assert torch.equal(CrossEntropy(COUNTS)(logits, targets), CrossEntropy([1] * 5)(logits, targets))
