"""The choice of the L2 penalty of a solved head."""

import pytest
import torch

from longtail import losses
from longtail.errors import InputError
from longtail.training import penalty
from longtail.training.penalty import solve_head, stratified_holdout, thin


@pytest.fixture(scope="module")
def blobs() -> tuple[torch.Tensor, torch.Tensor]:
    """Return three overlapping classes in 20 noisy dimensions, 60, 30 and 10 examples."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.repeat_interleave(torch.arange(3), torch.tensor([60, 30, 10]))
    features = torch.randn(100, 20, generator=generator)
    features[:, :3] += 1.5 * torch.eye(3)[targets]
    return features, targets


def test_the_chosen_penalty_has_the_best_held_out_score(blobs):
    features, targets = blobs
    solved = solve_head(features, targets, losses.BalancedSoftmax([60, 30, 10]))
    assert solved.curve[solved.l2] == max(solved.curve.values())
    assert solved.l2 not in (max(penalty.CANDIDATES), min(penalty.CANDIDATES))  # noise needs some penalty, not all
    assert solved.solution.converged
    assert solved.chosen["l2"] == solved.l2
    assert len(solved.held_M) == 20
    assert (solved.held_head(features[solved.held_M]).argmax(dim=1) == targets[solved.held_M]).float().mean() > 0.6


def test_the_search_stops_where_weaker_penalties_are_worse(blobs):
    features, targets = blobs
    solved = solve_head(features, targets, losses.CrossEntropy([60, 30, 10]))
    tried = list(solved.curve)
    assert tried == sorted(penalty.CANDIDATES, reverse=True)[: len(tried)]
    assert tried.index(solved.l2) + penalty.PATIENCE == len(tried) - 1 < len(penalty.CANDIDATES) - 1


def test_given_held_out_examples_are_not_trained_on(blobs):
    features, targets = blobs
    rows = torch.arange(0, 100, 2)
    loss = losses.CrossEntropy([30, 15, 5])
    held = (features[rows + 1], targets[rows + 1])
    first = solve_head(features[rows], targets[rows], loss, held_out=held, tolerance=1e-4)
    alone = solve_head(features[rows], targets[rows], loss, l2=first.l2, tolerance=1e-4)
    assert torch.allclose(first.head.weight, alone.head.weight, atol=1e-3)
    assert alone.curve == {}
    assert alone.held_head is None
    assert first.held_M is None


@pytest.mark.parametrize("criterion", ["loss", "balanced_loss", "balanced"])
def test_every_criterion_chooses_on_all_held_out_classes(blobs, criterion):
    solved = solve_head(*blobs, losses.CrossEntropy([60, 30, 10]), criterion=criterion)
    assert solved.l2 in penalty.CANDIDATES
    if criterion == "balanced":
        assert all(0 <= score <= 1 for score in solved.curve.values())


def test_an_unknown_criterion_is_refused(blobs):
    with pytest.raises(InputError, match="no criterion 'accuracy'"):
        solve_head(*blobs, losses.CrossEntropy([60, 30, 10]), criterion="accuracy")


def test_a_thinned_choice_is_close_to_the_full_one(blobs, monkeypatch):
    features, targets = (torch.cat([each] * 4) for each in blobs)
    features = features + 0.1 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    loss = losses.CrossEntropy([240, 120, 40])
    full = solve_head(features, targets, loss)
    monkeypatch.setattr(penalty, "CHOICE_SIZE", 200)
    thinned = solve_head(features, targets, loss)
    order = sorted(penalty.CANDIDATES)
    assert abs(order.index(full.l2) - order.index(thinned.l2)) <= 2
    assert thinned.solution.converged


def test_a_rough_choice_on_fewer_examples_leads_to_a_local_optimum_of_the_full_one(blobs, monkeypatch):
    features, targets = (torch.cat([each] * 4) for each in blobs)
    features = features + 0.1 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    loss = losses.CrossEntropy([240, 120, 40])
    full = solve_head(features, targets, loss, scaling="each")
    monkeypatch.setattr(penalty, "ROUGH_SIZE", 100)
    solved = solve_head(features, targets, loss, scaling="each")
    assert 1 < len(solved.curve) < len(full.curve)
    assert solved.curve[solved.l2] == max(solved.curve.values())
    assert abs(solved.curve[solved.l2] - full.curve[full.l2]) < 0.01
    assert len(solved.held_M) == len(full.held_M)
    assert solved.solution.converged


def test_a_class_of_two_gives_one_and_a_class_of_one_gives_none():
    targets = torch.tensor([0] * 50 + [1] * 2 + [2])
    kept, held = stratified_holdout(targets, 3, 0.2, seed=0)
    assert torch.bincount(targets[held], minlength=3).tolist() == [10, 1, 0]
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(53))


def test_classes_of_one_example_need_a_given_penalty():
    with pytest.raises(InputError, match="every class has a single example"):
        solve_head(torch.eye(3), torch.arange(3), losses.CrossEntropy([1, 1, 1]))


def test_thinning_keeps_rare_classes_and_the_sums_of_all():
    targets = torch.repeat_interleave(torch.arange(4), torch.tensor([1000, 500, 20, 3]))
    rows, weights = thin(targets, 4, limit=223, seed=0)
    assert torch.bincount(targets[rows]).tolist() == [100, 100, 20, 3]
    represented = torch.bincount(targets[rows]) * weights * len(targets) / len(rows)
    assert torch.allclose(represented, torch.tensor([1000.0, 500.0, 20.0, 3.0]).double())
    assert abs(float(weights[targets[rows]].mean()) - 1) < 1e-9


def test_the_scaling_with_the_better_held_out_loss_is_chosen(blobs):
    features, targets = blobs
    loss = losses.CrossEntropy([60, 30, 10])
    shrunk = torch.cat([features[:, :3], 0.05 * features[:, 3:]], dim=1)  # noise is small, so a common scale helps
    grown = torch.cat([0.05 * features[:, :3], features[:, 3:]], dim=1)
    assert solve_head(shrunk, targets, loss).scaling == "all"
    assert solve_head(grown, targets, loss).scaling == "each"
