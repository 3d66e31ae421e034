from collections import Counter

import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_score

from longtail.evaluation import evaluate_predictions, shot_groups
from longtail.report.confusions import Confusion, confusions, group_flow, main_confusions, precision, weakest_classes

C = 7
COUNTS = torch.tensor([500, 200, 90, 50, 30, 10, 5])


@pytest.fixture
def labels() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    # class 6 has no test image and class 5 is never predicted
    return torch.randint(0, 5, (400,), generator=generator), torch.randint(0, 6, (400,), generator=generator)


def test_confusions_are_the_entries_off_the_diagonal(labels: tuple[torch.Tensor, torch.Tensor]) -> None:
    predicted, targets = labels
    matrix = confusion_matrix(targets, predicted, labels=range(C))
    found = confusions(predicted, targets, C)
    expected = {(i, j): matrix[i, j] for i in range(C) for j in range(C) if i != j and matrix[i, j]}
    assert {(pair.true, pair.predicted): pair.images for pair in found} == expected
    assert [pair.images for pair in found] == sorted((pair.images for pair in found), reverse=True)


def test_confusions_of_a_perfect_classifier() -> None:
    assert confusions(torch.tensor([0, 1]), torch.tensor([0, 1]), 2) == []


def test_the_main_confusion_of_a_class_is_its_most_frequent(labels: tuple[torch.Tensor, torch.Tensor]) -> None:
    predicted, targets = labels
    main = main_confusions(confusions(predicted, targets, C))
    for label in range(6):
        wrong = Counter(p for p, t in zip(predicted.tolist(), targets.tolist(), strict=True) if t == label != p)
        assert main[label].images == max(wrong.values())
        assert wrong[main[label].predicted] == main[label].images
    assert 6 not in main


def test_ties_go_to_the_first_class() -> None:
    assert main_confusions(confusions(torch.tensor([2, 1]), torch.tensor([0, 0]), 3)) == {0: Confusion(0, 1, 1)}


def test_right_is_the_group_accuracy_and_rows_sum_to_100(labels: tuple[torch.Tensor, torch.Tensor]) -> None:
    predicted, targets = labels
    flow = group_flow(predicted, targets, shot_groups(COUNTS))
    scores = evaluate_predictions(predicted, targets, COUNTS)
    for name, shares in flow.items():
        assert shares["right"] == pytest.approx(getattr(scores, name))
        assert sum(shares.values()) == pytest.approx(100)


def test_flow_by_hand_with_classes_of_different_size() -> None:
    masks = shot_groups([500, 10, 5])
    # class 1: two of four images predicted as class 0; class 2: its one image predicted as class 1
    flow = group_flow(torch.tensor([1, 1, 0, 0, 1]), torch.tensor([1, 1, 1, 1, 2]), masks)
    assert flow == {"few": {"right": 25.0, "many": 25.0, "medium": 0.0, "few": 50.0}}


def test_weakest_classes_leave_out_the_perfect_and_the_untested() -> None:
    per_class = (100.0, 30.0, None, 30.0, 0.0)
    assert weakest_classes(per_class, torch.tensor([9, 8, 7, 6, 5]), 10) == [4, 3, 1]
    assert weakest_classes((100.0, 100.0), torch.tensor([9, 8]), 10) == []


def test_precision_agrees_with_scikit_learn(labels: tuple[torch.Tensor, torch.Tensor]) -> None:
    predicted, targets = labels
    found = precision(predicted, targets, C)
    expected = precision_score(targets, predicted, labels=range(5), average=None)
    assert found[:5] == pytest.approx((100 * expected).tolist())
    assert found[5:] == [None, None]
