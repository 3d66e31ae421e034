import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.losses import ClassBalancedLoss, WeightedCrossEntropy
from longtail.losses.weighted import mean_one_over_images
from tests.conformance import COUNTS
from tests.losses.reference import TOTAL, assert_equals_reference, own_gradient, softmax


def inverse_frequency(z: list[float], y: int) -> float:
    return TOTAL / (len(COUNTS) * COUNTS[y]) * -math.log(softmax(z)[y])


def test_equals_its_definition() -> None:
    assert_equals_reference(WeightedCrossEntropy(COUNTS, reduction="none"), inverse_frequency)


def test_weights_are_those_scikit_learn_calls_balanced() -> None:
    labels = [c for c, n in enumerate(COUNTS) for _ in range(n)]
    expected = compute_class_weight("balanced", classes=np.arange(5), y=labels)
    assert WeightedCrossEntropy(COUNTS).weights_C.tolist() == pytest.approx(list(expected))


def test_value_by_hand() -> None:
    """90 and 10 images: weights 100/180 and 5."""
    values = WeightedCrossEntropy([90, 10], reduction="none")(torch.zeros(2, 2), torch.tensor([0, 1]))
    assert values.tolist() == pytest.approx([math.log(2) / 1.8, math.log(2) * 5])


def test_on_the_training_proportions_the_mean_is_torchs_weighted_mean() -> None:
    """PyTorch divides by the weights in the batch; here their mean over the training images is 1."""
    counts = (6, 3, 1)
    targets = torch.tensor([0] * 6 + [1] * 3 + [2])
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(logits, targets, weight=1 / torch.tensor(counts))
    torch.testing.assert_close(WeightedCrossEntropy(counts)(logits, targets), expected)


def test_each_class_pulls_in_proportion_to_one_over_its_count() -> None:
    pulls = [own_gradient(WeightedCrossEntropy(COUNTS), label) * n for label, n in enumerate(COUNTS)]
    assert pulls == pytest.approx([pulls[0]] * 5)


def test_absent_class_has_no_weight() -> None:
    assert WeightedCrossEntropy([4, 0, 1], absent="mask").weights_C.tolist() == pytest.approx([5 / 8, 0, 5 / 2])


def test_mean_one_over_images() -> None:
    counts = torch.tensor([5.0, 3.0, 2.0])
    weights = mean_one_over_images(torch.tensor([7.0, 11.0, 13.0]), counts)
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1)
    assert float(weights[2] / weights[0]) == pytest.approx(13 / 7)


def test_the_generalised_weights_of_disalign_go_with_a_power_of_the_counts() -> None:
    weights = WeightedCrossEntropy([100, 10, 1], power=1.2).weights_C.double()
    assert (weights[1:] / weights[:-1]).tolist() == pytest.approx([10**1.2] * 2, rel=1e-5)
    assert float((weights * torch.tensor([100, 10, 1])).sum() / 111) == pytest.approx(1)
    assert WeightedCrossEntropy([100, 10, 1], power=0.0).weights_C.tolist() == pytest.approx([1, 1, 1])


def test_a_negative_power_is_refused() -> None:
    with pytest.raises(InputError, match="`power` must be >= 0"):
        WeightedCrossEntropy([2, 1], power=-1.0)


def _weighted_losses(**options):
    return [
        WeightedCrossEntropy([90, 9, 1], normalize="batch", **options),
        ClassBalancedLoss([90, 9, 1], beta=0.99, normalize="batch", **options),
    ]


def test_weights_normalized_by_the_batch_give_the_weighted_mean_of_pytorch():
    logits, targets = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 2, 1, 0, 9, 2])
    for loss in _weighted_losses(ignore_index=9):
        expected = F.cross_entropy(logits, targets, loss.weights_C, ignore_index=9)
        torch.testing.assert_close(loss(logits, targets), expected)
    plain = WeightedCrossEntropy([90, 9, 1], ignore_index=9)
    each = WeightedCrossEntropy([90, 9, 1], normalize="batch", reduction="none", ignore_index=9)
    torch.testing.assert_close(each(logits, targets).sum() / 6, _weighted_losses(ignore_index=9)[0](logits, targets))
    assert plain.normalize == "data"


def test_hard_and_soft_labels_are_normalized_alike():
    logits, targets = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 2, 2, 1, 0])
    for loss in _weighted_losses():
        torch.testing.assert_close(loss(logits, F.one_hot(targets, 3).float()), loss(logits, targets))


def test_a_batch_without_a_weight_has_loss_0():
    absent = WeightedCrossEntropy([5, 5, 0], normalize="batch", absent="mask")
    assert absent(torch.zeros(2, 3), torch.tensor([-100, 2])) == 0
    assert absent(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]])) == 0
    torch.testing.assert_close(absent(torch.zeros(2, 3), torch.tensor([0, 2])), torch.tensor(2.0).log())


def test_an_unknown_normalization_is_refused():
    with pytest.raises(InputError, match="normalization of class weights 'bacth'; did you mean batch"):
        WeightedCrossEntropy([5, 5], normalize="bacth")
