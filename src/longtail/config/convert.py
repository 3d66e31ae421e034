"""Convert between typed settings and the plain mappings of YAML."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import yaml

from longtail._numbers import parse_number
from longtail.component import Component, find_class
from longtail.config.stage import Stage
from longtail.errors import InputError, unknown_name

TYPES = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
"""Types of settings in the words of messages."""
DEEPEST = 60
"""Largest depth of nested values in YAML."""
MOST_VALUES = 100_000
"""Largest number of values in YAML."""
RENAMED = {"balance_twice": "allow_double_balancing"}
"""Settings of earlier versions by their present names."""


def to_mapping(value: Any) -> Any:
    """Return plain data (mappings, lists, numbers) that `from_mapping` reads back to an equal value."""
    if isinstance(value, Component):
        return value.to_mapping()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        settings = {
            each.name: to_mapping(getattr(value, each.name))
            for each in dataclasses.fields(value)
            if not (each.metadata.get("omit_default") and getattr(value, each.name) == each.default)
        }
        return {"name": stage_name(type(value)), **settings} if isinstance(value, Stage) else settings
    if isinstance(value, (list, tuple)):
        return [to_mapping(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_mapping(item) for key, item in value.items()}
    return value


def stage_name(cls: type[Stage]) -> str:
    """Return the name of a stage in a recipe: its class name, or the dotted path of a class from elsewhere."""
    return cls.__name__ if cls.__module__.startswith("longtail.stages.") else f"{cls.__module__}.{cls.__qualname__}"


def from_mapping(cls: Any, value: Any, where: str = "") -> Any:
    """Return a typed value from plain data.

    Args:
        cls: Dataclass of settings, `Stage`, `Component`, or any type that their fields use.
        value: Value from YAML. A value of type `cls` is returned unchanged.
        where: Dotted path of the value, for messages.

    Raises:
        InputError: For an unknown key (with the nearest one), a value of another type, or a value out of range. The
            message names the place.

    Example:
        >>> from longtail.config.schema import OptimizerConfig
        >>> from_mapping(OptimizerConfig, {"lr": 0.05}).lr
        0.05
        >>> from_mapping(OptimizerConfig, {"learning_rate": 0.05})
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there is no setting 'learning_rate'; there are: beta1, beta2, ...
    """
    if cls is Component:
        return Component.parse(value, where)
    if cls is Stage:
        return _stage(value, where)
    if dataclasses.is_dataclass(cls):
        return _dataclass(cls, value, where)
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return from_mapping(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"`{where}` must be a list, got {value!r}")
        return tuple(from_mapping(arguments[0], item, f"{where}.{i}") for i, item in enumerate(value))
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"`{where}` must be one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if cls is Any:
        return value
    return _scalar(cls, value, where)


def _stage(value: Any, where: str) -> Stage:
    """Return a stage from its name, or from a mapping with its name and options."""
    if isinstance(value, Stage):
        return value
    import longtail.stages as stages  # the stages import torch, which reading a recipe alone does not need

    component = Component.parse(value, where)
    cls = find_class(component.name, stages)
    if not (isinstance(cls, type) and issubclass(cls, Stage) and dataclasses.is_dataclass(cls)):
        raise InputError(f"`{where}` must be a dataclass derived from longtail.stages.Stage, got {component.name!r}")
    if abstract := sorted(getattr(cls, "__abstractmethods__", ())):
        raise InputError(f"`{where}`: {component.name} lacks {', '.join(abstract)}; see longtail.stages.Stage")
    stage: Stage = _dataclass(cls, component.options, where)
    return stage


def _dataclass(cls: Any, value: Any, where: str) -> Any:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"`{where or cls.__name__}` must be a mapping of settings, got {value!r}")
    hints = typing.get_type_hints(cls)
    settings: dict[str, Any] = {
        str(key) if key in hints else RENAMED.get(str(key), str(key)): item for key, item in value.items()
    }
    for key in settings:
        if key not in hints:
            raise unknown_name(f"setting{f' of {where}' if where else ''}", key, hints)
    for each in dataclasses.fields(cls):
        if each.metadata.get("off") and settings.get(each.name) is False:
            settings[each.name] = "off"  # YAML 1.1 reads the word as false
    prefix = f"{where}." if where else ""
    values = {key: from_mapping(hints[key], item, f"{prefix}{key}") for key, item in settings.items()}
    try:
        return cls(**values)
    except InputError as error:
        raise (InputError(f"{where}: {error}") if where else error) from error


def _scalar(cls: Any, value: Any, where: str) -> Any:
    if cls is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if cls is float and isinstance(value, str):  # YAML 1.1 reads 2e-4 as a string
        try:
            return parse_number(value)
        except ValueError:
            pass
    if isinstance(value, cls) and (cls is bool or not isinstance(value, bool)):
        if value == "":
            raise InputError(f"`{where}` must not be empty, got ''; leave it out for the default")
        return value
    raise InputError(f"`{where}` must be {TYPES.get(cls, cls.__name__)}, got {value!r}")


_NUMBERS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|[-+]?[0-9]+[eE][-+]?[0-9]+$")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # in C, if PyYAML has it: 8x faster
    """YAML loader that reads numbers as the command line does: 1e-5 is a number; 1_000, 0x10, 1:30 and dates are text.

    PyYAML itself requires 1.0e-5, and reads 010 as 8 and 1:30 as 90.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in PyYAML, which replaces it in subclasses
        first: [each for each in resolvers if each[0] not in _NUMBERS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes text which `_Loader` would read as a number."""


_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]{1,18}$"), list("-+0123456789"))
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\.inf$|\.nan$", re.I), list("-+."))


def read_yaml(text: str) -> Any:
    """Return the plain values of a YAML text.

    Raises:
        yaml.YAMLError: If the text is not YAML, sets a key twice, is nested too deeply, or has too many values.

    Example:
        >>> read_yaml("{weight: 1e-2, pairs: batch}")
        {'weight': 0.01, 'pairs': 'batch'}
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, 0, {})
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError(f"it is nested more than {DEEPEST} levels deep") from error
    finally:
        loader.dispose()


def _count(node: yaml.Node, depth: int, known: dict[yaml.Node, int]) -> int:
    """Return the number of nodes below a node, aliases expanded, and check that a tree of them stays small.

    An alias (`*name`) may stand for a part that holds aliases itself, so that a few lines make billions of values.
    """
    if depth > DEEPEST:
        raise yaml.YAMLError(f"it is nested more than {DEEPEST} levels deep, or an alias (*name) refers to itself")
    if isinstance(node, yaml.ScalarNode):
        return 1
    if node not in known:
        children = node.value
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            children = [child for pair in node.value for child in pair]
        known[node] = 1 + sum(_count(child, depth + 1, known) for child in children)
        if known[node] > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases (*name) make more than {MOST_VALUES:,} values")
    return known[node]


def _check_keys(node: yaml.MappingNode) -> None:
    keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            line = node.value[place][0].start_mark.line + 1
            raise yaml.YAMLError(f"line {line} sets {key[1]!r} a second time; keep one of them")


def write_yaml(value: Any) -> str:
    """Return plain values as YAML text that `read_yaml` reads back.

    Example:
        >>> read_yaml(write_yaml({"name": "1e5"}))
        {'name': '1e5'}
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings and lists by their dotted paths.

    Args:
        value: Nested mappings and lists. An empty mapping or list has no leaf.
        path: Path of `value` itself.

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
