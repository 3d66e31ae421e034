import pytest
import torch

from longtail.errors import InputError
from longtail.posthoc.dlsa import FlowBatchNorm


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def trained(dim: int = 3) -> FlowBatchNorm:
    """A layer with statistics and weights that are not those it began with."""
    norm = FlowBatchNorm(dim).double()
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (norm.log_gamma, norm.beta):
            weight.copy_(0.3 * torch.randn(dim, generator=source))
    norm(5 + 2 * torch.randn(20, dim, generator=source, dtype=torch.float64))
    return norm.eval()


def test_equals_torch_batch_norm_in_both_modes() -> None:
    """Torch divides by the biased variance in training, and counts its momentum from the other side."""
    norm, plain = trained(), torch.nn.BatchNorm1d(3, momentum=0.1).double()
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


def test_logdet_equals_autograd() -> None:
    norm, x_D = trained(), normal(3)
    matrix = torch.autograd.functional.jacobian(lambda x: norm(x.unsqueeze(0))[0].squeeze(0), x_D)
    torch.testing.assert_close(norm(x_D.unsqueeze(0))[1][0], torch.linalg.slogdet(matrix).logabsdet)


def test_inverse_undoes_forward() -> None:
    norm, x_BD = trained(), 100 * normal(5, 3)
    torch.testing.assert_close(norm.inverse(norm(x_BD)[0]), x_BD, rtol=0, atol=1e-10)


def test_first_batch_is_the_statistics_and_later_ones_move_them() -> None:
    norm = FlowBatchNorm(1)
    norm(torch.tensor([[1.0], [3.0]]))
    assert (norm.running_mean_D.item(), norm.running_var_D.item()) == (2.0, 2.0)
    norm(torch.tensor([[11.0], [13.0]]))
    assert norm.running_mean_D.item() == pytest.approx(0.9 * 2 + 0.1 * 12)


def test_evaluation_writes_nothing_and_treats_each_example_alone() -> None:
    norm, x_BD = trained(), normal(6, 3)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    whole = norm(x_BD)[0]
    torch.testing.assert_close(torch.cat([norm(x.unsqueeze(0))[0] for x in x_BD]), whole)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_a_dimension_that_does_not_vary_stays_finite() -> None:
    y_BD, logdet_B = FlowBatchNorm(1)(torch.full((4, 1), 7.0))
    assert y_BD.eq(0).all()
    assert logdet_B[0].item() == pytest.approx(-0.5 * torch.log(torch.tensor(1e-5)).item())


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="batches of at least 2 examples, not 1"):
        FlowBatchNorm(2)(torch.zeros(1, 2))
    for options in ({"dim": 0}, {"dim": 2, "momentum": 1.0}, {"dim": 2, "eps": 0.0}):
        with pytest.raises(InputError, match=r"dim >= 1, momentum in \[0, 1\) and eps > 0"):
            FlowBatchNorm(**options)  # type: ignore[arg-type]
