from typing import Any

import pytest
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.transfer.maps import TransferMap, correlation, monge_map, spectral_norm
from tests.transfer import reference

SCALES = ("trace", "literal", "spectral", "correlation", "optimal-transport")


def covariances(count: int = 3, channels: int = 5, seed: int = 0, size: float = 1.0) -> Tensor:
    """Of full rank, with correlations of both signs and unequal variances."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, 40, channels, generator=generator, dtype=torch.float64)
    mixing = torch.randn(count, channels, channels, generator=generator, dtype=torch.float64)
    return size * (rows @ mixing).transpose(1, 2) @ (rows @ mixing) / 40


def made(tail: Tensor, head: Tensor, **options: Any) -> Tensor:
    return TransferMap(**options)(tail, head, (tail.diagonal(dim1=1, dim2=2) + reference.EPS).sqrt())


@pytest.mark.parametrize("scale", SCALES)
def test_equals_the_paper_written_out(scale: str) -> None:
    tail, head = covariances(seed=1), covariances(seed=2)
    actual = made(tail, head, scale=scale)
    for one, t, h in zip(actual, tail, head, strict=True):
        torch.testing.assert_close(
            one, torch.tensor(reference.matrix(t.numpy(), h.numpy(), scale)), rtol=1e-6, atol=1e-8
        )


def standardized(tail: Tensor) -> Tensor:
    std = (tail.diagonal(dim1=1, dim2=2) + reference.EPS).sqrt()
    return tail / (std[:, :, None] * std[:, None, :])


@pytest.mark.parametrize("size", [1e-12, 1e-4, 1.0, 1e4, 1e12])
def test_trace_rule_gives_the_head_classes_variance_whatever_the_scale(size: float) -> None:
    tail, head = covariances(seed=1, size=size), covariances(seed=2, size=size)
    for precision in (torch.float64, torch.float32):
        std = tail.diagonal(dim1=1, dim2=2).sqrt().to(precision)
        a = TransferMap()(tail.to(precision), head.to(precision), std).double()
        after = (a.transpose(1, 2) @ correlation(tail) @ a).diagonal(dim1=1, dim2=2).sum(dim=1)
        torch.testing.assert_close(
            after / head.diagonal(dim1=1, dim2=2).sum(dim=1), torch.ones(3).double(), rtol=1e-4, atol=0
        )


def test_large_tau_picks_the_maximum_of_each_row_and_tau_0_takes_all_alike() -> None:
    tail, head = covariances(seed=1), covariances(seed=2)
    products = tail @ head
    sharp = made(tail, head, scale="literal", tau=1e6)
    is_largest = products == products.amax(dim=2, keepdim=True)
    torch.testing.assert_close(sharp, torch.where(is_largest, products, 0.0))
    torch.testing.assert_close(made(tail, head, scale="literal", tau=0), products / 5)
    soft = made(tail, head, scale="literal", tau=1e6, temperature="divide", normalization="none")
    torch.testing.assert_close(soft, products / 5, rtol=1e-3, atol=1e-3)


def test_tau_acts_on_the_products_themselves_without_normalization() -> None:
    tail, head = covariances(seed=1, size=0.1), covariances(seed=2, size=0.1)
    actual = made(tail, head, scale="literal", tau=2.0, normalization="none")
    expected = torch.stack(
        [torch.tensor(reference.emphasized((t @ h).numpy(), 2.0, False)) for t, h in zip(tail, head, strict=True)]
    )
    torch.testing.assert_close(actual, expected)


def test_the_covariance_of_one_side_alone() -> None:
    tail, head = covariances(seed=1), covariances(seed=2)
    for covariance, only in (("head", head), ("tail", tail)):
        expected = torch.stack([torch.tensor(reference.emphasized((m @ m).numpy(), 10.0)) for m in only])
        torch.testing.assert_close(made(tail, head, scale="literal", covariance=covariance), expected)
    a = made(tail, head, covariance="tail")
    after = (a.transpose(1, 2) @ standardized(tail) @ a).diagonal(dim1=1, dim2=2).sum(dim=1)
    torch.testing.assert_close(after, tail.diagonal(dim1=1, dim2=2).sum(dim=1))


def test_negative_products_can_be_left_out() -> None:
    tail, head = covariances(seed=1), covariances(seed=2)
    kept, cut = made(tail, head), made(tail, head, negative="relu")
    assert (kept < 0).any()
    assert not (cut < 0).any()


def test_optimal_transport_carries_one_covariance_into_the_other() -> None:
    tail, head = covariances(seed=1), covariances(seed=2)
    t = monge_map(tail, head, shrinkage=0.0)
    torch.testing.assert_close(t, t.transpose(1, 2))
    torch.testing.assert_close(t @ tail @ t, head)
    assert (torch.linalg.eigvalsh(t) > 0).all()  # so of all such maps it moves features least


def test_optimal_transport_of_a_class_with_few_images_stays_moderate() -> None:
    rows = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).double()
    thin = (rows.T @ rows / 2)[None]
    size = float(monge_map(thin, covariances(1), shrinkage=0.1).abs().max())
    assert size < 20
    assert torch.isfinite(monge_map(torch.zeros(1, 5, 5), torch.zeros(1, 5, 5), 0.1)).all()


def test_spectral_norm_equals_the_singular_value() -> None:
    matrices = covariances(20, 16, seed=3).float() @ covariances(20, 16, seed=4).float()
    torch.testing.assert_close(spectral_norm(matrices), torch.linalg.matrix_norm(matrices, ord=2), rtol=1e-3, atol=0)


@pytest.mark.parametrize("scale", SCALES)
def test_classes_without_variation_give_finite_maps(scale: str) -> None:
    some, none = covariances(1).float(), torch.zeros(1, 5, 5)
    for tail, head in ((none, some), (some, none), (none, none)):
        assert made(tail, head, scale=scale).isfinite().all()


def test_correlation_of_a_constant_channel_is_zero() -> None:
    matrix = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
    assert correlation(matrix).tolist() == [[[1, 0], [0, 0]]]


def test_bad_options_are_refused() -> None:
    for options, message in (
        ({"scale": "trase"}, "'trase'; did you mean trace"),
        ({"covariance": "mean"}, "choice of covariance 'mean'"),
        ({"temperature": "times"}, "use of the temperature 'times'"),
        ({"normalization": "rowmax"}, "'rowmax'; did you mean row-max"),
        ({"negative": 0}, "treatment of negative products '0'"),
        ({"tau": -1}, r"`tau` must be >= 0.*got -1"),
        ({"tau": 0, "temperature": "divide"}, r"`tau` must be > 0 with .*, got 0"),
        ({"shrinkage": 1.5}, r"`shrinkage` must be >= 0 and <= 1, got 1.5"),
    ):
        with pytest.raises(InputError, match=message):
            TransferMap(**options)  # type: ignore[arg-type]
