"""Nested settings and results as flat ones."""

from collections.abc import Mapping
from typing import Any


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
