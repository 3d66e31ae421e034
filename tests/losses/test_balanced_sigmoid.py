import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.losses import BalancedSigmoid
from tests.conformance import COUNTS, value_and_gradient
from tests.losses.reference import TOTAL, assert_equals_reference, examples, own_gradient, sigmoid


def balanced_sigmoid_of_the_paper(z: list[float], y: int) -> float:
    """The sum of K binary cross-entropies of z_j - log((N/K) / n_j * (N - n_j) / (N - N/K))."""
    share, loss = TOTAL / len(COUNTS), 0.0
    for j, (logit, count) in enumerate(zip(z, COUNTS, strict=True)):
        p = sigmoid(logit - math.log(share / count * (TOTAL - count) / (TOTAL - share)))
        loss -= math.log(p) if j == y else math.log1p(-p)
    return loss


def authors_lvis_loss(logits_BC: Tensor, labels_B: Tensor, images_with_C: Tensor, num_images: int) -> Tensor:
    """Their detector's loss: labels in [0, C], C being background; the sum over classes, divided by the proposals."""
    num_rows, num_classes = logits_BC.shape
    target = torch.zeros(num_rows, num_classes + 1)
    target[torch.arange(num_rows), labels_B] = 1
    target = target[:, :num_classes]
    share = images_with_C / num_images
    foreground = labels_B != num_classes
    shifted = logits_BC.clone()
    shifted[foreground] = (logits_BC - ((1 - share) / share).log())[foreground]
    return F.binary_cross_entropy_with_logits(shifted, target, reduction="none").sum() / num_rows


def test_equals_the_paper() -> None:
    assert_equals_reference(BalancedSigmoid(COUNTS, reduction="none"), balanced_sigmoid_of_the_paper, scale=2.0)


def test_equals_the_authors_detector_loss() -> None:
    """Half of the proposals are background; an image contains several classes, so the counts exceed the images."""
    logits, _ = examples()
    labels = torch.arange(30) % 5
    labels[::2] = 5
    images_with, num_images = torch.tensor([900, 500, 80, 9, 1]), 1000
    loss = BalancedSigmoid(images_with, num_images=num_images, test_rate=0.5)
    torch.testing.assert_close(
        loss(logits.float(), labels), authors_lvis_loss(logits.float(), labels, images_with, num_images)
    )


def test_value_by_hand() -> None:
    """Counts 3 and 1: the shifts are +log 3 and -log 3. Logits 0, label 1: log(1 + 3) + log(1 + 3)."""
    value = BalancedSigmoid([3, 1])(torch.zeros(1, 2), torch.tensor([1]))
    assert float(value) == pytest.approx(2 * math.log(4))


@pytest.mark.parametrize("background", [torch.tensor([5, 5]), torch.zeros(2, 5)], ids=["label C", "zeros"])
def test_background_gets_the_plain_sigmoid(background: Tensor) -> None:
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    actual = value_and_gradient(BalancedSigmoid(COUNTS, reduction="none"), logits, background)
    leaf = logits.clone().requires_grad_()
    plain = F.softplus(leaf).sum(dim=1)
    plain.sum().backward()
    torch.testing.assert_close(actual, (plain.detach(), leaf.grad))


def test_background_rows_count_in_the_mean_and_ignored_ones_do_not() -> None:
    logits, each = torch.randn(3, 5), BalancedSigmoid(COUNTS, reduction="none")
    labels = torch.tensor([0, 5, -100])
    torch.testing.assert_close(BalancedSigmoid(COUNTS)(logits, labels), each(logits, labels)[:2].mean())


def test_several_labels_are_several_decisions() -> None:
    """The loss of a row with two labels is the sum over its classes; all of them are shifted."""
    loss = BalancedSigmoid([3, 2, 1], num_images=10, test_rate=0.5, reduction="none")
    logits = torch.randn(1, 3, dtype=torch.float64)
    z = (logits + torch.logit(torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)))[0].tolist()
    expected = -math.log(sigmoid(z[0])) - math.log(sigmoid(z[1])) - math.log(sigmoid(-z[2]))
    assert float(loss(logits, torch.tensor([[1, 1, 0]]))) == pytest.approx(expected)


def test_best_logits_are_those_of_a_balanced_world() -> None:
    """For an uninformative input, the training answer is n_j / N; the model itself must learn 1 / K for each."""
    counts = torch.tensor([60, 30, 10])
    targets = torch.repeat_interleave(counts)
    even = torch.full((3,), math.log((1 / 3) / (2 / 3)))
    _, gradient = value_and_gradient(BalancedSigmoid(counts), even.expand(100, 3), targets)
    torch.testing.assert_close(gradient.sum(dim=0), torch.zeros(3), atol=1e-6, rtol=0)


def test_rarer_class_pulls_harder() -> None:
    pulls = [own_gradient(BalancedSigmoid(COUNTS), label) for label in range(5)]
    assert pulls == sorted(pulls)
    assert pulls[4] > pulls[0]


def test_test_rate_moves_all_classes_alike() -> None:
    default, half = BalancedSigmoid(COUNTS), BalancedSigmoid(COUNTS, test_rate=0.5)
    torch.testing.assert_close(half.shift_C - default.shift_C, torch.full((5,), -math.log(4)))


def test_background_next_to_an_absent_class() -> None:
    loss = BalancedSigmoid([80, 0, 20], absent="mask", reduction="none")
    value = loss(torch.zeros(2, 3), torch.tensor([3, 1]))
    assert value.tolist() == pytest.approx([2 * math.log(2), 0.0])  # background of two classes; an ignored row


def test_bad_options_are_refused() -> None:
    for rate in (0.0, 1.0, -0.5, float("nan")):
        with pytest.raises(InputError, match=r"`test_rate` must be > 0 and < 1"):
            BalancedSigmoid(COUNTS, test_rate=rate)


def test_class_in_every_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 classes are in all of the 10 images.*\n  0\n.*num_images"):
        BalancedSigmoid([10, 3], num_images=10)
    with pytest.raises(InputError, match="1 classes are in all of the 10 images"):
        BalancedSigmoid([10, 0], absent="mask")
