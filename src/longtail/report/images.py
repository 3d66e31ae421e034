"""Example images in a page.

Shapes: N = test images, h x w = size of an image in pixels.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from longtail.data.formats.feature_dataset import thumbnails_of
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.evaluation import Predictions
from longtail.run.run import Run

Thumbnails = Callable[[int], Tensor]
"""Function from the index of a test image to its pixels, uint8, shape (3, h, w)."""

LARGEST = 112
"""Longer side of an embedded image in pixels."""
TINY = 64
"""An image up to this size is shown with its pixels instead of a blur."""


@dataclass(frozen=True)
class Example:
    """A test image in a page.

    Args:
        uri: Data URI of a PNG file.
        tiny: Whether it is so small that its pixels are shown.
        alt: Text for readers who cannot see it.
        path: Path of the image file; None if unknown.
        predicted: Name of the predicted class.
        confidence: Confidence of the prediction in percent; None without logits.
    """

    uri: str
    tiny: bool
    alt: str
    path: str | None
    predicted: str
    confidence: float | None = None

    @property
    def file(self) -> str | None:
        """Name of the image file without its folders; None if unknown."""
        return None if self.path is None else self.path.rpartition("/")[2]


def example(
    thumbnails: Thumbnails,
    predictions: Predictions,
    index: int,
    predicted: int,
    names: Sequence[str],
    confidence: Tensor | None = None,
) -> Example:
    """Prepare a test image for a page.

    Args:
        thumbnails: Source of the pixels.
        predictions: Predictions on the N test images.
        index: Index of the image.
        predicted: Predicted class, which may be that of another run.
        names: Names of the classes.
        confidence: Confidence in each prediction, shape (N,), in [0, 1].
    """
    image_3hw = thumbnails(index)
    true, wrong = names[int(predictions.targets[index])], names[predicted]
    return Example(
        uri=png_uri(image_3hw),
        tiny=max(image_3hw.shape[1:]) <= TINY,
        alt=f"Test image {index}: {true}, predicted as {wrong}",
        path=predictions.paths[index] if predictions.paths else None,
        predicted=wrong,
        confidence=None if confidence is None else 100 * float(confidence[index]),
    )


def png_uri(image_3hw: Tensor) -> str:
    """Encode an image as PNG in a data URI, reduced to 112 pixels if it is larger.

    Args:
        image_3hw: Pixels, uint8, shape (3, h, w).

    Example:
        >>> png_uri(torch.zeros(3, 8, 8, dtype=torch.uint8))[:22]
        'data:image/png;base64,'
    """
    image = Image.fromarray(image_3hw.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def load_thumbnails(runs: Sequence[Run]) -> tuple[Thumbnails | None, str]:
    """Return the test images of the first run whose data are available.

    Args:
        runs: Runs with the same test images.

    Returns:
        The images; or None and the reason why there are none.
    """
    reasons = []
    for run in runs:
        try:
            test = load_data(run.config.data, torch.device("cpu")).test
        except InputError as error:
            reasons.append(f"the data cannot be read: {error}")
            continue
        found = thumbnails_of(test.images)
        if found is None:
            reasons.append("the data are features, which have no images")
        elif not test.targets.cpu().equal(run.predictions().targets):
            reasons.append(f"the test images have changed since {run.folder} was trained")
        else:
            return found, ""
    return None, reasons[0] if reasons else ""
