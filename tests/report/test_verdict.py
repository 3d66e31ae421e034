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
        "What is missed there goes to classes with many in 75 % of the cases; the most frequent mistake on rare "
        "classes is eel taken for cat (45 of 100). "
        "The weakest class is eel (5 training images): 40 % right."
    )


def rare_tests(*images: int) -> Predictions:
    """A single test image of the full class, and so many of each rare one, all taken for the full class."""
    targets = [0] + [label for label, count in enumerate(images, 1) for _ in range(count)]
    return labelled([500] + [5] * len(images), [0] * len(targets), targets, tuple("abcd"[: len(images) + 1]))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ((4,), "This rests on only 4 test images: one image is 25 points here."),
        ((1,), "This rests on only 1 test image: one image is 100 points here."),
        ((5, 5), "This rests on only 10 test images: one image is 10 points here."),
        # the group's accuracy is the mean of its classes', so that one image moves it by a half of 1 / 2
        ((2, 20), "This rests on only 22 test images: one image is up to 25 points here."),
        ((29,), "This rests on only 29 test images: one image is 3 points here."),
        ((30,), "This rests on only 30 test images, so expect several points of chance."),
        ((99,), "This rests on only 99 test images, so expect several points of chance."),
    ],
)
def test_few_test_images_are_named_as_such(images: tuple[int, ...], words: str) -> None:
    assert words in told(rare_tests(*images))


def test_enough_test_images_need_no_caution() -> None:
    assert "rests on" not in told(rare_tests(100))


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
    text = told(labelled([500, 400], [0, 0], [0, 1], ("a", "b")))
    assert "All classes of the test are classes with many" in text
    assert "This rests on only 2 test images: one image is 50 points here." in text
    assert "the most frequent mistake is b taken for a (1 of 1)" in text


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
