"""Choice of the strength of a correction."""

import torch

from longtail.posthoc.base import STRENGTHS, choose_strength


def only_between(low: float, high: float):
    """Return logits that are correct for class 1 at strengths in [low, high], and always for class 0."""

    def logits_at(tau: float) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0], [0.0, 1.0 if low <= tau <= high else -1.0]])

    return logits_at


def test_strengths_go_from_0_to_2():
    assert (float(STRENGTHS[0]), float(STRENGTHS[-1]), len(STRENGTHS)) == (0.0, 2.0, 41)


def test_of_equally_good_strengths_the_middle_one_is_taken():
    assert choose_strength(only_between(0.99, 1.41), torch.tensor([0, 1]), 2) == 1.2


def test_every_class_counts_the_same_however_few_its_examples():
    targets = torch.tensor([0] * 9 + [1])

    def logits_at(tau: float) -> torch.Tensor:
        """Predict class 0 correctly up to 1; above, class 1 and two thirds of class 0."""
        right_0 = 9 if tau <= 1 else 6
        predicted = torch.tensor([0] * right_0 + [1] * (9 - right_0) + [1 if tau > 1 else 0])
        return torch.nn.functional.one_hot(predicted, 2).float()

    assert choose_strength(logits_at, targets, 2) > 1  # 90% against 70% of the examples, 50% against 83% balanced


def test_a_class_without_an_example_does_not_count():
    assert choose_strength(only_between(0.49, 0.51), torch.tensor([0, 1]), 5) == 0.5
