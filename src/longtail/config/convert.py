"""Convert between typed settings and the plain mappings of YAML."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import yaml

from longtail.component import Component
from longtail.errors import InputError, unknown_name


def to_mapping(value: Any) -> Any:
    """Plain data (mappings, lists, numbers) that `from_mapping` reads back to an equal value."""
    if isinstance(value, Component):
        options = {key: to_mapping(option) for key, option in value.options.items()}
        return {"name": value.name, **options} if options else value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_mapping(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_mapping(item) for key, item in value.items()}
    return value


def from_mapping(cls: Any, value: Any, where: str = "") -> Any:
    """A typed value from plain data.

    Args:
        cls: a dataclass of this module or a stage, or any type that their fields use.
        value: what YAML gave.
        where: dotted path to it, for messages.

    Raises:
        InputError: naming the place, for an unknown key (with the nearest) or a value of another type.

    Example:
        >>> from longtail.config.schema import OptimizerConfig
        >>> from_mapping(OptimizerConfig, {"lr": 0.05}).lr
        0.05
        >>> from_mapping(OptimizerConfig, {"learning_rate": 0.05})
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there is no setting 'learning_rate'; there are: lr, momentum, nesterov, weight_decay
    """
    if cls is Component:
        return Component.parse(value, where)
    if dataclasses.is_dataclass(cls):
        return _dataclass(cls, value, where)
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return from_mapping(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where} must be a list, not {value!r}")
        return tuple(from_mapping(arguments[0], item, f"{where}.{i}") for i, item in enumerate(value))
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where} must be one of {', '.join(map(str, arguments))}, not {value!r}")
        return value
    if cls is Any:
        return value
    return _scalar(cls, value, where)


def _dataclass(cls: Any, value: Any, where: str) -> Any:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{where or cls.__name__} must be a mapping of settings, not {value!r}")
    hints = typing.get_type_hints(cls)
    for key in value:
        if key not in hints:
            raise unknown_name(f"setting{f' of {where}' if where else ''}", str(key), hints)
    prefix = f"{where}." if where else ""
    return cls(**{key: from_mapping(hints[key], item, f"{prefix}{key}") for key, item in value.items()})


def _scalar(cls: Any, value: Any, where: str) -> Any:
    if cls is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if cls is float and isinstance(value, str):  # YAML 1.1 reads 2e-4 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, cls) and (cls is bool or not isinstance(value, bool)):
        return value
    raise InputError(f"{where} must be of type {cls.__name__}, not {value!r}")


class _Loader(yaml.SafeLoader):
    """Reads 1e-5 as a number; PyYAML wants 1.0e-5."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Plain values from YAML that a person wrote.

    Raises:
        yaml.YAMLError: if it is none.

    Example:
        >>> read_yaml("{weight: 1e-2, pairs: batch}")
        {'weight': 0.01, 'pairs': 'batch'}
    """
    return yaml.load(text, _Loader)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested mappings and lists, by dotted path.

    Args:
        value: of mappings, lists and anything else; an empty mapping or list has no leaf.
        path: of the whole.

    Example:
        >>> leaves({"seed": 0, "stages": [{"name": "Train"}, {"name": "Adjust"}]})
        {'seed': 0, 'stages.0.name': 'Train', 'stages.1.name': 'Adjust'}
    """
    if not isinstance(value, (Mapping, list)):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        flat |= leaves(item, f"{path}.{key}" if path else str(key))
    return flat
