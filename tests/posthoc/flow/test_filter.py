import copy

import pytest
import torch

from longtail.errors import InputError
from longtail.posthoc.dlsa import FlowBatchNorm, FlowFilter


def warmed(dim: int = 6, **options: int) -> FlowFilter:
    """A filter in float64 whose statistics and weights have moved."""
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
def test_inverse_undoes_forward(blocks: int) -> None:
    made, x_BD = warmed(blocks=blocks), batch()
    torch.testing.assert_close(made.inverse(made(x_BD).latent_BD), x_BD, rtol=0, atol=1e-5)


def test_density_is_that_of_the_latent_times_autograds_jacobian() -> None:
    made, x_BD = warmed(), batch()
    output = made(x_BD)
    for x, log_density, latent in zip(x_BD, output.log_density_B, output.latent_BD, strict=True):
        matrix = torch.autograd.functional.jacobian(lambda x: made(x.unsqueeze(0)).latent_BD.squeeze(0), x)
        base = made.mixture.log_density(latent.unsqueeze(0))[0]
        torch.testing.assert_close(log_density, base + torch.linalg.slogdet(matrix).logabsdet)


def test_second_block_lets_the_first_dimension_see_the_last() -> None:
    """The first block alone is triangular; the second, which counts from the other end, mixes what is left."""
    one, two = FlowFilter(4, blocks=1, clusters=1).eval(), FlowFilter(4, blocks=2, clusters=1).eval()
    seen = []
    for made in (one, two):
        with torch.no_grad():
            for weight in made.layers.parameters():
                weight.fill_(0.01)  # so that no unit is dead
        x_BD = 1 + batch(1, 4).float().abs()
        seen.append(torch.autograd.functional.jacobian(lambda x: made(x).latent_BD, x_BD)[0, :, 0] != 0)  # noqa: B023
    assert seen[0].sum() == 10
    assert seen[1].sum() > 10
    assert seen[1][0].all()


def test_density_integrates_to_one_in_two_dimensions() -> None:
    made = warmed(2)
    axis = torch.linspace(-25, 31, 1200, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.cat([made.log_density(rows).exp() for rows in grid.split(200_000)])
    assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-4)


def test_float32_agrees_with_float64_at_the_papers_width() -> None:
    made = FlowFilter(2048, clusters=500, blocks=1).eval()
    x_BD = torch.randn(3, 2048, generator=torch.Generator().manual_seed(0))
    single, double = made(x_BD), made.double()(x_BD.double())
    torch.testing.assert_close(single.log_density_B.double(), double.log_density_B, rtol=1e-6, atol=1e-2)
    torch.testing.assert_close(single.log_posterior_BK.double(), double.log_posterior_BK, rtol=0, atol=1e-4)


def test_assign_says_the_same_in_blocks_and_keeps_the_mode() -> None:
    made, x_ND = warmed().train(), batch(11)
    before = copy.deepcopy(made.state_dict())
    assigned = made.assign(x_ND, block=4)
    assert made.training
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())  # nothing was learnt
    made.eval()
    torch.testing.assert_close(assigned.log_density_N, made.log_density(x_ND))
    assert torch.equal(assigned.clusters_N, made.cluster(x_ND))
    torch.testing.assert_close(assigned.usage_K, made(x_ND).log_posterior_BK.exp().mean(dim=0))


def test_standardizing_makes_units_and_origin_of_the_features_irrelevant() -> None:
    x_ND = batch(40)
    scale, shift = torch.tensor([1e-4, 1e5, 1.0, 3.0, 50.0, 7.0], dtype=torch.float64), 1e3
    one, other = FlowFilter(6, clusters=4).double().eval(), FlowFilter(6, clusters=4).double().eval()
    one.standardize(x_ND)
    other.standardize(x_ND * scale + shift)
    other.scale_D.copy_(
        one.scale_D * scale
    )  # the least scale is relative to the typical one, and would catch the first
    torch.testing.assert_close(other.mean_D, one.mean_D * scale + shift)
    moved = other.log_density(x_ND * scale + shift) + scale.log().sum()
    torch.testing.assert_close(moved, one.log_density(x_ND), rtol=0, atol=1e-4)


def test_standardizing_spares_a_dimension_that_does_not_vary() -> None:
    made = FlowFilter(2)
    made.standardize(torch.tensor([[5.0, -1.0], [5.0, 1.0]]))
    assert made.mean_D.tolist() == [5, 0]
    assert made.scale_D.tolist() == pytest.approx([1e-3 * 0.5**0.5, 1])
    made.standardize(torch.full((3, 2), 4.0))
    assert made.scale_D.tolist() == [1, 1]


def test_stays_in_float32_under_autocast() -> None:
    made, x_BD = FlowFilter(8, clusters=3).eval(), batch(4, 8)
    plain = made(x_BD.float())
    with torch.autocast("cpu", torch.bfloat16):
        cast = made(x_BD.float())
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))
    assert made(x_BD.half()).log_density_B.dtype == torch.float32


def test_state_dict_brings_back_the_same_filter() -> None:
    made = warmed()
    other = FlowFilter(6, clusters=4, seed=9).double().eval()
    assert not torch.allclose(other.log_density(batch()), made.log_density(batch()))
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.log_density(batch()), made.log_density(batch()))
    assert torch.equal(other.cluster(batch()), made.cluster(batch()))


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"features of shape \(B, 6\), not \(2, 5\)"):
        FlowFilter(6)(torch.zeros(2, 5))
    with pytest.raises(InputError, match="at least one block"):
        FlowFilter(6, blocks=0)
    with pytest.raises(InputError, match="at least one dimension and one cluster"):
        FlowFilter(0)
