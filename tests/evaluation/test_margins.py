import math

import numpy as np
import pytest
import torch

from longtail.evaluation import class_means, empirical_cdf, logit_margins
from tests.evaluation.conftest import Example


def test_margins_equal_the_definition(long_tail: Example) -> None:
    expected = []
    for row, target in zip(long_tail.logits.tolist(), long_tail.targets.tolist(), strict=True):
        rivals = [value for label, value in enumerate(row) if label != target]
        expected.append(row[target] - max(rivals))
    np.testing.assert_allclose(logit_margins(long_tail.logits, long_tail.targets), expected, rtol=1e-4, atol=1e-6)


def test_a_margin_is_positive_exactly_where_the_example_is_recognised(long_tail: Example) -> None:
    margins = logit_margins(long_tail.logits, long_tail.targets)
    assert torch.equal(margins > 0, long_tail.predicted == long_tail.targets)


def test_a_tie_has_no_margin() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0]] * 2)
    assert logit_margins(logits, torch.tensor([0, 1])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_type(dtype: torch.dtype) -> None:
    logits = torch.tensor([[3.0, 1.0], [3.0, 1.0]], dtype=dtype)
    margins = logit_margins(logits, torch.tensor([0, 1]))
    assert margins.dtype == torch.float32
    assert margins.tolist() == [2.0, -2.0]


def test_class_means_equal_a_loop_and_skip_absent_classes(long_tail: Example) -> None:
    margins = logit_margins(long_tail.logits, long_tail.targets)
    means = class_means(margins, long_tail.targets, 12)
    for label in range(11):
        assert means[label] == pytest.approx(np.mean(margins[long_tail.targets == label].double().numpy()))
    assert math.isnan(means[11])


def test_empirical_cdf_is_the_share_that_is_no_larger(long_tail: Example) -> None:
    margins = logit_margins(long_tail.logits, long_tail.targets)
    values, shares = empirical_cdf(margins)
    for value, share in zip(values[::50].tolist(), shares[::50].tolist(), strict=True):
        assert share == pytest.approx(float((margins <= value).float().mean()))
    assert shares[-1] == 1.0
