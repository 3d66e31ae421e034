"""Layers and base density of a flow against their definitions."""

import math

import pytest
import torch
from sklearn.mixture import GaussianMixture as SklearnMixture

from longtail.errors import InputError
from longtail.posthoc.dlsa.flow import MADE, FlowBatchNorm, GaussianMixture, Sigma


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def jacobian(block: MADE, x_D: torch.Tensor) -> torch.Tensor:
    return torch.autograd.functional.jacobian(lambda x: block(x.unsqueeze(0))[0].squeeze(0), x_D)


@pytest.mark.parametrize("reverse", [False, True])
def test_jacobian_is_triangular_in_the_order_of_the_block(reverse: bool) -> None:
    block, x_D = MADE(6, reverse=reverse), torch.rand(6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in block.parameters():
            weight.fill_(0.1)  # avoids dead units
    matrix = jacobian(block, x_D)
    seen, unseen = (matrix.triu(1), matrix.tril(-1)) if reverse else (matrix.tril(-1), matrix.triu(1))
    assert (unseen == 0).all()
    assert int((seen != 0).sum()) == 15  # each dimension depends on all previous ones


@pytest.mark.parametrize("reverse", [False, True])
def test_made_logdet_equals_autograd(reverse: bool) -> None:
    block, x_BD = MADE(5, reverse=reverse, seed=3).double(), normal(4, 5)
    expected = torch.stack([torch.linalg.slogdet(jacobian(block, x)).logabsdet for x in x_BD])
    torch.testing.assert_close(block(x_BD)[1], expected)


@pytest.mark.parametrize("dim", [1, 2, 9])
@pytest.mark.parametrize("reverse", [False, True])
def test_made_inverse_undoes_forward(dim: int, reverse: bool) -> None:
    block, x_BD = MADE(dim, reverse=reverse).double(), 3 * normal(7, dim)
    torch.testing.assert_close(block.inverse(block(x_BD)[0]), x_BD, rtol=0, atol=1e-10)


def test_made_equals_the_equations_written_out() -> None:
    """MAF, Eq. 3 to 5, one dimension at a time, with zeros for all later inputs of the network."""
    block, x_D = MADE(4).double(), normal(4)
    log_scales = []
    for i in range(4):
        known_D = torch.cat([x_D[:i], torch.zeros(4 - i, dtype=torch.float64)])
        out = block.out(block.hidden(known_D.unsqueeze(0))).squeeze(0)
        log_scales.append(out[4 + i])
        assert torch.isclose(block(x_D.unsqueeze(0))[0][0, i], (x_D[i] - out[i]) * torch.exp(-out[4 + i]))
    torch.testing.assert_close(block(x_D.unsqueeze(0))[1][0], -torch.stack(log_scales).sum())


def test_made_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = MADE(4, seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)  # the global random state did not change
    assert torch.equal(first.out.weight, MADE(4, seed=1).out.weight)
    assert not torch.equal(first.out.weight, MADE(4, seed=2).out.weight)


def test_made_initial_weights_are_those_of_a_linear_layer() -> None:
    weight, plain = MADE(100).out.weight.detach(), torch.nn.Linear(100, 200).weight.detach()
    assert float(weight.abs().max()) == pytest.approx(float(plain.abs().max()), rel=0.01)
    assert float(weight.std()) == pytest.approx(float(plain.std()), rel=0.03)


def test_made_number_of_weights_is_four_times_the_square() -> None:
    assert sum(p.numel() for p in MADE(50).parameters() if p.ndim == 2) == 4 * 50**2


def test_made_no_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="`dim` of a flow must be >= 1, got 0"):
        MADE(0)


def trained_norm(dim: int = 3) -> FlowBatchNorm:
    """Return a layer whose statistics and weights differ from their initial values."""
    norm = FlowBatchNorm(dim).double()
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (norm.log_gamma, norm.beta):
            weight.copy_(0.3 * torch.randn(dim, generator=source))
    norm(5 + 2 * torch.randn(20, dim, generator=source, dtype=torch.float64))
    return norm.eval()


