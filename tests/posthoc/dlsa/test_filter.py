"""The flow filter and its objectives against their definitions."""

import copy
import math

import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics.cluster import contingency_matrix

from longtail.errors import InputError
from longtail.posthoc.dlsa import (
    ClusterBalance,
    FlowBatchNorm,
    FlowFilter,
    cluster_purity,
    imbalance,
    likelihood_weights,
    tally_clusters,
    weighted_likelihood,
)


def warmed(dim: int = 6, **options: int) -> FlowFilter:
    """Return a float64 filter whose statistics and weights differ from their initial values."""
    source = torch.Generator().manual_seed(1)
    made = FlowFilter(dim, clusters=4, **options).double()  # type: ignore[arg-type]
    x_BD = 3 + 2 * torch.randn(50, dim, generator=source, dtype=torch.float64)
    made.standardize(x_BD)
    with torch.no_grad():
        for layer in made.layers:
            if isinstance(layer, FlowBatchNorm):
                layer.log_gamma.copy_(0.2 * torch.randn(dim, generator=source))
                layer.beta.copy_(0.2 * torch.randn(dim, generator=source))
        made(x_BD)
    return made.eval()


def batch(size: int = 5, dim: int = 6) -> torch.Tensor:
    return 3 + 2 * torch.randn(size, dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_filter_inverse_undoes_forward(blocks: int) -> None:
    made, x_BD = warmed(blocks=blocks), batch()
    torch.testing.assert_close(made.inverse(made(x_BD).latent_BD), x_BD, rtol=0, atol=1e-5)


def test_filter_density_is_that_of_the_latent_times_autograds_jacobian() -> None:
    made, x_BD = warmed(), batch()
    output = made(x_BD)
    for x, log_density, latent in zip(x_BD, output.log_density_B, output.latent_BD, strict=True):
        matrix = torch.autograd.functional.jacobian(lambda x: made(x.unsqueeze(0)).latent_BD.squeeze(0), x)
        base = made.mixture.log_density(latent.unsqueeze(0))[0]
        torch.testing.assert_close(log_density, base + torch.linalg.slogdet(matrix).logabsdet)


def test_filter_second_block_lets_the_first_dimension_see_the_last() -> None:
    """The Jacobian of one block is triangular; the second block, in reverse order, fills the rest."""
    one, two = FlowFilter(4, blocks=1, clusters=1).eval(), FlowFilter(4, blocks=2, clusters=1).eval()
    seen = []
    for made in (one, two):
        with torch.no_grad():
            for weight in made.layers.parameters():
                weight.fill_(0.01)  # avoids dead units
        x_BD = 1 + batch(1, 4).float().abs()
        seen.append(torch.autograd.functional.jacobian(lambda x: made(x).latent_BD, x_BD)[0, :, 0] != 0)  # noqa: B023
    assert seen[0].sum() == 10
    assert seen[1].sum() > 10
    assert seen[1][0].all()


def test_filter_density_integrates_to_one_in_two_dimensions() -> None:
    made = warmed(2)
    axis = torch.linspace(-25, 31, 1200, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.cat([made.log_density(rows).exp() for rows in grid.split(200_000)])
    assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-4)


def test_filter_float32_agrees_with_float64_at_the_papers_width() -> None:
    made = FlowFilter(2048, clusters=500, blocks=1).eval()
    x_BD = torch.randn(3, 2048, generator=torch.Generator().manual_seed(0))
    single, double = made(x_BD), made.double()(x_BD.double())
    torch.testing.assert_close(single.log_density_B.double(), double.log_density_B, rtol=1e-6, atol=1e-2)
    torch.testing.assert_close(single.log_posterior_BK.double(), double.log_posterior_BK, rtol=0, atol=1e-4)


def test_filter_assign_says_the_same_in_blocks_and_keeps_the_mode() -> None:
    made, x_ND = warmed().train(), batch(11)
    before = copy.deepcopy(made.state_dict())
    assigned = made.assign(x_ND, block=4)
    assert made.training
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    made.eval()
    torch.testing.assert_close(assigned.log_density_N, made.log_density(x_ND))
    assert torch.equal(assigned.clusters_N, made.cluster(x_ND))
    torch.testing.assert_close(assigned.usage_K, made(x_ND).log_posterior_BK.exp().mean(dim=0))


def test_filter_standardizing_makes_units_and_origin_of_the_features_irrelevant() -> None:
    x_ND = batch(40)
    scale, shift = torch.tensor([1e-4, 1e5, 1.0, 3.0, 50.0, 7.0], dtype=torch.float64), 1e3
    one, other = FlowFilter(6, clusters=4).double().eval(), FlowFilter(6, clusters=4).double().eval()
    one.standardize(x_ND)
    other.standardize(x_ND * scale + shift)
    other.scale_D.copy_(
        one.scale_D * scale
    )  # the minimum scale is relative to the typical one, and would apply to the first
    torch.testing.assert_close(other.mean_D, one.mean_D * scale + shift)
    moved = other.log_density(x_ND * scale + shift) + scale.log().sum()
    torch.testing.assert_close(moved, one.log_density(x_ND), rtol=0, atol=1e-4)


def test_filter_standardizing_spares_a_dimension_that_does_not_vary() -> None:
    made = FlowFilter(2)
    made.standardize(torch.tensor([[5.0, -1.0], [5.0, 1.0]]))
    assert made.mean_D.tolist() == [5, 0]
    assert made.scale_D.tolist() == pytest.approx([1e-3 * 0.5**0.5, 1])
    made.standardize(torch.full((3, 2), 4.0))
    assert made.scale_D.tolist() == [1, 1]


def test_filter_stays_in_float32_under_autocast() -> None:
    made, x_BD = FlowFilter(8, clusters=3).eval(), batch(4, 8)
    plain = made(x_BD.float())
    with torch.autocast("cpu", torch.bfloat16):
        cast = made(x_BD.float())
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))
    assert made(x_BD.half()).log_density_B.dtype == torch.float32


