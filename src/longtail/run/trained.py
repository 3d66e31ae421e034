"""A trained model with what is needed to use it. Runs and exported files are both read as one."""

from dataclasses import dataclass

from longtail.data.dataset import Resize
from longtail.models.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model, ready to use.

    Args:
        model: Model in evaluation mode.
        class_names: Names of the classes, in the order of the logits.
        image_size: Side of the square images that the model was trained on, in pixels.
        bits: Bits that the gray values of more than 8 bits used. None without such images.
        resize: Way in which images are fitted to the square.
    """

    model: Classifier
    class_names: tuple[str, ...]
    image_size: int
    bits: int | None = None
    resize: Resize = "crop"
