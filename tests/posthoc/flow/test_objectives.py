import math

import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics.cluster import contingency_matrix

from longtail.errors import InputError
from longtail.posthoc.dlsa import (
    ClusterBalance,
    cluster_purity,
    imbalance,
    likelihood_weights,
    tally_clusters,
    weighted_likelihood,
)


def posteriors(size: int, clusters: int, seed: int = 0) -> torch.Tensor:
    logits = 2 * torch.randn(size, clusters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return logits.log_softmax(dim=1)


def test_likelihood_weights_by_hand() -> None:
    """(n_max / n_c)^2 = 1, 4, 100."""
    assert likelihood_weights([100, 50, 10]).tolist() == pytest.approx([1 / 105, 4 / 105, 100 / 105])
    assert likelihood_weights([100, 50, 10], power=0).tolist() == pytest.approx([1 / 3] * 3)


def test_likelihood_weights_between_a_class_of_5_and_one_of_1280_images() -> None:
    weights = likelihood_weights([1280, 5])
    assert float(weights[1] / weights[0]) == pytest.approx(256**2)


def test_likelihood_weights_of_absent_classes_are_0_and_never_overflow() -> None:
    assert likelihood_weights([10, 0, 10]).tolist() == [0.5, 0, 0.5]
    assert likelihood_weights([10**6, 1], power=100).tolist() == [0, 1]


def test_weighted_likelihood_equals_a_loop() -> None:
    density, targets, weights = (
        posteriors(6, 1).flatten() - 3,
        torch.tensor([0, 1, 2, 2, 0, 1]),
        torch.tensor([0.1, 0.3, 0.6]),
    )
    expected = -sum(float(weights[y]) * float(value) for value, y in zip(density, targets, strict=True)) / 6
    assert float(weighted_likelihood(density, targets, weights)) == pytest.approx(expected)


def test_imbalance_is_log_k_minus_entropy() -> None:
    """Supplement, Eq. 1."""
    share = posteriors(1, 12).exp()[0]
    assert float(imbalance(share)) == pytest.approx(math.log(12) - entropy(share.numpy()))
    assert float(imbalance(share)) == pytest.approx(entropy(share.numpy(), torch.full((12,), 1 / 12).numpy()))
    assert float(imbalance(torch.full((12,), 1 / 12, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)


def test_first_estimate_is_the_batch_itself() -> None:
    log_posterior = posteriors(9, 4)
    shares = ClusterBalance(4, momentum=0.7).double().shares(log_posterior)
    torch.testing.assert_close(shares, log_posterior.exp().mean(dim=0), rtol=0, atol=1e-6)


def test_estimate_is_the_closed_form_of_the_recursion() -> None:
    """Supplement, Eq. 2: sum_i (1 - eta) eta^(t - i) p_i, over 1 - eta^t."""
    balance, batches = ClusterBalance(5, momentum=0.6).double(), [posteriors(3, 5, seed) for seed in range(6)]
    for batch in batches:
        shares = balance.shares(batch)
    closed = sum(0.4 * 0.6 ** (5 - i) * batch.exp().mean(dim=0) for i, batch in enumerate(batches)) / (1 - 0.6**6)
    torch.testing.assert_close(shares, closed, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [2, 5])
def test_estimator_is_unbiased_and_its_variance_falls_as_the_supplement_says(steps: int) -> None:
    """Supplement, Eq. 3 and 4: the variance is phi(1) / phi(t) that of one batch, phi(t) = (1 - eta^t) / (1 + eta^t).

    20,000 courses at once: each cluster is one, seen by batches of one number, which need not be a distribution.
    """
    eta, courses = 0.7, 20_000
    balance = ClusterBalance(courses, momentum=eta).double()
    draws = torch.rand(steps, 1, courses, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for draw in draws:
        shares = balance.shares(draw.log())
    phi = [(1 - eta**t) / (1 + eta**t) for t in (1, steps)]
    assert float(shares.mean()) == pytest.approx(0.5, abs=5 * (1 / 12 / courses) ** 0.5)
    assert float(shares.var()) == pytest.approx(phi[0] / phi[1] / 12, rel=0.03)


def test_gradient_goes_through_the_batch_alone() -> None:
    balance = ClusterBalance(3).double()
    past, present = (posteriors(4, 3, seed).requires_grad_() for seed in range(2))
    balance(past)
    balance(present).backward()
    assert past.grad is None
    assert present.grad is not None
    assert present.grad.abs().sum() > 0


def test_minimum_uses_all_clusters_equally_and_an_empty_one_is_finite() -> None:
    even, one = torch.eye(4).clamp(min=1e-30).log(), torch.eye(4)[:1].clamp(min=1e-30).log()
    assert float(ClusterBalance(4)(even)) == pytest.approx(0, abs=1e-5)
    value = ClusterBalance(4)(one.requires_grad_())
    value.backward()
    assert float(value.detach()) == pytest.approx(math.log(4), abs=1e-4)
    assert one.grad is not None
    assert one.grad.isfinite().all()


def test_evaluation_remembers_nothing_and_the_history_is_saved() -> None:
    balance = ClusterBalance(3).double()
    balance(posteriors(4, 3))
    before = balance.history_K.clone()
    balance.eval()(posteriors(4, 3, 1))
    assert torch.equal(balance.history_K, before)
    other = ClusterBalance(3).double()
    other.load_state_dict(balance.state_dict())
    assert torch.equal(other(posteriors(4, 3, 2)), balance.train()(posteriors(4, 3, 2)))


def test_purity_equals_a_loop_and_is_minus_a_soft_cross_entropy() -> None:
    first, second = posteriors(5, 4, 0), posteriors(5, 4, 1)
    expected = sum(float(first[b, k].exp() * second[b, k]) for b in range(5) for k in range(4)) / 5
    assert float(cluster_purity(first, second)) == pytest.approx(expected)
    soft = torch.nn.functional.cross_entropy(second, first.exp())
    torch.testing.assert_close(cluster_purity(first, second), -soft)


def test_purity_pushes_only_the_second_unless_told() -> None:
    for freeze in (True, False):
        first, second = posteriors(5, 4, 0).requires_grad_(), posteriors(5, 4, 1).requires_grad_()
        cluster_purity(first, second, freeze=freeze).backward()
        assert (first.grad is None) == freeze
        assert second.grad is not None


def test_margin_bounds_the_purity() -> None:
    apart = torch.tensor([[0.0, -80.0]]), torch.tensor([[-80.0, 0.0]])
    assert float(cluster_purity(*apart)) == pytest.approx(-80)
    assert float(cluster_purity(*apart, margin=0.01)) == pytest.approx(math.log(0.01))
    near = posteriors(5, 4, 0), posteriors(5, 4, 1)
    torch.testing.assert_close(cluster_purity(*near, margin=1e-9), cluster_purity(*near))


def test_tally_equals_scikit_learns_contingency() -> None:
    source = torch.Generator().manual_seed(0)
    clusters, targets = torch.randint(6, (200,), generator=source), torch.randint(4, (200,), generator=source)
    table = torch.from_numpy(contingency_matrix(clusters.numpy(), targets.numpy()))
    tally = tally_clusters(clusters, targets, 6, 4)
    assert torch.equal(tally.sizes_K, table.sum(dim=1))
    torch.testing.assert_close(tally.purity_K, (table.amax(dim=1) / table.sum(dim=1)).float())


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="power must be >= 0"):
        likelihood_weights([5, 2], power=-1)
    for options in ({"clusters": 0}, {"clusters": 3, "momentum": 1.0}):
        with pytest.raises(InputError, match=r"at least one cluster and a momentum in \[0, 1\)"):
            ClusterBalance(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"posteriors of shape \(B, 3\), not \(2, 4\)"):
        ClusterBalance(3)(posteriors(2, 4))
    for margin in (0.0, 1.5):
        with pytest.raises(InputError, match="margin is a probability"):
            cluster_purity(posteriors(2, 3), posteriors(2, 3), margin=margin)
