import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.transfer.statistics import Groups, RunningClassStatistics

CLASSES, CHANNELS, POSITIONS = 6, 4, 5


def batches(count: int = 7, size: int = 16, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Return features whose classes differ in mean and spread; class 5 never occurs, and class 4 once."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for step in range(count):
        targets_B = torch.randint(0, 4, (size,), generator=generator)
        if step == 3:
            targets_B[0] = 4
        spread = 1 + targets_B[:, None, None]
        rows_BPC = 3 * targets_B[:, None, None] + spread * torch.randn(size, POSITIONS, CHANNELS, generator=generator)
        out.append((rows_BPC, targets_B))
    return out


def all_rows(label: int, data: list[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.cat([rows_BPC[targets_B == label].flatten(0, 1) for rows_BPC, targets_B in data]).double()


@pytest.mark.parametrize("size", [16, 5])  # more images than classes, and fewer
def test_equal_numpy_over_all_images_seen(size: int) -> None:
    statistics, data = RunningClassStatistics(CLASSES, CHANNELS), batches(size=size)
    for rows_BPC, targets_B in data:
        moments = statistics.update(rows_BPC, targets_B)
    for label in range(5):
        rows = all_rows(label, data).numpy()
        torch.testing.assert_close(
            statistics.means_KC[label].double(), torch.tensor(rows.mean(axis=0)), rtol=1e-5, atol=1e-5
        )
        covariance = torch.tensor(np.cov(rows.T, bias=True))
        torch.testing.assert_close(statistics.covariances_KCC[label].double(), covariance, rtol=1e-4, atol=1e-4)
        assert statistics.counts_K[label] == len(rows) / POSITIONS
    assert not statistics.means_KC[5].any()
    assert not statistics.covariances_KCC[5].any()
    last_B = data[-1][1]  # the result of the update is the stored state, image by image
    assert torch.equal(moments.means_GC[moments.groups.group_E], statistics.means_KC[last_B])
    assert torch.equal(moments.covariances_GCC[moments.groups.group_E], statistics.covariances_KCC[last_B])


def test_variances_are_the_diagonal() -> None:
    full, diagonal = RunningClassStatistics(CLASSES, CHANNELS), RunningClassStatistics(CLASSES, CHANNELS, diagonal=True)
    for batch in batches():
        full.update(*batch)
        diagonal.update(*batch)
    assert diagonal.covariances_KCC.shape == (CLASSES, CHANNELS)
    torch.testing.assert_close(diagonal.covariances_KCC, full.covariances_KCC.diagonal(dim1=1, dim2=2))


def literal_eq_3(data: list[tuple[Tensor, Tensor]], label: int) -> tuple[Tensor, Tensor]:
    mean, covariance, seen = torch.zeros(CHANNELS).double(), torch.zeros(CHANNELS, CHANNELS).double(), 0
    for rows_BPC, targets_B in data:
        own = rows_BPC[targets_B == label].double()
        if len(own) == 0:
            continue
        seen += len(own)
        alpha, rows = len(own) / seen, own.flatten(0, 1)
        batch_covariance = torch.zeros(CHANNELS, CHANNELS).double()
        for row in rows:
            batch_covariance += torch.outer(row - rows.mean(dim=0), row - rows.mean(dim=0)) / len(rows)
        mean = (1 - alpha) * mean + alpha * rows.mean(dim=0)
        covariance = (1 - alpha) * covariance + alpha * batch_covariance
    return mean, covariance


def test_literal_merge_is_equation_3() -> None:
    statistics, data = RunningClassStatistics(CLASSES, CHANNELS, merge="literal"), batches()
    for batch in data:
        statistics.update(*batch)
    for label in range(5):
        mean, covariance = literal_eq_3(data, label)
        torch.testing.assert_close(statistics.means_KC[label].double(), mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(statistics.covariances_KCC[label].double(), covariance, rtol=1e-4, atol=1e-4)


def ones(value: float, images: int = 1) -> tuple[Tensor, Tensor]:
    return torch.full((images, 1, 1), value), torch.zeros(images, dtype=torch.long)


def test_momentum_and_cap_by_hand() -> None:
    fixed, capped = RunningClassStatistics(2, 1, momentum=0.1), RunningClassStatistics(2, 1, count_cap=3)
    for statistics in (fixed, capped):
        statistics.update(*ones(1.0, images=6))
        statistics.update(*ones(3.0))
    assert float(fixed.means_KC[0]) == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert float(fixed.covariances_KCC[0]) == pytest.approx(0.9 * 0.1 * 4)  # of a mixture of 1 and 3
    assert float(capped.means_KC[0]) == pytest.approx((3 * 1 + 3) / 4)
    assert float(capped.covariances_KCC[0]) == pytest.approx(0.75 * 0.25 * 4)
    assert float(capped.counts_K[0]) == 7


def test_reset_forgets() -> None:
    statistics, fresh = RunningClassStatistics(CLASSES, CHANNELS), RunningClassStatistics(CLASSES, CHANNELS)
    first, second = batches(2)
    statistics.update(*first)
    statistics.reset()
    for one in (statistics, fresh):
        one.update(*second)
    torch.testing.assert_close(statistics.state_dict(), fresh.state_dict())


def test_gradient_flows_through_the_batch_only_where_asked_for() -> None:
    statistics = RunningClassStatistics(CLASSES, CHANNELS).double()
    first, (rows_BPC, targets_B) = batches(2, size=8)
    statistics.update(first[0].double(), first[1])
    leaf = rows_BPC.double().requires_grad_()
    constant = copy.deepcopy(statistics).update(leaf, targets_B)
    assert not constant.covariances_GCC.requires_grad

    def covariances(rows: Tensor) -> Tensor:
        return copy.deepcopy(statistics).update(rows, targets_B, detach=False).covariances_GCC

    assert torch.autograd.gradcheck(covariances, (leaf,))
    live = copy.deepcopy(statistics)
    live.update(leaf, targets_B, detach=False)
    assert not any(buffer.requires_grad for buffer in live.buffers())


def test_groups_add_up_either_way() -> None:
    values_E = torch.tensor([1.0, 2.0, 4.0, 8.0])[:, None]
    few, many = Groups.of(torch.tensor([0, 2, 0, 1]), 3), Groups.of(torch.tensor([0, 2, 0, 1]), 50)
    assert few.sum(values_E).flatten().tolist() == [5, 8, 2]
    assert many.sum(values_E)[many.group_E].flatten().tolist() == [5, 2, 5, 8]
    assert many.classes_G[many.group_E].tolist() == [0, 2, 0, 1]


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match=r"'exakt'; did you mean exact"):
        RunningClassStatistics(2, 2, merge="exakt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`momentum` must be > 0 and <= 1 .*got 0"):
        RunningClassStatistics(2, 2, momentum=0)
    with pytest.raises(InputError, match="`count_cap` must be an integer >= 1 or None, got 0"):
        RunningClassStatistics(2, 2, count_cap=0)
