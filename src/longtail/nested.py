"""Nested settings and results as flat ones."""

import re
from collections.abc import Mapping
from typing import Any

import yaml


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
