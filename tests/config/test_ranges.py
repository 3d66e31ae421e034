"""Ranges of numeric settings: every numeric setting of a run states one, and values outside are refused by name."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import longtail.stages as stages
from longtail.config.convert import from_mapping
from longtail.config.schema import Config
from longtail.config.stage import Stage
from longtail.errors import InputError
from longtail.ranges import Range, check_ranges, ranged


def settings_classes() -> list[type]:
    """Return the settings dataclasses of a run: `Config`, all stages, and those of their fields."""
    every_stage = [
        cls for name in stages.__all__ if issubclass(cls := getattr(stages, name), Stage) and cls is not Stage
    ]
    found: dict[type, None] = {}
    pending: list[type] = [Config, *every_stage]
    while pending:
        cls = pending.pop()
        if cls in found:
            continue
        found[cls] = None
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            pending += [part for part in leaf_types(hints[field.name]) if dataclasses.is_dataclass(part)]
    return sorted(found, key=lambda cls: cls.__qualname__)


def leaf_types(hint: Any) -> Iterator[Any]:
    """Yield the types in unions and tuples."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union, tuple):
        for part in typing.get_args(hint):
            yield from leaf_types(part)
    else:
        yield hint


def numeric_settings() -> list[Any]:
    """Return each numeric field with its class as a parameter of a test."""
    return [
        pytest.param(cls, field, id=f"{cls.__name__}.{field.name}")
        for cls in settings_classes()
        for field in dataclasses.fields(cls)
        if {int, float} & set(leaf_types(typing.get_type_hints(cls)[field.name]))
    ]


def just_outside(allowed: Range, integer: bool) -> list[float]:
    """Return the nearest numbers outside of a range, and NaN and infinity for real numbers."""
    gap = 1 if integer else 1e-9
    outside = [
        *([] if allowed.at_least is None else [allowed.at_least - gap]),
        *([] if allowed.above is None else [allowed.above]),
        *([] if allowed.at_most is None else [allowed.at_most + gap]),
        *([] if allowed.below is None else [allowed.below]),
    ]
    if integer:
        return outside
    return [*outside, math.nan, -math.inf, *([] if allowed.infinite else [math.inf])]


def test_the_walk_reaches_nested_settings_and_every_stage():
    names = {cls.__name__ for cls in settings_classes()}
    assert names >= {"Config", "DataConfig", "TrainingConfig", "OptimizerConfig", "ScheduleConfig"}
    assert names >= {"Train", "Retrain", "RetrainMeta", "RetrainRISDA", "Filter", "Adjust", "FilterSettings"}


@pytest.mark.parametrize(("cls", "field"), numeric_settings())
def test_every_numeric_setting_states_its_range(cls, field):
    allowed = field.metadata.get("range")
    assert isinstance(allowed, Range), f"declare {cls.__name__}.{field.name} with `ranged`"
    default = getattr(cls(), field.name)
    for number in default if isinstance(default, tuple) else (default,):
        assert number is None or number in allowed


@pytest.mark.parametrize(("cls", "field"), numeric_settings())
def test_a_number_just_outside_is_refused_by_name(cls, field):
    leaves = list(leaf_types(typing.get_type_hints(cls)[field.name]))
    outside = just_outside(field.metadata["range"], integer=int in leaves)
    assert outside or field.metadata["range"] == Range()
    for number in outside:
        value = (number,) if isinstance(getattr(cls(), field.name), tuple) else number
        with pytest.raises(InputError, match=f"`{field.name}` must be .*, got {number!r}"):
            cls(**{field.name: value})


def test_the_message_of_a_nested_setting_names_the_place():
    with pytest.raises(InputError, match=r"stages\.0\.training\.optimizer: `lr` must be > 0, got 0\.0"):
        from_mapping(Config, {"stages": [{"name": "Train", "training": {"optimizer": {"lr": 0}}}]})


@dataclass(frozen=True)
class Toy:
    share: float = ranged(0.5, above=0, at_most=1)
    limit: float | None = ranged(None, above=0, infinite=True)
    points: tuple[float, ...] = ranged((), at_least=0)
    any_number: float = ranged(0.0)

    def __post_init__(self) -> None:
        check_ranges(self)


def test_bounds_belong_to_the_range_or_not_and_none_is_allowed():
    assert Toy(share=1, limit=math.inf, points=(0.0, 3.0)).limit == math.inf
    assert Toy(limit=None).limit is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share": 0.0}, "`share` must be > 0 and <= 1, got 0.0"),
        ({"share": 1.5}, "`share` must be > 0 and <= 1, got 1.5"),
        ({"share": "half"}, "`share` must be a number, got 'half'"),
        ({"share": True}, "`share` must be a number, got True"),
        ({"points": (1.0, -1.0)}, "`points` must be >= 0, got -1.0"),
        ({"any_number": math.nan}, "`any_number` must be finite, got nan"),
    ],
)
def test_messages_state_name_range_and_value(settings, words):
    with pytest.raises(InputError) as refused:
        Toy(**settings)
    assert str(refused.value) == words