def test_batch_norm_equals_torch_batch_norm_in_both_modes() -> None:
    """PyTorch uses the biased variance in training, and one minus our momentum."""
    norm, plain = trained_norm(), torch.nn.BatchNorm1d(3, momentum=0.1).double()
    plain.load_state_dict(
        {"weight": norm.log_gamma.exp(), "bias": norm.beta, "running_mean": norm.running_mean_D,
         "running_var": norm.running_var_D, "num_batches_tracked": torch.tensor(1)}
    )  # fmt: skip
    x_BD = normal(8, 3)
    torch.testing.assert_close(norm(x_BD)[0], plain.eval()(x_BD))
    unbiased = (x_BD - x_BD.mean(0)) / (x_BD.var(0) + 1e-5).sqrt() * norm.log_gamma.exp() + norm.beta
    torch.testing.assert_close(norm.train()(x_BD)[0], unbiased)
    plain.train()(x_BD)
    torch.testing.assert_close(norm.running_mean_D, plain.running_mean)
    torch.testing.assert_close(norm.running_var_D, plain.running_var)


def test_batch_norm_logdet_equals_autograd() -> None:
    norm, x_D = trained_norm(), normal(3)
    matrix = torch.autograd.functional.jacobian(lambda x: norm(x.unsqueeze(0))[0].squeeze(0), x_D)
    torch.testing.assert_close(norm(x_D.unsqueeze(0))[1][0], torch.linalg.slogdet(matrix).logabsdet)


def test_batch_norm_inverse_undoes_forward() -> None:
    norm, x_BD = trained_norm(), 100 * normal(5, 3)
    torch.testing.assert_close(norm.inverse(norm(x_BD)[0]), x_BD, rtol=0, atol=1e-10)


def test_batch_norm_first_batch_is_the_statistics_and_later_ones_move_them() -> None:
    norm = FlowBatchNorm(1)
    norm(torch.tensor([[1.0], [3.0]]))
    assert (norm.running_mean_D.item(), norm.running_var_D.item()) == (2.0, 2.0)
    norm(torch.tensor([[11.0], [13.0]]))
    assert norm.running_mean_D.item() == pytest.approx(0.9 * 2 + 0.1 * 12)


def test_batch_norm_evaluation_writes_nothing_and_treats_each_example_alone() -> None:
    norm, x_BD = trained_norm(), normal(6, 3)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    whole = norm(x_BD)[0]
    torch.testing.assert_close(torch.cat([norm(x.unsqueeze(0))[0] for x in x_BD]), whole)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_batch_norm_a_dimension_that_does_not_vary_stays_finite() -> None:
    y_BD, logdet_B = FlowBatchNorm(1)(torch.full((4, 1), 7.0))
    assert y_BD.eq(0).all()
    assert logdet_B[0].item() == pytest.approx(-0.5 * torch.log(torch.tensor(1e-5)).item())


def test_batch_norm_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="batches of at least 2 examples, got 1"):
        FlowBatchNorm(2)(torch.zeros(1, 2))
    for options in ({"dim": 0}, {"dim": 2, "momentum": 1.0}, {"dim": 2, "eps": 0.0}):
        with pytest.raises(InputError, match=r"`dim` must be >= 1, `momentum` in \[0, 1\) and `eps` > 0"):
            FlowBatchNorm(**options)  # type: ignore[arg-type]


