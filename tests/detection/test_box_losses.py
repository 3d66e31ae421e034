"""Box classifiers: losses of proposals, their background rule and their initial probabilities."""

import math

import pytest
import torch
from torch.nn import functional as F

from longtail.component import Component
from longtail.detection.box_losses import BOX_CLASSIFIERS, BoxLoss, LabelCounts, SigmoidEqualization, box_classifier
from longtail.errors import InputError

IMAGES, INSTANCES, NUM_IMAGES = [40, 10, 1], [90, 12, 3], 50
COUNTS = LabelCounts(torch.tensor(IMAGES), torch.tensor(INSTANCES), NUM_IMAGES)
LABELS = torch.tensor([0, 1, 2, 3, 0])


def logits_for(name):
    outputs = 3 if box_classifier(Component(name)).activation == "sigmoid" else 4
    return torch.randn(5, outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_balanced_sigmoid_is_the_released_rule():
    """log((1 - f) / f) is subtracted on foreground rows; the sum of the terms over the number of proposals."""
    logits = logits_for("balanced-sigmoid")
    shares = [count / NUM_IMAGES for count in IMAGES]
    total = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        for index, (z, share) in enumerate(zip(row, shares, strict=True)):
            shifted = z - math.log((1 - share) / share) if label > 0 else z
            sign = 1 if label == index + 1 else -1
            total += math.log1p(math.exp(-sign * shifted))
    loss = BoxLoss(Component("balanced-sigmoid"), COUNTS)(logits, LABELS)
    assert float(loss) == pytest.approx(total / len(LABELS), rel=1e-6)


def test_balanced_softmax_shifts_a_class_by_its_count_over_the_mean():
    logits = logits_for("balanced-softmax")
    mean = sum(INSTANCES) / 3
    shift = torch.tensor([0.0, *(math.log(n / mean) for n in INSTANCES)], dtype=torch.float64)
    expected = F.cross_entropy(logits + shift, LABELS)
    assert torch.allclose(BoxLoss(Component("balanced-softmax"), COUNTS)(logits, LABELS), expected, atol=1e-6)


def test_equal_counts_make_balanced_softmax_plain():
    even = LabelCounts(torch.tensor([5, 5]), torch.tensor([7, 7]), 20)
    logits, labels = torch.randn(6, 3), torch.arange(6) % 3
    plain, balanced = (BoxLoss(Component(name), even)(logits, labels) for name in ("softmax", "balanced-softmax"))
    assert torch.allclose(plain, balanced)


def test_plain_losses():
    logits = logits_for("softmax")
    assert torch.allclose(BoxLoss(Component("softmax"), COUNTS)(logits, LABELS), F.cross_entropy(logits, LABELS))
    logits = logits_for("sigmoid")
    onehot = F.one_hot(LABELS, 4)[:, 1:].double()
    expected = F.binary_cross_entropy_with_logits(logits, onehot, reduction="sum") / len(LABELS)
    assert torch.allclose(BoxLoss(Component("sigmoid"), COUNTS)(logits, LABELS), expected)
    focal = BoxLoss(Component("focal", {"gamma": 0.0}), COUNTS)(logits_for("focal"), LABELS)
    assert torch.allclose(focal, F.cross_entropy(logits_for("focal"), LABELS))


def test_equalization_spares_rare_classes_on_foreground_only():
    loss = SigmoidEqualization(IMAGES, num_images=NUM_IMAGES, threshold=0.1, reduction="sum")
    logits = logits_for("equalization").requires_grad_()
    loss(logits, torch.tensor([3, 0, 1, 2, 3])).backward()
    rare = logits.grad[:, 2]
    assert (rare[1:3] == 0).all(), "no negative gradient from other classes"
    assert rare[3] < 0, "its own examples pull it up"
    assert (rare[[0, 4]] > 0).all(), "background still pushes the rare class down"
    assert (logits.grad[:, :2] != 0).all()


def test_seesaw_counts_the_proposals():
    loss = BoxLoss(Component("seesaw"), COUNTS)
    loss(logits_for("seesaw"), LABELS)
    assert loss.loss.seen_C.tolist() == [2, 1, 1, 1]


@pytest.mark.parametrize("name", BOX_CLASSIFIERS)
def test_every_classifier_ignores_classes_without_images(name):
    counts = LabelCounts(torch.tensor([5, 0, 20]), torch.tensor([5, 0, 30]), 20)  # and one class in every image
    loss = BoxLoss(Component(name), counts)
    value = loss(logits_for(name), torch.tensor([0, 1, 3, 0, 1]))
    assert value.isfinite()
    assert value > 0


def test_unknown_names_and_options():
    with pytest.raises(InputError, match="balanced-sigmoid"):
        box_classifier(Component("balanced-sigmoids"))
    with pytest.raises(InputError, match="option of seesaw"):
        BoxLoss(Component("seesaw", {"r": 1}), COUNTS)
    with pytest.raises(InputError, match="`p` must be >= 0"):
        BoxLoss(Component("seesaw", {"p": -1}), COUNTS)
    with pytest.raises(InputError, match="two classes"):
        LabelCounts(torch.tensor([3]), torch.tensor([3]), 5)
