import pytest
import torch

from longtail.errors import InputError
from longtail.posthoc.dlsa import MADE


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def jacobian(block: MADE, x_D: torch.Tensor) -> torch.Tensor:
    return torch.autograd.functional.jacobian(lambda x: block(x.unsqueeze(0))[0].squeeze(0), x_D)


@pytest.mark.parametrize("reverse", [False, True])
def test_jacobian_is_triangular_in_the_order_of_the_block(reverse: bool) -> None:
    block, x_D = MADE(6, reverse=reverse), torch.rand(6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in block.parameters():
            weight.fill_(0.1)  # so that no unit is dead
    matrix = jacobian(block, x_D)
    seen, unseen = (matrix.triu(1), matrix.tril(-1)) if reverse else (matrix.tril(-1), matrix.triu(1))
    assert (unseen == 0).all()
    assert int((seen != 0).sum()) == 15  # and each dimension sees all that come before it


@pytest.mark.parametrize("reverse", [False, True])
def test_logdet_equals_autograd(reverse: bool) -> None:
    block, x_BD = MADE(5, reverse=reverse, seed=3).double(), normal(4, 5)
    expected = torch.stack([torch.linalg.slogdet(jacobian(block, x)).logabsdet for x in x_BD])
    torch.testing.assert_close(block(x_BD)[1], expected)


@pytest.mark.parametrize("dim", [1, 2, 9])
@pytest.mark.parametrize("reverse", [False, True])
def test_inverse_undoes_forward(dim: int, reverse: bool) -> None:
    block, x_BD = MADE(dim, reverse=reverse).double(), 3 * normal(7, dim)
    torch.testing.assert_close(block.inverse(block(x_BD)[0]), x_BD, rtol=0, atol=1e-10)


def test_equals_the_equations_written_out() -> None:
    """MAF, Eq. 3 to 5, one dimension at a time; the net is given zeros in the place of what comes after."""
    block, x_D = MADE(4).double(), normal(4)
    log_scales = []
    for i in range(4):
        known_D = torch.cat([x_D[:i], torch.zeros(4 - i, dtype=torch.float64)])
        out = block.out(block.hidden(known_D.unsqueeze(0))).squeeze(0)
        log_scales.append(out[4 + i])
        assert torch.isclose(block(x_D.unsqueeze(0))[0][0, i], (x_D[i] - out[i]) * torch.exp(-out[4 + i]))
    torch.testing.assert_close(block(x_D.unsqueeze(0))[1][0], -torch.stack(log_scales).sum())


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = MADE(4, seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)  # the global random numbers were left alone
    assert torch.equal(first.out.weight, MADE(4, seed=1).out.weight)
    assert not torch.equal(first.out.weight, MADE(4, seed=2).out.weight)


def test_initial_weights_are_those_of_a_linear_layer() -> None:
    weight, plain = MADE(100).out.weight.detach(), torch.nn.Linear(100, 200).weight.detach()
    assert float(weight.abs().max()) == pytest.approx(float(plain.abs().max()), rel=0.01)
    assert float(weight.std()) == pytest.approx(float(plain.std()), rel=0.03)


def test_number_of_weights_is_four_times_the_square() -> None:
    assert sum(p.numel() for p in MADE(50).parameters() if p.ndim == 2) == 4 * 50**2


def test_no_dimension_is_refused() -> None:
    with pytest.raises(InputError, match="at least one dimension, not 0"):
        MADE(0)
