import math

import pytest
import torch
from sklearn.mixture import GaussianMixture as SklearnMixture

from longtail.errors import InputError
from longtail.posthoc.dlsa import GaussianMixture, Sigma


def naive(u_BD: torch.Tensor, centers_KD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition in float64, one example and one cluster at a time."""
    logs = torch.empty(len(u_BD), len(centers_KD), dtype=torch.float64)
    for b, u in enumerate(u_BD.double()):
        for k, mu in enumerate(centers_KD.double()):
            logs[b, k] = sum(-0.5 * math.log(2 * math.pi) - 0.5 * float(d) ** 2 for d in u - mu)
    return logs.logsumexp(dim=1) - math.log(len(centers_KD)), logs.log_softmax(dim=1)


def test_equals_a_loop_over_the_definition() -> None:
    mixture = GaussianMixture(6, 7, sigma=1.5).double()
    u_BD = 2 * torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for actual, expected in zip(mixture(u_BD), naive(u_BD, mixture.centers_KD), strict=True):
        torch.testing.assert_close(actual, expected)


def test_equals_scikit_learn() -> None:
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
def test_float32_keeps_its_digits_in_2048_dimensions(length: float) -> None:
    """The part that all clusters share, |u|^2 / 2, is up to 1e15: it must not swallow what tells them apart."""
    mixture = GaussianMixture(2048, 50)
    u_BD = length * torch.randn(8, 2048, generator=torch.Generator().manual_seed(2)) / 2048**0.5
    density_B, posterior_BK = mixture(u_BD)
    exact_B, exact_BK = mixture.double()(u_BD.double())
    torch.testing.assert_close(density_B.double(), exact_B, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(posterior_BK.double(), exact_BK, rtol=1e-4, atol=1e-4 * max(1.0, length / 1e3))
    assert torch.equal(posterior_BK.argmax(dim=1), exact_BK.argmax(dim=1))


def test_posterior_sums_to_one_and_has_a_gradient() -> None:
    u_BD = (30 * torch.randn(16, 32, generator=torch.Generator().manual_seed(0))).requires_grad_()
    density_B, posterior_BK = GaussianMixture(32, 500)(u_BD)
    torch.testing.assert_close(posterior_BK.exp().sum(dim=1), torch.ones(16))
    (density_B.sum() + posterior_BK[:, 0].sum()).backward()
    assert u_BD.grad is not None
    assert u_BD.grad.isfinite().all()


def test_gradient_of_the_density_points_to_the_posterior_mean_of_the_centres() -> None:
    mixture = GaussianMixture(3, 4, sigma=1.0).double()
    u_BD = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    density_B, posterior_BK = mixture(u_BD)
    (gradient,) = torch.autograd.grad(density_B.sum(), u_BD)
    torch.testing.assert_close(gradient, posterior_BK.exp() @ mixture.centers_KD - u_BD)


def test_stays_in_float32_under_autocast() -> None:
    mixture, u_BD = GaussianMixture(64, 5), torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    plain = mixture(u_BD)
    with torch.autocast("cpu", torch.bfloat16):
        cast = mixture(u_BD)
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))
    assert mixture(u_BD.bfloat16())[0].dtype == torch.float32


def test_centres_have_the_spread_asked_for_and_stay() -> None:
    wide = GaussianMixture(1000, 200)
    assert float(wide.centers_KD.std()) == pytest.approx(0.05, rel=0.01)
    assert not list(wide.parameters())
    assert "centers_KD" in wide.state_dict()
    assert torch.equal(wide.centers_KD, GaussianMixture(1000, 200).centers_KD)
    assert not torch.equal(wide.centers_KD, GaussianMixture(1000, 200, seed=1).centers_KD)


def test_auto_spread_puts_two_centres_at_a_mean_squared_distance_of_3() -> None:
    """Supplement, Eq. 5: 2 D sigma^2 = 3."""
    distances = torch.pdist(GaussianMixture(256, 300, sigma="auto").centers_KD).square()
    assert float(distances.mean()) == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize(
    ("dim", "clusters", "sigma", "message"),
    [
        (0, 5, 0.05, "at least one dimension and one cluster, not 0 and 5"),
        (4, 0, 0.05, "at least one dimension and one cluster, not 4 and 0"),
        (4, 5, 0.0, r"must be positive \(0.05 in the paper\), not 0.0"),
        (4, 5, float("nan"), "must be positive"),
        (4, 5, "big", "must be a number or 'auto'"),
    ],
)
def test_bad_options_are_refused(dim: int, clusters: int, sigma: Sigma, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GaussianMixture(dim, clusters, sigma=sigma)
