"""RISDA against a slow float64 loop written from the paper, by hand, against random draws, and as a stage."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.component import Component
from longtail.config import recipes
from longtail.config.schema import OptimizerConfig, TrainingConfig
from longtail.data.counts import ClassCounts
from longtail.errors import InputError
from longtail.losses.class_balanced import effective_number_weights
from longtail.models.classifier import LINEAR
from longtail.stages.risda import RetrainRISDA, RISDALoss, class_statistics, confusion_shares, most_frequent
from longtail.training.features import Features, features_of
from longtail.training.schedule import learning_rate_factor

COUNTS = [40, 9, 1, 3]
IS_FREQUENT = torch.tensor([True, False, False, False])
DIM = 5
SHORT = TrainingConfig(epochs=2, batch_size=10, optimizer=OptimizerConfig(lr=0.05))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def toy_features() -> tuple[Features, Tensor]:
    """Return shuffled features of classes with different means and spreads, and confusion shares."""
    targets = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))
    targets = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))]
    embeddings = draw(4, DIM)[targets] + (1 + targets[:, None]) * draw(len(targets), DIM, seed=2) / 2
    return Features(embeddings, targets), draw(4, 4, seed=3).softmax(dim=1)


def learned(**options: float) -> RISDALoss:
    features, confused = toy_features()
    loss = RISDALoss(COUNTS, **options)
    loss.learn(features, confused, IS_FREQUENT)
    return loss


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight of a head (C, D), embeddings (B, D) and labels (B,)."""
    return draw(4, DIM, seed=4), draw(8, DIM, seed=5), torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])


