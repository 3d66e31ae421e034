import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.evaluation import Predictions
from longtail.report.examples import IMAGES_SHOWN, LARGEST, png_uri, weakest_section

from .conftest import EVIL, Page, content, sample


def decoded(uri: str) -> Image.Image:
    assert uri.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def colour_of(index: int) -> torch.Tensor:
    """A picture that tells its place in the test by its red."""
    return torch.tensor([index, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)


def test_a_small_picture_keeps_its_pixels() -> None:
    image = torch.randint(0, 256, (3, 5, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    np.testing.assert_array_equal(np.asarray(decoded(png_uri(image))), image.permute(1, 2, 0).numpy())


def test_a_large_picture_is_made_smaller_in_its_proportions() -> None:
    assert decoded(png_uri(torch.zeros(3, 600, 300, dtype=torch.uint8))).size == (LARGEST // 2, LARGEST)


def test_examples_are_the_surest_mistakes_of_the_class() -> None:
    predictions = sample()
    assert predictions.logits is not None
    page = Page(weakest_section(content(predictions, thumbnails=colour_of)))
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    shown = [decoded(attributes["src"]).getpixel((0, 0))[0] for attributes in pictures[:IMAGES_SHOWN]]  # type: ignore[index]
    label = int(predictions.targets[shown[0]])
    sure = predictions.logits.softmax(1).max(1).values
    wrong = [i for i in range(len(predictions)) if predictions.targets[i] == label != predictions.predicted[i]]
    assert shown == sorted(wrong, key=lambda i: -float(sure[i]))[:IMAGES_SHOWN]


def test_each_picture_says_what_it_shows_and_what_it_was_taken_for() -> None:
    predictions = Predictions(
        torch.tensor([0, 1]),
        [200, 3],
        predicted=torch.tensor([0, 0]),
        class_names=["cat", "eel"],
        paths=["a.png", "b.png"],
    )
    page = Page(weakest_section(content(predictions, thumbnails=colour_of)))
    [picture] = [attributes for tag, attributes in page.elements if tag == "img"]
    assert picture["alt"] == "Test image 1: eel, taken for cat"
    assert picture["title"] == "b.png"
    assert page.texts["h3"] == ["eel"]
    assert page.texts["figcaption"] == ["cat"]
    assert "3 training images, 0 of 1 test image right; mostly taken for cat (1)." in page.texts["article"][0]


def test_names_in_attributes_are_escaped() -> None:
    page = Page(weakest_section(content(sample((300, 50, 5, 4), names=EVIL), thumbnails=colour_of)))
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert pictures
    assert all(set(attributes) <= {"src", "alt", "title", "class"} for attributes in pictures)
    assert any(EVIL[0] in attributes["alt"] for attributes in pictures)


@pytest.mark.parametrize("logits", [True, False])
def test_without_pictures_the_classes_are_there_all_the_same(logits: bool) -> None:
    page = Page(weakest_section(content(sample(logits=logits))))
    assert "No images were at hand" in page.texts["section"][0]
    assert len(page.texts["article"]) == 6


def test_a_perfect_test_has_no_weak_class() -> None:
    labels = torch.tensor([0, 1])
    text = weakest_section(content(Predictions(labels, [200, 3], predicted=labels)))
    assert "No class has a mistake" in text
