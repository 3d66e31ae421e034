"""Estimate of the time that a stage will take, and what would be faster where that is long."""

import logging
import time

from longtail.config.schema import Config
from longtail.data.dataset import Dataset

logger = logging.getLogger("longtail")

WORTH_SAYING = 30.0
"""Seconds left below which there is no estimate."""
LONG = 3600.0
"""Seconds left above which faster ways are listed."""
FORWARD_SHARE = 1 / 3
"""Cost of a forward pass, as a share of that of a training step."""


def log_estimate(config: Config, data: Dataset, images_per_second: float, seconds_left: float) -> None:
    """Log images per second and the expected end, and faster ways if the stage takes more than an hour.

    Args:
        config: Configuration of the run.
        data: Data set.
        images_per_second: Training images per second, measured in the first steps.
        seconds_left: Seconds that the rest of the stage will take at this rate.
    """
    if seconds_left < WORTH_SAYING:
        return
    digits = 0 if images_per_second >= 10 else 1
    logger.info(
        "%s images/s, %s left, expected end %s",
        f"{images_per_second:,.{digits}f}",
        duration(seconds_left),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + seconds_left)),
    )
    if seconds_left > LONG:
        logger.info("faster on this machine: %s", "; ".join(faster_ways(config, data, images_per_second, seconds_left)))


def faster_ways(config: Config, data: Dataset, images_per_second: float, seconds_left: float) -> list[str]:
    """Return changes that shorten a training, each with the estimated time.

    Args:
        config: Configuration of the run.
        data: Data set.
        images_per_second: Training images per second.
        seconds_left: Seconds that the stage takes as it is configured.
    """
    name, size = config.data.name, data.test.images.size
    images = len(data.train) + len(data.test) + (0 if data.val is None else len(data.val))
    ways = []
    if config.model.pretrained:
        embedding = images * FORWARD_SHARE / images_per_second
        command = f"`longtail features {config.model.backbone.name} {name}`"
        ways.append(f"a head on features, {command} and `longtail train features.npz` ({duration(embedding)})")
    if size > 64:
        ways.append(f"smaller images, `--image-size {size // 2}` ({duration(seconds_left / 4)})")
    training = config.stages[0].training_settings()
    if training is not None and training.iterations is None and training.epochs > 1:
        epochs = max(1, int(training.epochs * LONG / 2 / seconds_left))
        ways.append(f"fewer epochs, `--epochs {epochs}` ({duration(seconds_left * epochs / training.epochs)})")
    elif training is not None:
        ways.append("fewer epochs, `--epochs`")
    return ways


def duration(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> duration(45), duration(1800), duration(3 * 3600 + 300)
        ('45 s', '30 min', '3 h 5 min')
    """
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
