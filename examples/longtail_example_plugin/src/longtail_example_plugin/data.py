"""Data set with a reader of its own: stripes of two directions and one rare cross."""

import torch

from longtail.config.schema import DataConfig
from longtail.data import Dataset, Part, Split
from longtail.data.resident import ResidentImages

COUNTS = (60, 20, 6)
NAMES = ("horizontal", "vertical", "cross")


def load_stripes(config: DataConfig, device: torch.device) -> Dataset:
    """Return 8 x 8 images of stripes with noise; `config.seed` draws the noise.

    Args:
        config: Settings of the data set.
        device: Device of the images.
    """
    generator = torch.Generator().manual_seed(config.seed)
    train, test = _part(COUNTS, generator, device), _part((10, 10, 10), generator, device)
    return Dataset(config.name, NAMES, train, None, test, Split("stripes", f"stripes-{config.seed}", sum(COUNTS)))


def _part(counts: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Part:
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    pixels = torch.randint(0, 100, (len(targets), 3, 8, 8), dtype=torch.uint8, generator=generator)
    pixels[targets != 1, :, 4] = 255
    pixels[targets != 0, :, :, 4] = 255
    return Part(ResidentImages(pixels, device), targets)


DATASETS = {"stripes": load_stripes}
