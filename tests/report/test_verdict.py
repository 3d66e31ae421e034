import re

import pytest
import torch

from longtail.evaluation import Predictions
from longtail.report.verdict import verdict

from .conftest import EVIL, content, sample


def told(predictions: Predictions, **options: object) -> str:
    """The verdict as a reader sees it, with plain spaces."""
    text = re.sub("<[^>]+>", "", verdict(content(predictions, **options)))
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


def labelled(counts: list[int], predicted: list[int], targets: list[int], names: tuple[str, ...]) -> Predictions:
    return Predictions(torch.tensor(targets), counts, predicted=torch.tensor(predicted), class_names=names)


NAMES = ("cat", "dog", "eel")


def test_it_tells_what_works_where_it_fails_and_what_is_mistaken() -> None:
    predicted = [0] * 100 + [1] * 90 + [0] * 10 + [2] * 40 + [0] * 45 + [1] * 15
    predictions = labelled([500, 50, 5], predicted, [0] * 100 + [1] * 100 + [2] * 100, NAMES)
    assert told(predictions) == (
        "The model is right on 76.7 % of 300 test images. "
        "Rare classes (fewer than 20 training images): 40.0 % right, 60 points behind classes with many (more than 100 "
        "training images), which reach 100.0 %. "
        "What is missed there goes to classes with many in 75 % of the cases; the most frequent mistake is eel taken "
        "for cat (45 of 100). "
        "The weakest class is eel (5 training images): 40 % right."
    )


def test_few_test_images_are_named_as_such() -> None:
    assert "rests on only 2 test images" in told(labelled([500, 50, 5], [0, 2, 0], [0, 2, 2], NAMES))


@pytest.mark.parametrize(
    ("few_right", "words"), [(48, "on a par with"), (50, "on a par with"), (20, "60 points behind"), (90, None)]
)
def test_the_comparison_follows_the_numbers(few_right: int, words: str | None) -> None:
    many_right = 40 if few_right == 90 else 50
    predicted = [0] * many_right + [1] * (50 - many_right) + [1] * min(few_right, 50) + [0] * (50 - min(few_right, 50))
    assert (words or "20 points ahead of") in told(labelled([500, 5], predicted, [0] * 50 + [1] * 50, ("a", "b")))


def test_without_rare_classes_it_speaks_of_the_rarest_there_are() -> None:
    text = told(labelled([500, 50], [0, 0], [0, 1], ("a", "b")))
    assert "Classes in between (20 to 100 training images): 0.0 % right" in text
    assert "are one" not in text


def test_with_a_single_group_it_says_so() -> None:
    assert "All classes of the test are classes with many" in told(labelled([500, 400], [0, 0], [0, 1], ("a", "b")))


def test_a_perfect_classifier() -> None:
    text = told(labelled([500, 5], [0, 1], [0, 1], ("a", "b")))
    assert "No class has a mistake." in text
    assert "mistake is" not in text


def test_unequal_test_parts_bring_the_balanced_accuracy() -> None:
    text = told(labelled([500, 5], [0, 0, 0, 0], [0, 0, 0, 1], ("a", "b")))
    assert "right on 75.0 % of 4 test images, and on 50.0 % when every class counts the same" in text


def test_classes_never_recognised_are_counted() -> None:
    assert "2 of 3 classes are never recognised" in told(labelled([500, 50, 5], [0, 0, 0], [0, 1, 2], NAMES))


@pytest.mark.parametrize(("scale", "words"), [(20.0, "over-confident"), (0.01, "under-confident")])
def test_confidence_is_judged_on_rare_classes(scale: float, words: str) -> None:
    predictions = sample()
    assert predictions.logits is not None
    scaled = Predictions(predictions.targets, predictions.class_counts, logits=predictions.logits * scale)
    assert f"{words} there" in told(scaled)


def test_names_are_escaped() -> None:
    text = verdict(content(sample((300, 50, 5, 4), names=EVIL)))
    assert "<script" not in text
    assert "</svg>" not in text
