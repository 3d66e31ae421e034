import torch

from longtail.embedding.pairs import NORM_FLOOR, other_class, rank_within, same_class, squared_distances, unit
from tests.embedding.examples import batch, squared


def test_squared_distances_equal_slow_loops() -> None:
    queries, keys = batch(0)[0], batch(1, size=9)[0]
    expected = [[squared(query, key) for key in keys.tolist()] for query in queries.tolist()]
    torch.testing.assert_close(squared_distances(queries, keys), torch.tensor(expected))


def test_far_from_the_origin_little_cancels() -> None:
    """Distances of 1e-4 survive squares of 3e6 only because the mean of the keys is subtracted first."""
    points = 700 + torch.tensor([[0.0, 0.0, 0.0], [0.01, 0.0, 0.0], [0.0, 0.0, 0.02]])
    exact = (points[:, None].double() - points.double()).square().sum(dim=2)
    torch.testing.assert_close(squared_distances(points, points).double(), exact, rtol=1e-3, atol=1e-7)


def test_gradient_reaches_both_ends() -> None:
    one, other = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([[3.0, 5.0]], requires_grad=True)
    squared_distances(one, other).sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    assert one.grad.tolist() == [[-4.0, -6.0]]
    assert other.grad.tolist() == [[4.0, 6.0]]


def test_unit_vectors_and_a_bounded_gradient_at_zero() -> None:
    points = torch.stack([torch.zeros(4), torch.ones(4)]).requires_grad_()
    lengths = unit(points).norm(dim=1)
    assert lengths.tolist() == [0.0, 1.0]
    unit(points).sum().backward()
    assert points.grad is not None
    assert points.grad.abs().max() <= 1 / NORM_FLOOR


def test_partners() -> None:
    targets = torch.tensor([2, 0, 2, -1, 0, 1, -1])
    for i, one in enumerate(targets.tolist()):
        for j, other in enumerate(targets.tolist()):
            kept = one >= 0 and other >= 0
            assert bool(same_class(targets)[i, j]) == (kept and i != j and one == other)
            assert bool(other_class(targets)[i, j]) == (kept and one != other)


def test_rank_within_counts_from_the_front() -> None:
    groups = torch.randint(0, 6, (50,), generator=torch.Generator().manual_seed(0))
    order, rank, starts = rank_within(groups)
    seen: dict[int, int] = {}
    expected = []
    for group in groups.tolist():
        expected.append(seen.get(group, 0))
        seen[group] = expected[-1] + 1
    assert rank[order.argsort()].tolist() == expected
    for place in range(50):
        members = order[starts[place] : starts[place] + seen[int(groups[order[place]])]]
        assert (groups[members] == groups[order[place]]).all()
        assert int(members[rank[place]]) == int(order[place])
