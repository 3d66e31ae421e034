"""The view of an image that a detector sees: a random or fixed size, and a random horizontal flip.

Each random view is a function of two uniform numbers, so it depends on (seed, epoch, position) and on nothing else.
"""

from dataclasses import dataclass

from torch import Tensor

from longtail import _random
from longtail.ranges import check_ranges, ranged

VIEW_UNIFORMS = 2
"""Random numbers that choose the view of an image: its size, and whether it is mirrored."""


@dataclass(frozen=True)
class View:
    """Sizes of the views of the images of a detector.

    The defaults are those of Mask R-CNN on LVIS: Gupta et al., CVPR 2019, https://arxiv.org/abs/1908.03195, as trained
    by detectron2.

    Args:
        short_sides: Lengths of the shorter side in pixels, one of which is drawn for each training image.
        test_side: Length of the shorter side in evaluation.
        max_side: Largest length of the longer side. A longer image is reduced further.
        flip: Probability of a horizontal flip, in [0, 1].

    Raises:
        InputError: If a value is out of range.

    Example:
        >>> View().size(480, 640)
        (800, 1067)
        >>> View().random_size(480, 640, 0.0), View().random_size(480, 1400, 0.99)
        ((640, 853), (457, 1333))
    """

    short_sides: tuple[int, ...] = ranged((640, 672, 704, 736, 768, 800), at_least=1)
    test_side: int = ranged(800, at_least=1)
    max_side: int = ranged(1333, at_least=1)
    flip: float = ranged(0.5, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        check_ranges(self)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the view in evaluation.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        return self._fitted(height, width, self.test_side)

    def random_size(self, height: int, width: int, uniform: float) -> tuple[int, int]:
        """Return height and width of a view in training.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
            uniform: Number in [0, 1) that chooses the length of the shorter side.
        """
        return self._fitted(height, width, self.short_sides[int(uniform * len(self.short_sides))])

    def _fitted(self, height: int, width: int, short_side: int) -> tuple[int, int]:
        scale = min(short_side / min(height, width), self.max_side / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def view_uniforms(steps: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return the random numbers that choose the views of an epoch, shape (S, B, 2).

    Args:
        steps: Number of steps S.
        batch_size: Images per step B, over all ranks.
        seed: Seed of the run.
        epoch: Epoch, from 0.

    Example:
        >>> view_uniforms(3, 4, seed=0, epoch=1).shape
        torch.Size([3, 4, 2])
    """
    return _random.uniforms((steps, batch_size, VIEW_UNIFORMS), "detection view", seed, epoch)
