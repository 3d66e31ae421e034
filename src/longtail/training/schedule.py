"""Learning rate as a pure function of the position in a stage."""

import math

from longtail.config.schema import ScheduleConfig


def learning_rate_factor(schedule: ScheduleConfig, epoch: int, step: int, epochs: int, steps_per_epoch: int) -> float:
    """Return the learning rate at a step as a factor of the peak learning rate.

    Args:
        schedule: Kind, warm-up and milestones, as shares of the stage.
        epoch: Epoch, from 0.
        step: Step within the epoch, from 0.
        epochs: Epochs of the stage.
        steps_per_epoch: Steps of each epoch.

    Example:
        >>> ldam = ScheduleConfig(kind="multistep", warmup=5 / 200, milestones=(0.8, 0.9), gamma=0.01, per="epoch")
        >>> [round(learning_rate_factor(ldam, epoch, 0, 200, 85), 6) for epoch in (0, 4, 5, 159, 160, 180)]
        [0.2, 1.0, 1.0, 1.0, 0.01, 0.0001]
    """
    if schedule.per == "epoch":
        unit, units = epoch, epochs
    elif schedule.per == "next-epoch":
        unit, units = epoch + 1, epochs
    else:
        unit, units = epoch * steps_per_epoch + step, epochs * steps_per_epoch
    warm_units = schedule.warmup * units
    if unit < warm_units:
        risen = min(1.0, (unit + 1) / warm_units)
        return schedule.warmup_start + (1 - schedule.warmup_start) * risen
    if schedule.kind == "multistep":
        # a milestone of 0.8 of 200 is 160.00000000000003 in floating point
        return float(schedule.gamma ** sum(unit >= share * units - 1e-6 for share in schedule.milestones))
    if schedule.kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (unit - warm_units) / (units - warm_units)))
    return 1.0
