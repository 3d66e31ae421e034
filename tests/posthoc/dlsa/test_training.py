"""Training of a flow filter and of a classifier."""

import dataclasses

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from longtail import _random as randomness
from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, CrossEntropy
from longtail.posthoc.dlsa import (
    ClassifierSettings,
    FilterHistory,
    FilterSettings,
    FlowFilter,
    fit_classifier,
    imbalance,
    tally_clusters,
    train_filter,
)
from longtail.posthoc.dlsa.training import draw_pairs
from longtail.samplers.by_class import ByClass

COUNTS = (120, 80, 12, 10)
QUICK = FilterSettings(epochs=4, batch_size=64)


def planted(dim: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two wide head classes and two compact tail classes, all at the same distance from the origin."""
    source = torch.Generator().manual_seed(seed)
    targets = torch.repeat_interleave(torch.tensor(COUNTS))
    means = 2 * torch.nn.functional.normalize(torch.randn(4, dim, generator=source), dim=1)
    spread = torch.tensor([1.5, 1.5, 0.3, 0.3])[targets].unsqueeze(1)
    return means[targets] + spread * torch.randn(len(targets), dim, generator=source), targets


def fitted(settings: FilterSettings = QUICK, **keys: int) -> tuple[FlowFilter, FilterHistory]:
    made = FlowFilter(8, clusters=6)
    return made, train_filter(made, *planted(), settings, **keys)


def test_filter_planted_groups_are_separated() -> None:
    """The density separates head and tail on held-out examples, far better than before the training."""
    features, targets = planted()
    source = torch.Generator().manual_seed(7)
    nudged = features + 0.1 * torch.randn(features.shape, generator=source)
    made = FlowFilter(8, clusters=6)
    made.standardize(features)
    before = roc_auc_score(targets >= 2, made.assign(nudged).log_density_N)
    train_filter(made, features, targets, FilterSettings(epochs=60, batch_size=64))
    after = roc_auc_score(targets >= 2, made.assign(nudged).log_density_N)
    assert after > 0.99
    assert after > before + 0.01


def test_filter_losses_fall_each_by_its_own_weight() -> None:
    alone = dict.fromkeys(("likelihood_weight", "balance_weight", "purity_weight"), 0.0)
    for name in alone:
        loss = name.removesuffix("_weight")
        settings = FilterSettings(epochs=25, batch_size=64, lr=0.05, **alone | {name: 1.0})  # type: ignore[arg-type]
        _, history = fitted(settings)
        assert getattr(history.epochs[-1], loss) < getattr(history.epochs[0], loss)


def test_filter_weights_are_those_of_the_kept_epoch_which_has_the_most_good_clusters() -> None:
    settings = dataclasses.replace(QUICK, epochs=12, min_size=3)
    made, history = fitted(settings)
    good = [row.good_clusters for row in history.epochs]
    assert len(set(good)) > 1
    assert good[history.kept] == max(good)
    assert history.kept == 11 - good[::-1].index(max(good))  # the last of several best ones
    shorter, _ = fitted(dataclasses.replace(settings, epochs=history.kept + 1))
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in shorter.state_dict().items())
    assert not made.training


def test_filter_an_epoch_with_too_large_a_cluster_is_not_kept() -> None:
    open_settings = dataclasses.replace(QUICK, epochs=12, min_size=3)
    _, history = fitted(open_settings)
    largest = [row.largest_cluster for row in history.epochs]
    assert len(set(largest)) > 1
    _, bounded = fitted(dataclasses.replace(open_settings, max_size=min(largest) + 1))
    assert largest[bounded.kept] == min(largest)
    _, none = fitted(dataclasses.replace(open_settings, max_size=1))
    assert none.kept == 11  # no epoch qualifies, so the last is kept


def test_filter_history_says_what_the_filter_does() -> None:
    features, targets = planted()
    made, history = fitted(dataclasses.replace(QUICK, min_size=3))
    assigned = made.assign(features)
    row = history.epochs[history.kept]
    tally = tally_clusters(assigned.clusters_N, targets, 6, 4)
    assert row.largest_cluster == int(tally.sizes_K.max())
    assert row.good_clusters == int(((tally.purity_K > 0.7) & (tally.sizes_K > 3)).sum())
    assert row.balancedness == pytest.approx(float(imbalance(assigned.usage_K)))
    assert [one.epoch for one in history.epochs] == [0, 1, 2, 3]


def test_filter_same_seed_same_bits_and_another_level_other_ones() -> None:
    torch.manual_seed(1)
    first, _ = fitted(seed=3, level=1)
    torch.manual_seed(2)
    again, _ = fitted(seed=3, level=1)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    for other, _ in (fitted(seed=3, level=2), fitted(seed=4, level=1)):
        assert not torch.equal(other.layers[0].out.weight, first.layers[0].out.weight)  # type: ignore[union-attr]


def test_filter_pairs_are_of_two_classes_drawn_uniformly() -> None:
    targets = planted()[1]
    pairs = draw_pairs(ByClass(targets), 24_000, torch.Generator().manual_seed(0))
    classes = targets[pairs]
    assert (classes[0] != classes[1]).all()
    table = torch.zeros(4, 4).index_put((classes[0], classes[1]), torch.ones(24_000), accumulate=True)
    assert torch.allclose(table, 2000 * (1 - torch.eye(4)), atol=220)
    tail = torch.bincount(pairs[0][classes[0] == 3] - sum(COUNTS[:3]), minlength=10)
    assert torch.allclose(tail.float(), torch.full((10,), 600.0), atol=120)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_filter_units_of_the_features_do_not_matter(scale: float) -> None:
    features, targets = planted()
    made = FlowFilter(8, clusters=6)
    history = train_filter(made, scale * features + scale, targets, QUICK)
    usual = fitted()[1]
    assert history.epochs[-1].purity == pytest.approx(usual.epochs[-1].purity, rel=1e-3)
    assert history.epochs[-1].balance == pytest.approx(usual.epochs[-1].balance, rel=0.05, abs=1e-4)


@pytest.mark.parametrize(("clusters", "batch_size"), [(500, 1024), (3, 1), (40, 7)])
def test_filter_small_sets_work(clusters: int, batch_size: int) -> None:
    """Fewer examples than clusters or batch size, classes of one image, absent labels and a constant dimension."""
    source = torch.Generator().manual_seed(0)
    features = torch.randn(30, 8, generator=source).relu()
    features[:, 3] = 0
    targets = torch.tensor([0] * 20 + [2] * 8 + [5, 7])
    made = FlowFilter(8, clusters=clusters)
    train_filter(made, features, targets, FilterSettings(epochs=2, batch_size=batch_size))
    assert made.assign(features).log_density_N.isfinite().all()


def test_filter_few_classes_in_many_dimensions_do_not_diverge() -> None:
    """The likelihood has 300 terms and two classes share its weight, so the published rate needs clipping."""
    features = torch.randn(40, 300, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(40) % 2
    settings = FilterSettings(epochs=30)
    history = train_filter(FlowFilter(300, clusters=5), features, targets, settings)
    assert history.epochs[-1].likelihood < history.epochs[0].likelihood
    with pytest.raises(InputError, match=r"level 3 diverged in epoch \d+ of 30; .* `lr` = 0.2, or clip the gradients"):
        train_filter(
            FlowFilter(300, clusters=5), features, targets, dataclasses.replace(settings, max_norm=None), level=2
        )


def test_filter_any_float_type_and_a_filter_that_keeps_features_as_they_are() -> None:
    features, targets = planted()
    made = FlowFilter(8, clusters=6)
    train_filter(made, features.half(), targets.int(), dataclasses.replace(QUICK, standardize=False))
    assert made.scale_D.tolist() == [1] * 8
    assert made.mean_D.tolist() == [0] * 8


def test_filter_bad_input_is_refused() -> None:
    features, targets = planted()
    spoilt = features.clone()
    spoilt[3, 1] = float("nan")
    for given, labels, message in (
        (features[:, :5], targets, r"features of shape \(N, 8\), got \(222, 5\)"),
        (features, targets[:9], r"labels must have shape \(222,\), one per feature, got \(9,\)"),
        (features, targets - 1, "labels must be integers >= 0"),
        (features, targets.float(), "labels must be integers >= 0"),
        (features[:120], targets[:120], "the 120 remaining examples have 1; use fewer levels"),
        (features[:0], targets[:0], "the 0 remaining examples have 0"),
        (spoilt, targets, "1 of 222 features are NaN or infinite, rows:\n  3"),
    ):
        with pytest.raises(InputError, match=message):
            train_filter(FlowFilter(8, clusters=6), given, labels, QUICK)


LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 0])
LABEL_COUNTS = [4, 2, 1]


def inputs() -> Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


def new_linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 3)


def slow_fit(epochs: int, batch: int, lr: float) -> tuple[Tensor, Tensor, float]:
    """Train Balanced Softmax by its gradient, (p - y) x, in float64; also return the mean loss of the last epoch."""
    start = new_linear()
    weight, bias = start.weight.detach().double(), start.bias.detach().double()
    shift, x = torch.tensor(LABEL_COUNTS, dtype=torch.float64).log(), inputs().double()
    for epoch in range(epochs):
        order = torch.randperm(7, generator=randomness.generator("order", "x", 1, epoch)).tolist()
        total = 0.0
        for first in range(0, 7, batch):
            rows = order[first : first + batch]
            grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
            for row in rows:
                p = (weight @ x[row] + bias + shift).softmax(dim=0)
                total -= float(p[LABELS[row]].log())
                residual = p - torch.eye(3, dtype=torch.float64)[LABELS[row]]
                grad_weight += residual[:, None] * x[row] / len(rows)
                grad_bias += residual / len(rows)
            weight, bias = weight - lr * grad_weight, bias - lr * grad_bias
    return weight, bias, total / 7


@pytest.mark.parametrize("batch", [3, 7, 100])
def test_classifier_it_is_plain_gradient_descent(batch):
    classifier, loss = new_linear(), BalancedSoftmax(LABEL_COUNTS)
    settings = ClassifierSettings(epochs=3, batch_size=batch, lr=0.5)
    mean = fit_classifier(classifier, inputs().__getitem__, LABELS, loss, settings, "x", 1)
    weight, bias, expected = slow_fit(3, batch, 0.5)
    torch.testing.assert_close(classifier.weight.detach(), weight.float())
    torch.testing.assert_close(classifier.bias.detach(), bias.float())
    assert mean == pytest.approx(expected, rel=1e-5)


def test_classifier_the_order_is_the_seeds_alone():
    settings, weights = ClassifierSettings(epochs=2, batch_size=2, lr=0.5), []
    for seed in (1, 1, 2):
        torch.rand(3)
        classifier = new_linear()
        fit_classifier(classifier, inputs().__getitem__, LABELS, BalancedSoftmax(LABEL_COUNTS), settings, "x", seed)
        weights.append(classifier.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_classifier_it_can_be_stopped_after_each_epoch():
    calls = []

    def stop() -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_classifier(
            new_linear(),
            inputs().__getitem__,
            LABELS,
            CrossEntropy(LABEL_COUNTS),
            ClassifierSettings(),
            "x",
            on_epoch=stop,
        )
    assert calls == [0, 1]


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")}])
def test_classifier_settings_out_of_range_are_refused(options):
    (name,) = options
    with pytest.raises(InputError, match=f"`{name}` must be >=? [01], got"):
        ClassifierSettings(**options)


def test_classifier_a_training_that_diverges_is_refused():
    settings = ClassifierSettings(epochs=9, lr=1e38)
    with pytest.raises(InputError, match=r"not finite in epoch \d of 9; use a lower learning rate than `lr` = 1e\+38"):
        fit_classifier(new_linear(), (1e3 * inputs()).__getitem__, LABELS, CrossEntropy(LABEL_COUNTS), settings, "x")
