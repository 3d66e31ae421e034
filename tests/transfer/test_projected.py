import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.transfer import SemanticTransfer
from longtail.transfer.forms import DenseForm, dense_bytes
from longtail.transfer.maps import TransferMap
from longtail.transfer.projected import LowRank, ProjectedForm, projected_sizes
from tests.transfer.test_semantic_transfer import CHANNELS, COUNTS, batch, built

KEPT = {"eps": 1e-5, "clamp": 5.0}


def projected(dimension: int = CHANNELS, at_once: int = 3, **rule: Any) -> ProjectedForm:
    return ProjectedForm(
        len(COUNTS), CHANNELS, TransferMap(**rule), dimension=dimension, at_once=at_once, **KEPT
    ).double()


def dense(**rule: Any) -> DenseForm:
    return DenseForm(len(COUNTS), CHANNELS, TransferMap(**rule), **KEPT).double()


def rows_of(seed: int) -> tuple[Tensor, Tensor]:
    maps, targets_B, _ = batch(seed, dtype=torch.float64)
    return maps.flatten(2).transpose(1, 2), targets_B


HEADS = torch.zeros(len(COUNTS), dtype=torch.long)


def changed(form: DenseForm | ProjectedForm, seeds: tuple[int, ...] = (0, 1)) -> tuple[Tensor, Tensor, Tensor]:
    """Changed features, weights, and the gradient with respect to the features, in the last batch."""
    for seed in seeds:
        rows, targets_B = rows_of(seed)
        moments = form.update(rows, targets_B, detach=True)
    leaf = rows.clone().requires_grad_()
    after, omega = form.change(leaf, moments.groups.group_E, moments, HEADS)
    probe = torch.randn(after.shape, generator=torch.Generator().manual_seed(5), dtype=after.dtype)
    return after.detach(), omega, torch.autograd.grad((after * probe).sum(), leaf)[0]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"scale": "literal", "tau": 3.0},
        {"scale": "spectral", "negative": "relu"},
        {"covariance": "head"},
        {"covariance": "tail", "temperature": "divide", "normalization": "none"},
    ],
)
def test_a_subspace_of_all_dimensions_is_the_dense_form(rule: dict[str, Any]) -> None:
    """Value, weights and gradient, for any number of images at once."""
    expected = changed(dense(**rule))
    for at_once in (1, 7, 100):
        for actual, other in zip(changed(projected(at_once=at_once, **rule)), expected, strict=True):
            torch.testing.assert_close(actual, other)


