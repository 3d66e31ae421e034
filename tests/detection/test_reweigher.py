"""The Meta Reweigher through the box head of a detector equals autograd through the look-ahead."""

import copy

import pytest
import torch
from torch.nn import functional as F

from longtail.component import Component
from longtail.detection.box_losses import BoxLoss, LabelCounts
from longtail.training.balms.reweigher import MetaReweigher, ReweighedStep
from tests.detection.tiny import annotated, tiny_detector

LR, MOMENTUM, DECAY = 0.3, 0.9, 0.01
COUNTS = LabelCounts(torch.tensor([30, 5, 1]), torch.tensor([40, 6, 1]), 40)


def rows_of(model, seed):
    torch.manual_seed(seed)
    rows, labels = model.rows(*annotated(4))
    labels = torch.cat(labels)
    labels[::5] = torch.arange(len(labels[::5])) % 4  # all classes and background
    return rows, labels


def shifted_bce(logits, labels, shifts):
    """Return the summed binary cross-entropies of each row, written out."""
    onehot = F.one_hot(labels, 4)[:, 1:].double()
    foreground = (labels > 0).unsqueeze(1)
    logits = torch.where(foreground, logits - shifts, logits)
    return F.binary_cross_entropy_with_logits(logits, onehot, reduction="none").sum(1)


def gradient_by_autograd(weight, bias, velocities, batch, meta_batch, shifted):
    """Differentiate the meta loss after one step of SGD with momentum by the logits of the rates."""
    shares = COUNTS.images_C.double() / COUNTS.num_images
    shifts = ((1 - shares) / shares).log()
    rates = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rows, labels = batch
    foreground = labels > 0
    own = rates.sigmoid()[(labels - 1).clamp(min=0)]
    weights = torch.where(foreground, own * foreground.sum() / own[foreground].sum(), 1.0)
    loss = (weights * shifted_bce(rows @ weight.T + bias, labels, shifts)).mean()
    pulls = torch.autograd.grad(loss, (weight, bias), create_graph=True)
    after = [
        value - LR * (MOMENTUM * velocity + pull + DECAY * value)
        for value, pull, velocity in zip((weight, bias), pulls, velocities, strict=True)
    ]
    meta_rows, meta_labels = meta_batch
    logits = meta_rows @ after[0].T + after[1]
    meta_loss = shifted_bce(logits, meta_labels, shifts if shifted else 0 * shifts).mean()
    return torch.autograd.grad(meta_loss, rates)[0]


@pytest.mark.parametrize("shifted", [False, True])
def test_the_step_equals_autograd_through_the_look_ahead(shifted):
    model = tiny_detector("balanced-sigmoid").double().eval()
    classifier = model.predictor.cls_score
    loss = BoxLoss(Component("balanced-sigmoid"), COUNTS, reduction="none").double()
    loss.loss.shift_C = torch.logit(COUNTS.images_C.double() / COUNTS.num_images)  # not rounded to float32
    reweigher = MetaReweigher(3).double()
    optimizer = torch.optim.SGD(classifier.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    meta_optimizer = torch.optim.SGD(reweigher.parameters(), lr=1.0)
    step = ReweighedStep(classifier, loss.loss, reweigher, optimizer, meta_optimizer, shifted_meta_loss=shifted)
    batch, meta_batch = rows_of(model, 1), rows_of(model, 2)
    loss(classifier(batch[0]), batch[1]).mean().backward()
    optimizer.step()  # a first step, so that there is momentum
    velocities = [optimizer.state[p]["momentum_buffer"].clone() for p in (classifier.weight, classifier.bias)]
    weight, bias = (copy.deepcopy(p.detach()).requires_grad_() for p in (classifier.weight, classifier.bias))
    expected = gradient_by_autograd(weight, bias, velocities, batch, meta_batch, shifted)
    step(batch[0], loss.targets(batch[1]), meta_batch[0], loss.targets(meta_batch[1]))
    found = -reweigher.logits_K.detach()  # one step of SGD with learning rate 1, from 0
    assert expected.abs().max() > 1e-4
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