def test_filter_state_dict_brings_back_the_same_filter() -> None:
    made = warmed()
    other = FlowFilter(6, clusters=4, seed=9).double().eval()
    assert not torch.allclose(other.log_density(batch()), made.log_density(batch()))
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.log_density(batch()), made.log_density(batch()))
    assert torch.equal(other.cluster(batch()), made.cluster(batch()))


def test_filter_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"features of shape \(B, 6\), got \(2, 5\)"):
        FlowFilter(6)(torch.zeros(2, 5))
    with pytest.raises(InputError, match="`blocks` of a flow filter must be >= 1"):
        FlowFilter(6, blocks=0)
    with pytest.raises(InputError, match="the dimension and `clusters` of a mixture must be >= 1"):
        FlowFilter(0)


def posteriors(size: int, clusters: int, seed: int = 0) -> torch.Tensor:
    logits = 2 * torch.randn(size, clusters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return logits.log_softmax(dim=1)


def test_objectives_likelihood_weights_by_hand() -> None:
    """(n_max / n_c)^2 = 1, 4, 100."""
    assert likelihood_weights([100, 50, 10]).tolist() == pytest.approx([1 / 105, 4 / 105, 100 / 105])
    assert likelihood_weights([100, 50, 10], power=0).tolist() == pytest.approx([1 / 3] * 3)


def test_objectives_likelihood_weights_between_a_class_of_5_and_one_of_1280_images() -> None:
    weights = likelihood_weights([1280, 5])
    assert float(weights[1] / weights[0]) == pytest.approx(256**2)


def test_objectives_likelihood_weights_of_absent_classes_are_0_and_never_overflow() -> None:
    assert likelihood_weights([10, 0, 10]).tolist() == [0.5, 0, 0.5]
    assert likelihood_weights([10**6, 1], power=100).tolist() == [0, 1]


def test_objectives_weighted_likelihood_equals_a_loop() -> None:
    density, targets, weights = (
        posteriors(6, 1).flatten() - 3,
        torch.tensor([0, 1, 2, 2, 0, 1]),
        torch.tensor([0.1, 0.3, 0.6]),
    )
    expected = -sum(float(weights[y]) * float(value) for value, y in zip(density, targets, strict=True)) / 6
    assert float(weighted_likelihood(density, targets, weights)) == pytest.approx(expected)


def test_objectives_imbalance_is_log_k_minus_entropy() -> None:
    """Supplement, Eq. 1."""
    share = posteriors(1, 12).exp()[0]
    assert float(imbalance(share)) == pytest.approx(math.log(12) - entropy(share.numpy()))
    assert float(imbalance(share)) == pytest.approx(entropy(share.numpy(), torch.full((12,), 1 / 12).numpy()))
    assert float(imbalance(torch.full((12,), 1 / 12, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)


def test_objectives_first_estimate_is_the_batch_itself() -> None:
    log_posterior = posteriors(9, 4)
    shares = ClusterBalance(4, momentum=0.7).double().shares(log_posterior)
    torch.testing.assert_close(shares, log_posterior.exp().mean(dim=0), rtol=0, atol=1e-6)


def test_objectives_estimate_is_the_closed_form_of_the_recursion() -> None:
    """Supplement, Eq. 2: sum_i (1 - eta) eta^(t - i) p_i, over 1 - eta^t."""
    balance, batches = ClusterBalance(5, momentum=0.6).double(), [posteriors(3, 5, seed) for seed in range(6)]
    for batch in batches:
        shares = balance.shares(batch)
    closed = sum(0.4 * 0.6 ** (5 - i) * batch.exp().mean(dim=0) for i, batch in enumerate(batches)) / (1 - 0.6**6)
    torch.testing.assert_close(shares, closed, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [2, 5])
def test_objectives_estimator_is_unbiased_and_its_variance_falls_as_the_supplement_says(steps: int) -> None:
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


def test_objectives_gradient_goes_through_the_batch_alone() -> None:
    balance = ClusterBalance(3).double()
    past, present = (posteriors(4, 3, seed).requires_grad_() for seed in range(2))
    balance(past)
    balance(present).backward()
    assert past.grad is None
    assert present.grad is not None
    assert present.grad.abs().sum() > 0


def test_objectives_minimum_uses_all_clusters_equally_and_an_empty_one_is_finite() -> None:
    even, one = torch.eye(4).clamp(min=1e-30).log(), torch.eye(4)[:1].clamp(min=1e-30).log()
    assert float(ClusterBalance(4)(even)) == pytest.approx(0, abs=1e-5)
    value = ClusterBalance(4)(one.requires_grad_())
    value.backward()
    assert float(value.detach()) == pytest.approx(math.log(4), abs=1e-4)
    assert one.grad is not None
    assert one.grad.isfinite().all()


def test_objectives_evaluation_remembers_nothing_and_the_history_is_saved() -> None:
    balance = ClusterBalance(3).double()
    balance(posteriors(4, 3))
    before = balance.history_K.clone()
    balance.eval()(posteriors(4, 3, 1))
    assert torch.equal(balance.history_K, before)
    other = ClusterBalance(3).double()
    other.load_state_dict(balance.state_dict())
    assert torch.equal(other(posteriors(4, 3, 2)), balance.train()(posteriors(4, 3, 2)))


def test_objectives_purity_equals_a_loop_and_is_minus_a_soft_cross_entropy() -> None:
    first, second = posteriors(5, 4, 0), posteriors(5, 4, 1)
    expected = sum(float(first[b, k].exp() * second[b, k]) for b in range(5) for k in range(4)) / 5
    assert float(cluster_purity(first, second)) == pytest.approx(expected)
    soft = torch.nn.functional.cross_entropy(second, first.exp())
    torch.testing.assert_close(cluster_purity(first, second), -soft)


def test_objectives_purity_pushes_only_the_second_unless_told() -> None:
    for freeze in (True, False):
        first, second = posteriors(5, 4, 0).requires_grad_(), posteriors(5, 4, 1).requires_grad_()
        cluster_purity(first, second, freeze=freeze).backward()
        assert (first.grad is None) == freeze
        assert second.grad is not None


def test_objectives_margin_bounds_the_purity() -> None:
    apart = torch.tensor([[0.0, -80.0]]), torch.tensor([[-80.0, 0.0]])
    assert float(cluster_purity(*apart)) == pytest.approx(-80)
    assert float(cluster_purity(*apart, margin=0.01)) == pytest.approx(math.log(0.01))
    near = posteriors(5, 4, 0), posteriors(5, 4, 1)
    torch.testing.assert_close(cluster_purity(*near, margin=1e-9), cluster_purity(*near))


def test_objectives_tally_equals_scikit_learns_contingency() -> None:
    source = torch.Generator().manual_seed(0)
    clusters, targets = torch.randint(6, (200,), generator=source), torch.randint(4, (200,), generator=source)
    table = torch.from_numpy(contingency_matrix(clusters.numpy(), targets.numpy()))
    tally = tally_clusters(clusters, targets, 6, 4)
    assert torch.equal(tally.sizes_K, table.sum(dim=1))
    torch.testing.assert_close(tally.purity_K, (table.amax(dim=1) / table.sum(dim=1)).float())


def test_objectives_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="`power` must be finite and >= 0"):
        likelihood_weights([5, 2], power=-1)
    for options in ({"clusters": 0}, {"clusters": 3, "momentum": 1.0}):
        with pytest.raises(InputError, match=r"`clusters` must be >= 1 and `momentum` in \[0, 1\)"):
            ClusterBalance(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"posteriors must have shape \(B, 3\), got \(2, 4\)"):
        ClusterBalance(3)(posteriors(2, 4))
    for margin in (0.0, 1.5):
        with pytest.raises(InputError, match="`margin` must be a probability"):
            cluster_purity(posteriors(2, 3), posteriors(2, 3), margin=margin)