def test_features_within_a_subspace_lose_nothing() -> None:
    """Covariances of rank 2 in a subspace of 2 dimensions, under a mean that varies outside of it."""
    directions = torch.randn(2, CHANNELS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rows = torch.randn(20, 9, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64) @ directions
    targets_B = torch.arange(20) % len(COUNTS)
    out = []
    for form in (dense(), projected(dimension=2)):
        moments = form.update(rows, targets_B, detach=True)
        out.append(form.change(rows, moments.groups.group_E, moments, HEADS)[0])
    torch.testing.assert_close(out[1], out[0])


def test_fewer_dimensions_err_more_and_keep_mean_and_variance() -> None:
    expected = changed(dense())[0]
    errors = [float((changed(projected(dimension=d))[0] - expected).norm()) for d in (1, 3, 5, 6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-3
    assert errors[-1] < 1e-9
    rows, targets_B = rows_of(0)
    form = ProjectedForm(len(COUNTS), CHANNELS, TransferMap(), dimension=3, at_once=4, eps=1e-12, clamp=1e9).double()
    moments = form.update(rows, targets_B, detach=True)
    after, _ = form.change(rows, moments.groups.group_E, moments, HEADS)
    for label in range(len(COUNTS)):
        torch.testing.assert_close(
            after[targets_B == label].mean(dim=(0, 1)), rows[targets_B == label].mean(dim=(0, 1))
        )
        torch.testing.assert_close(
            moments.variances_GC[label], rows[targets_B == label].flatten(0, 1).var(0, correction=0)
        )


def test_the_subspace_holds_the_leading_directions_within_classes_and_stays() -> None:
    """Class means differ much more, and have no effect once they are estimated."""
    form, batches = projected(dimension=2), [rows_of(seed) for seed in range(60)]
    for rows, targets_B in batches[:-1]:
        form.observe(rows, targets_B)
    assert not form.basis_CD.any()
    form.update(*batches[-1], detach=True)
    every, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    means = torch.stack([every[labels == label].mean(dim=(0, 1)) for label in range(len(COUNTS))])
    within = torch.cov((every - means[labels][:, None]).flatten(0, 1).T)
    _, vectors = torch.linalg.eigh(within)
    assert float((form.basis_CD.T @ within @ form.basis_CD).trace()) > 0.99 * float(
        (vectors[:, -2:].T @ within @ vectors[:, -2:]).trace()
    )
    torch.testing.assert_close(form.basis_CD.T @ form.basis_CD, torch.eye(2).double())
    assert form.seen.tolist() == [4] * 5
    before = form.basis_CD.clone()
    form.reset()
    form.update(*batches[0], detach=True)
    assert torch.equal(form.basis_CD, before)
    assert form.by_channel.counts_K.tolist() == [4] * 5


def test_low_rank_covariances_multiply_as_their_matrices_do() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 3, generator=generator).double()).Q
    sides, whole = [], []
    for _ in range(2):
        root = torch.randn(4, 3, 3, generator=generator).double()
        inside, rest = root @ root.transpose(1, 2), torch.rand(4, 6, generator=generator).double()
        matrices = basis @ inside @ basis.T + torch.diag_embed(rest)
        sides.append(LowRank.of(basis, inside, matrices.diagonal(dim1=1, dim2=2)))
        whole.append(matrices)
    units = (sides[0].unit_n * sides[1].unit_n)[:, None, None]
    torch.testing.assert_close(units * sides[0].times(sides[1]), whole[0] @ whole[1])
    a, std = torch.randn(4, 6, 6, generator=generator).double(), 1 + torch.rand(4, 6, generator=generator).double()
    standardized = whole[0] / (std[:, :, None] * std[:, None, :])
    expected = (a.transpose(1, 2) @ standardized @ a).diagonal(dim1=1, dim2=2).sum(dim=1)
    torch.testing.assert_close(sides[0].variance_after(a, std), expected)


def test_transfer_in_the_projected_form_goes_on_from_a_saved_state() -> None:
    """Saved during the warm-up, in which the subspace is estimated, and after."""

    def fresh() -> SemanticTransfer:
        transfer = built(form="projected", start=0.5, memory_budget_gb=0.5)
        assert isinstance(transfer.form, ProjectedForm)
        return transfer

    def step(transfer: SemanticTransfer, seed: int) -> Tensor:
        torch.manual_seed(seed)
        maps: Tensor = transfer(*batch(seed))[0]
        return maps

    through, stopped = fresh(), fresh()
    for progress, seeds in ((0.0, (1, 2)), (0.5, (3, 4))):
        for seed in seeds:
            for transfer in (through, stopped):
                transfer.set_progress(progress)
            expected, actual = step(through, seed), step(stopped, seed)
            assert torch.equal(actual, expected)
            assert torch.equal(expected, batch(seed)[0]) == (progress == 0.0)
            again = fresh()
            again.load_state_dict(pickle.loads(pickle.dumps(stopped.state_dict())))
            stopped = again


def test_the_form_follows_from_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="longtail")
    small = SemanticTransfer([200] * 50 + [5] * 50, 64)
    assert isinstance(small.form, DenseForm)
    small.set_progress(0.5)
    small.set_progress(0.6)
    assert caplog.text.count("full covariances of 100 classes and 64 channels") == 1
    counts = [200] * 100 + [5] * 100
    assert 0.5e9 < dense_bytes(200, 256) < 1e9
    assert isinstance(SemanticTransfer(counts, 256, memory_budget_gb=1.0).form, DenseForm)
    tight = SemanticTransfer(counts, 256, memory_budget_gb=0.5)
    assert isinstance(tight.form, ProjectedForm)
    tight.set_progress(0.5)
    assert "200 classes and 256 channels, in a subspace of " in caplog.text


@pytest.mark.parametrize(("num_classes", "channels"), [(1000, 2048), (8142, 2048), (365, 2048), (8142, 512)])
def test_the_kept_statistics_fit_into_the_memory(num_classes: int, channels: int) -> None:
    dimension, at_once = projected_sizes(num_classes, channels, 2e9)
    assert 64 <= dimension <= channels
    kept = num_classes * (dimension**2 + 2 * channels) + channels**2
    assert 4 * (kept + 6 * at_once * channels**2) < 2e9
    larger, _ = projected_sizes(num_classes, channels, 4e9)
    assert larger > dimension


def test_bad_options_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"`scale='correlation'` needs the full covariances of 5 classes .* form='dense'"
    ):
        projected(scale="correlation")
    with pytest.raises(InputError, match=r"`dimension` must be in \[1, 6\], .*, got 7"):
        projected(dimension=7)
    with pytest.raises(
        InputError, match=r"`memory_budget_gb` must be at least 0\.\d.* for 8142 classes and 2048 channels"
    ):
        projected_sizes(8142, 2048, 0.3e9)
    with pytest.raises(InputError, match="form of the covariances 'diagonal'"):
        built(form="diagonal")


def test_gradient_through_the_statistics_passes_the_pieces() -> None:
    rows, targets_B = rows_of(0)
    gradients = []
    for form in (dense(), projected(at_once=2)):
        form.update(*rows_of(1), detach=True)
        one, leaf = copy.deepcopy(form), rows.clone().requires_grad_()
        moments = one.update(leaf, targets_B, detach=False)
        after, _ = one.change(leaf, moments.groups.group_E, moments, HEADS)
        gradients.append(torch.autograd.grad(after.square().sum(), leaf)[0])
    torch.testing.assert_close(gradients[1], gradients[0])
