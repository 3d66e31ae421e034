"""The weakest classes, with the images that went wrong.

Shapes: N = test images, h x w = an image.
"""

import base64
import io

from PIL import Image
from torch import Tensor

from longtail.report.content import Content
from longtail.report.markup import Html, join, tag
from longtail.report.mistakes import weakest_classes
from longtail.report.sections import section
from longtail.report.wording import percent, several

CLASSES_SHOWN = 6
IMAGES_SHOWN = 4
LARGEST = 112  # pixels a side of an embedded image
TINY = 64  # an image up to this size shows its pixels instead of a blur


def weakest_section(content: Content) -> Html:
    """The classes with the lowest accuracy: what they are taken for, and examples where there are images."""
    labels = weakest_classes(content.scores.per_class, content.classes.counts, CLASSES_SHOWN)
    if not labels:
        return section("weakest", "Weakest classes", tag("p", "No class has a mistake in this test."))
    if content.thumbnails is None:
        note = "No images were at hand, so there are no examples."
    elif content.confidence is None:
        note = "Below each image stands what it was taken for."
    else:
        note = (
            "Below each image stands what it was taken for, and how sure the model was; the surest mistakes come first."
        )
    articles = tag("div", *(_weak_class(content, label) for label in labels), class_="pair")
    return section("weakest", "Weakest classes", tag("p", note), articles)


def _weak_class(content: Content, label: int) -> Html:
    classes, images = content.classes, content.test_counts[label]
    value = content.scores.per_class[label]
    right = round(images * (value or 0.0) / 100)
    facts = (
        f"{several(int(classes.counts[label]), 'training image')}, {right:,} of {several(images, 'test image')} right"
    )
    main = content.main_mixups[label]
    taken_for = join(["; mostly taken for ", tag("bdi", classes.names[main.taken_for]), f" ({main.images:,})"])
    heading = tag("h3", tag("bdi", classes.names[label]), class_=classes.group_names[label])
    gallery = None
    if content.thumbnails is not None:
        gallery = tag("div", *(_example(content, index) for index in _examples(content, label)), class_="gallery")
    return tag("article", heading, tag("p", facts, taken_for, "."), gallery)


def _examples(content: Content, label: int) -> list[int]:
    """Test indices of wrongly classified images of a class, those the model was surest of first."""
    predictions = content.predictions
    wrong = ((predictions.targets == label) & (predictions.predicted != label)).nonzero()[:, 0]
    if content.confidence is not None:
        wrong = wrong[content.confidence[wrong].argsort(descending=True, stable=True)]
    indices: list[int] = wrong[:IMAGES_SHOWN].tolist()
    return indices


def _example(content: Content, index: int) -> Html:
    assert content.thumbnails is not None
    names, predictions = content.classes.names, content.predictions
    true, taken_for = (names[int(labels[index])] for labels in (predictions.targets, predictions.predicted))
    image_3hw = content.thumbnails(index)
    sure = (
        None
        if content.confidence is None
        else tag("span", f"{percent(100 * float(content.confidence[index]), 0)} sure")
    )
    alt = f"Test image {index}: {true}, taken for {taken_for}"
    path = predictions.paths[index] if predictions.paths else None
    return tag("figure", picture(image_3hw, alt, path), tag("figcaption", tag("bdi", taken_for), sure))


def picture(image_3hw: Tensor, alt: str, path: str | None) -> Html:
    """A test image within the page.

    Args:
        image_3hw: uint8, shape (3, h, w).
        alt: what a reader who cannot see it should know.
        path: of its file, shown where the pointer rests; None shows nothing.

    Example:
        >>> import torch
        >>> picture(torch.zeros(3, 8, 8, dtype=torch.uint8), "black", None)[-26:]
        ' alt="black" class="tiny">'
    """
    tiny = "tiny" if max(image_3hw.shape[1:]) <= TINY else None
    return tag("img", src=png_uri(image_3hw), alt=alt, title=path, class_=tiny)


def png_uri(image_3hw: Tensor) -> str:
    """A picture as a PNG inside a data URI, made smaller where it is large.

    Args:
        image_3hw: uint8, shape (3, h, w).

    Example:
        >>> import torch
        >>> png_uri(torch.zeros(3, 8, 8, dtype=torch.uint8))[:22]
        'data:image/png;base64,'
    """
    shrunk = Image.fromarray(image_3hw.permute(1, 2, 0).contiguous().numpy())
    shrunk.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    shrunk.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