def slow_statistics(features: Features, confused: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return shift and covariance of each class after borrowing, by loops over the covariance of numpy."""
    rows = [features.embeddings_ND[features.targets_N == c].double().numpy() for c in range(4)]
    means = [row.mean(axis=0) for row in rows]
    own = [np.cov(row.T, bias=True) for row in rows]
    shifts, covariances = np.zeros((4, DIM)), np.zeros((4, DIM, DIM))
    for c in range(4):
        if IS_FREQUENT[c]:
            covariances[c] = own[c]
            continue
        for k in range(4):
            shifts[c] += float(confused[c, k]) * means[k]
            covariances[c] += float(confused[c, k]) * own[k]
        shifts[c] -= means[c]
    return shifts, covariances


def slow_loss(weight: Tensor, embeddings: Tensor, targets: Tensor, alpha: float, beta: float) -> Tensor:
    """Return the bound, computed number by number in float64 and divided by the class weights of the batch."""
    shifts, covariances = slow_statistics(*toy_features())
    class_weights = [(1 - 0.9999) / (1 - 0.9999**n) for n in COUNTS]
    total, weights = torch.zeros((), dtype=torch.float64), 0.0
    for x, y in zip(embeddings, targets.tolist(), strict=True):
        logits = []
        for j in range(4):
            difference = weight[j] - weight[y]
            logit = (weight[j] * x).sum()
            for a in range(DIM):
                logit = logit + alpha * difference[a] * shifts[y, a]
                for b in range(DIM):
                    logit = logit + beta / 2 * difference[a] * covariances[y, a, b] * difference[b]
            logits.append(logit)
        total = total + class_weights[y] * (torch.stack(logits).logsumexp(0) - logits[y])
        weights += class_weights[y]
    return total / weights


@pytest.mark.parametrize(("progress", "strength"), [(0.0, 0.8), (0.5, 0.9)])
def test_value_and_gradient_are_those_of_a_slow_loop(progress, strength):
    weight, embeddings, targets = batch()
    loss, fast = learned(alpha=1.0, beta=0.5), weight.clone().requires_grad_()
    loss.set_progress(progress)
    value = loss(embeddings @ fast.T, targets, fast)
    value.backward()
    exact = weight.double().requires_grad_()
    expected = slow_loss(exact, embeddings.double(), targets, strength * 1.0, strength * 0.5)
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)


def test_two_classes_by_hand():
    """A quarter of class 1 is predicted as class 0: its mean moves by 0.25 * (2 + 1), its variance is 0.25 * 1."""
    loss = RISDALoss([2, 1], alpha=1.0, beta=0.5, ramp_from=0.8)
    features = Features(torch.tensor([[1.0], [-1.0], [3.0]]), torch.tensor([0, 1, 0]))
    loss.learn(features, torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([True, False]))
    assert loss.shifts_CD.flatten().tolist() == [0.0, 0.75]
    assert loss.covariances_CDD.flatten().tolist() == [1.0, 0.25]
    weight = torch.tensor([[1.0], [-1.0]])
    # true 0: 0.5 / 2 * (-2) * 1 * (-2) = 1; true 1: 2 * 0.75 + 0.5 / 2 * 2 * 0.25 * 2 = 1.75; 0.8 of each
    torch.testing.assert_close(loss.offsets(weight), torch.tensor([[0.0, 0.8], [1.4, 0.0]]))
    value = loss(torch.zeros(1, 2), torch.tensor([1]), weight)
    assert float(value) == pytest.approx(math.log(1 + math.exp(1.4)))


def test_with_nothing_to_borrow_and_no_spread_it_is_weighted_cross_entropy():
    weight, embeddings, targets = batch()
    expected = F.cross_entropy(
        embeddings @ weight.T, targets, effective_number_weights(torch.tensor(COUNTS), 0.9999).float()
    )
    loss = RISDALoss(COUNTS)
    points = Features(draw(4, DIM)[torch.arange(4).repeat(2)], torch.arange(4).repeat(2))  # no class is spread
    loss.learn(points, torch.eye(4), IS_FREQUENT)
    torch.testing.assert_close(loss(embeddings @ weight.T, targets, weight), expected)
    off = learned(alpha=0.0, beta=0.0)
    torch.testing.assert_close(off(embeddings @ weight.T, targets, weight), expected)


@pytest.mark.parametrize("label", range(4))
def test_it_bounds_the_mean_loss_of_embeddings_that_are_drawn(label):
    loss, weight = learned(alpha=1.0, beta=0.5, ramp_from=1.0), draw(4, DIM, seed=4) / 2
    x, many = draw(DIM, seed=5), 20_000
    root = torch.linalg.cholesky(0.5 * loss.covariances_CDD[label] + 1e-6 * torch.eye(DIM))
    drawn = x + loss.shifts_CD[label] + draw(many, DIM, seed=6) @ root.T
    mean = F.cross_entropy(drawn @ weight.T, torch.full((many,), label))
    bound = loss((weight @ x)[None], torch.tensor([label]), weight)
    assert mean < bound + 1e-3
    narrow = learned(alpha=1.0, beta=0.0, ramp_from=1.0)((weight @ x)[None], torch.tensor([label]), weight)
    assert narrow < mean + 1e-3  # the loss is convex: the mean embedding has a lower loss


def test_renaming_the_classes_changes_nothing():
    weight, embeddings, targets = batch()
    order = torch.tensor([2, 0, 3, 1])
    features, confused = toy_features()
    renamed = RISDALoss([COUNTS[c] for c in order])
    renamed.learn(
        Features(features.embeddings_ND, order.argsort()[features.targets_N]),
        confused[order][:, order],
        IS_FREQUENT[order],
    )
    value = renamed(embeddings @ weight[order].T, order.argsort()[targets], weight[order])
    torch.testing.assert_close(value, learned()(embeddings @ weight.T, targets, weight))


def test_under_autocast_the_differences_keep_their_digits():
    weight, embeddings, targets = batch()
    loss = learned()
    plain = loss.offsets(weight)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(embeddings @ weight.T, targets, weight)
        assert torch.equal(loss.offsets(weight), plain)
    torch.testing.assert_close(value, loss(embeddings @ weight.T, targets, weight), rtol=0.05, atol=0.05)


def test_a_common_offset_of_the_weights_does_not_change_the_spread():
    loss = learned(beta=1.0)
    shifted = batch()[0] + 100
    expected = copy.deepcopy(loss).double()._spread(shifted.double())
    assert expected.min() > -1e-12
    torch.testing.assert_close(loss._spread(shifted).double(), expected, rtol=1e-4, atol=1e-3)


def test_a_class_without_features_has_statistics_of_zero():
    means, covariances = class_statistics(Features(torch.ones(2, 3), torch.tensor([2, 2])), 3)
    assert means.tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert not covariances.any()


def test_the_most_frequent_classes_borrow_nothing():
    assert most_frequent(ClassCounts(torch.arange(1, 101)), 0.2).nonzero().flatten().tolist() == list(range(80, 100))
    assert not most_frequent(ClassCounts([3, 2, 1]), 0.0).any()


def test_confusions_are_counted_on_the_training_images(data, model):
    features = Features(draw(20, 8), data.train.targets)
    predicted = model.head(features.embeddings_ND).argmax(dim=1)
    rates = confusion_shares(model, features, data.class_counts)
    for c in range(3):
        for k in range(3):
            assert float(rates[c, k]) == pytest.approx(float((predicted[data.train.targets == c] == k).float().mean()))


def test_the_stage_trains_the_head_alone_from_where_it_was(data, model, context):
    before = copy.deepcopy(model)
    still = replace(SHORT, optimizer=OptimizerConfig(lr=1e-12, weight_decay=0.0))
    RetrainRISDA(training=still)(model, data, context)
    torch.testing.assert_close(model.head.weight, before.head.weight)
    RetrainRISDA(training=SHORT)(model, data, context)
    assert not torch.allclose(model.head.weight, before.head.weight)
    assert all(map(torch.equal, model.backbone.state_dict().values(), before.backbone.state_dict().values()))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_the_first_row_of_the_log_is_the_loss_of_the_head_as_it_came(data, model, context):
    features = features_of(model, data, "train", context)
    loss = RISDALoss(data.class_counts)
    loss.learn(features, confusion_shares(model, features, data.class_counts), most_frequent(data.class_counts, 0.2))
    expected = loss(model.head(features.embeddings_ND), features.targets_N, model.head.weight).item()
    one_batch = replace(SHORT, epochs=1, batch_size=20, optimizer=OptimizerConfig(lr=1e-12))
    RetrainRISDA(training=one_batch)(model, data, context)
    assert context.log.rows[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_recipe_keeps_the_published_settings():
    stage = recipes.compose("cifar100-lt", "risda").stages[1]
    assert (stage.alpha, stage.beta, stage.head_share) == (1.0, 0.5, 0.2)
    assert (stage.training.epochs, stage.training.batch_size) == (40, 100)
    assert stage.training.optimizer == OptimizerConfig(lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = stage.training.schedule
    # the authors' rate in epochs 160 to 199: `adjust_learning_rate(optimizer, epoch + 1)`, x 0.01 where >= 180
    expected = [1e-3 * 0.01 ** (epoch + 1 >= 180) for epoch in range(160, 200)]
    assert [1e-3 * learning_rate_factor(schedule, e, 0, 40, 9) for e in range(40)] == pytest.approx(expected)
    loss = RISDALoss([2, 1])
    loss.set_progress(0.5)  # epoch 180 of 200
    assert loss.strength == pytest.approx(180 / 200)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": -1.0}, "`alpha` must be >= 0, got -1.0"),
        ({"beta": -0.5}, "`beta` must be >= 0, got -0.5"),
        ({"head_share": 1.5}, "`head_share` must be >= 0 and <= 1, got 1.5"),
        ({"ramp_from": -0.1}, "`ramp_from` must be >= 0 and <= 1, got -0.1"),
        ({"training": TrainingConfig(augment="crop")}, '`training.augment` of RetrainRISDA must be "none", got .crop.'),
    ],
)
def test_invalid_options_are_refused_at_construction(options, words):
    with pytest.raises(InputError, match=words):
        RetrainRISDA(**options)


def test_heads_and_data_that_the_stage_cannot_train_are_refused(data, model):
    assert RetrainRISDA().prepare(model, data, LINEAR).head == LINEAR
    with pytest.raises(InputError, match="trains a LinearHead, but the model will have a CosineHead"):
        RetrainRISDA().prepare(model, data, Component("CosineHead"))
    with pytest.raises(InputError, match="1 of 4 classes have no training image"):
        RetrainRISDA().prepare(model, replace(data, class_names=("a", "b", "c", "d")), LINEAR)
    wide = Features(torch.zeros(1, 2048), torch.tensor([0]))
    with pytest.raises(InputError, match="covariances of 1000 classes in 2048 dimensions take 16 GiB, more than 4"):
        class_statistics(wide, 1000)
