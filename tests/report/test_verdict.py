import re

import pytest
import torch

from longtail.evaluation import Predictions
from longtail.report.verdict import _rounded, verdict

from .made_up import EVIL, report_data, sample


def told(predictions: Predictions, **options: object) -> str:
    """The verdict as a reader sees it, with plain spaces."""
    text = re.sub("<[^>]+>", "", verdict(report_data(predictions, **options)))
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


def labelled(counts: list[int], predicted: list[int], targets: list[int], names: tuple[str, ...]) -> Predictions:
    return Predictions(torch.tensor(targets), counts, predicted=torch.tensor(predicted), class_names=names)


NAMES = ("cat", "dog", "eel")


def test_it_tells_what_works_where_it_fails_and_what_is_mistaken() -> None:
    predicted = [0] * 100 + [1] * 90 + [0] * 10 + [2] * 40 + [0] * 45 + [1] * 15
    predictions = labelled([500, 50, 5], predicted, [0] * 100 + [1] * 100 + [2] * 100, NAMES)
    assert told(predictions) == (
        "The accuracy is 76.7 % on 300 test images. "
        "Rare classes (fewer than 20 training images) reach 40.0 %, 60 points below frequent classes (more than 100 "
        "training images), which reach 100.0 %. "
        "Of the errors there, 75 % are predictions of frequent classes; the most frequent error on rare classes is eel "
        "predicted as cat (45 of 100). "
        "The weakest class is eel (5 training images): accuracy 40 %."
    )


def rare_tests(*images: int) -> Predictions:
    """One test image of a frequent class and some of rare classes, all predicted as the frequent class."""
    targets = [0] + [label for label, count in enumerate(images, 1) for _ in range(count)]
    return labelled([500] + [5] * len(images), [0] * len(targets), targets, tuple("abcd"[: len(images) + 1]))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ((4,), "This depends on only 4 test images: one image is worth 25 points."),
        ((1,), "This depends on only 1 test image: one image is worth 100 points."),
        ((5, 5), "This depends on only 10 test images: one image is worth 10 points."),
        # the group's accuracy is the mean of its classes', so that one image moves it by a half of 1 / 2
        ((2, 20), "This depends on only 22 test images: one image is worth up to 25 points."),
        ((29,), "This depends on only 29 test images: one image is worth 3 points."),
        ((30,), "This depends on only 30 test images, so several points may be chance."),
        ((99,), "This depends on only 99 test images, so several points may be chance."),
    ],
)
def test_few_test_images_are_named_as_such(images: tuple[int, ...], words: str) -> None:
    assert words in told(rare_tests(*images))


def test_enough_test_images_need_no_caution() -> None:
    assert "depends on" not in told(rare_tests(100))


@pytest.mark.parametrize(
    ("few_right", "words"),
    [(48, "within 5 points of"), (50, "within 5 points of"), (20, "60 points below"), (90, None)],
)
def test_the_comparison_follows_the_numbers(few_right: int, words: str | None) -> None:
    many_right = 40 if few_right == 90 else 50
    predicted = [0] * many_right + [1] * (50 - many_right) + [1] * min(few_right, 50) + [0] * (50 - min(few_right, 50))
    assert (words or "20 points above") in told(labelled([500, 5], predicted, [0] * 50 + [1] * 50, ("a", "b")))


def test_without_rare_classes_it_speaks_of_the_rarest_there_are() -> None:
    text = told(labelled([500, 50], [0, 0], [0, 1], ("a", "b")))
    assert "Medium-frequency classes (20 to 100 training images) reach 0.0 %" in text
    assert "are one" not in text


def test_with_a_single_group_it_says_so() -> None:
    text = told(labelled([500, 400], [0, 0], [0, 1], ("a", "b")))
    assert "All tested classes are frequent classes" in text
    assert "This depends on only 2 test images: one image is worth 50 points." in text
    assert "the most frequent error is b predicted as a (1 of 1)" in text


def test_a_perfect_classifier() -> None:
    text = told(labelled([500, 5], [0, 1], [0, 1], ("a", "b")))
    assert "No class has an error." in text
    assert "error is" not in text


def test_unequal_test_parts_bring_the_balanced_accuracy() -> None:
    text = told(labelled([500, 5], [0, 0, 0, 0], [0, 0, 0, 1], ("a", "b")))
    assert "The accuracy is 75.0 % on 4 test images, and 50.0 % with equal weight for every class" in text


def test_classes_never_recognized_are_counted() -> None:
    assert "2 of 3 classes are never recognized" in told(labelled([500, 50, 5], [0, 0, 0], [0, 1, 2], NAMES))


@pytest.mark.parametrize(("scale", "words"), [(20.0, "over-confident"), (0.01, "under-confident")])
def test_confidence_is_assessed_on_rare_classes(scale: float, words: str) -> None:
    predictions = sample()
    assert predictions.logits is not None
    scaled = Predictions(predictions.targets, predictions.class_counts, logits=predictions.logits * scale)
    assert f"{words} there" in told(scaled)


def test_names_are_escaped() -> None:
    text = verdict(report_data(sample((300, 50, 5, 4), names=EVIL)))
    assert "<script" not in text
    assert "</svg>" not in text


def test_no_correct_prediction_is_not_called_calibrated() -> None:
    logits = torch.tensor([[0.1, 0.0, 0.0, 0.0]] * 40)
    predictions = Predictions(torch.tensor([1] * 40), [500, 5, 5, 5], logits=logits)
    text = told(predictions)
    assert "No prediction there is correct; the mean confidence is 27 %." in text
    assert "calibrated" not in text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.3, "0.3"), (42.4, "42"), (99.6, "99.6"), (100, "100")])
def test_only_an_exact_0_or_100_reads_so(value: float, text: str) -> None:
    assert _rounded(value).replace("\N{NARROW NO-BREAK SPACE}", " ") == f"{text} %"