def naive(u_BD: torch.Tensor, centers_KD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the definition in float64, one example and one cluster at a time."""
    logs = torch.empty(len(u_BD), len(centers_KD), dtype=torch.float64)
    for b, u in enumerate(u_BD.double()):
        for k, mu in enumerate(centers_KD.double()):
            logs[b, k] = sum(-0.5 * math.log(2 * math.pi) - 0.5 * float(d) ** 2 for d in u - mu)
    return logs.logsumexp(dim=1) - math.log(len(centers_KD)), logs.log_softmax(dim=1)


def test_mixture_equals_a_loop_over_the_definition() -> None:
    mixture = GaussianMixture(6, 7, sigma=1.5).double()
    u_BD = 2 * torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for actual, expected in zip(mixture(u_BD), naive(u_BD, mixture.centers_KD), strict=True):
        torch.testing.assert_close(actual, expected)


def test_mixture_equals_scikit_learn() -> None:
    mixture = GaussianMixture(4, 3, sigma=1.0)
    other = SklearnMixture(3, covariance_type="spherical")
    other.means_, other.weights_ = mixture.centers_KD.double().numpy(), torch.full((3,), 1 / 3).double().numpy()
    other.covariances_ = other.precisions_cholesky_ = torch.ones(3).double().numpy()
    u_BD = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    expected = torch.from_numpy(other.score_samples(u_BD.double().numpy())).float()
    torch.testing.assert_close(mixture.log_density(u_BD), expected)
    posterior = torch.from_numpy(other.predict_proba(u_BD.double().numpy())).float()
    torch.testing.assert_close(mixture.log_posterior(u_BD).exp(), posterior)


@pytest.mark.parametrize("length", [1.0, 1e3, 1e6])
def test_mixture_float32_keeps_its_digits_in_2048_dimensions(length: float) -> None:
    """The term shared by all clusters, |u|^2 / 2, is up to 1e15; the posterior must keep its precision."""
    mixture = GaussianMixture(2048, 50)
    u_BD = length * torch.randn(8, 2048, generator=torch.Generator().manual_seed(2)) / 2048**0.5
    density_B, posterior_BK = mixture(u_BD)
    exact_B, exact_BK = mixture.double()(u_BD.double())
    torch.testing.assert_close(density_B.double(), exact_B, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(posterior_BK.double(), exact_BK, rtol=1e-4, atol=1e-4 * max(1.0, length / 1e3))
    assert torch.equal(posterior_BK.argmax(dim=1), exact_BK.argmax(dim=1))


def test_mixture_posterior_sums_to_one_and_has_a_gradient() -> None:
    u_BD = (30 * torch.randn(16, 32, generator=torch.Generator().manual_seed(0))).requires_grad_()
    density_B, posterior_BK = GaussianMixture(32, 500)(u_BD)
    torch.testing.assert_close(posterior_BK.exp().sum(dim=1), torch.ones(16))
    (density_B.sum() + posterior_BK[:, 0].sum()).backward()
    assert u_BD.grad is not None
    assert u_BD.grad.isfinite().all()


def test_mixture_gradient_of_the_density_points_to_the_posterior_mean_of_the_centres() -> None:
    mixture = GaussianMixture(3, 4, sigma=1.0).double()
    u_BD = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    density_B, posterior_BK = mixture(u_BD)
    (gradient,) = torch.autograd.grad(density_B.sum(), u_BD)
    torch.testing.assert_close(gradient, posterior_BK.exp() @ mixture.centers_KD - u_BD)


def test_mixture_stays_in_float32_under_autocast() -> None:
    mixture, u_BD = GaussianMixture(64, 5), torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    plain = mixture(u_BD)
    with torch.autocast("cpu", torch.bfloat16):
        cast = mixture(u_BD)
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))
    assert mixture(u_BD.bfloat16())[0].dtype == torch.float32


def test_mixture_centres_have_the_spread_asked_for_and_stay() -> None:
    wide = GaussianMixture(1000, 200)
    assert float(wide.centers_KD.std()) == pytest.approx(0.05, rel=0.01)
    assert not list(wide.parameters())
    assert "centers_KD" in wide.state_dict()
    assert torch.equal(wide.centers_KD, GaussianMixture(1000, 200).centers_KD)
    assert not torch.equal(wide.centers_KD, GaussianMixture(1000, 200, seed=1).centers_KD)


def test_mixture_auto_spread_puts_two_centres_at_a_mean_squared_distance_of_3() -> None:
    """Supplement, Eq. 5: 2 D sigma^2 = 3."""
    distances = torch.pdist(GaussianMixture(256, 300, sigma="auto").centers_KD).square()
    assert float(distances.mean()) == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize(
    ("dim", "clusters", "sigma", "message"),
    [
        (0, 5, 0.05, "`clusters` of a mixture must be >= 1, got 0 and 5"),
        (4, 0, 0.05, "`clusters` of a mixture must be >= 1, got 4 and 0"),
        (4, 5, 0.0, r"must be > 0 \(0.05 in the paper\), got 0.0"),
        (4, 5, float("nan"), "must be > 0"),
        (4, 5, "big", "must be a number or 'auto'"),
    ],
)
def test_mixture_bad_options_are_refused(dim: int, clusters: int, sigma: Sigma, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GaussianMixture(dim, clusters, sigma=sigma)
