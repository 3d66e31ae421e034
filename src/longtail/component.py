"""Refer to a class by name and options, as recipes and other components do.

A component is a name, or a mapping with a name and options:

    loss: BalancedSoftmax
    loss: {name: BalancedSoftmax, power: 0.25}
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from longtail.errors import InputError, unknown_name

KINDS = {
    "longtail.losses": "loss",
    "longtail.samplers": "sampler",
    "longtail.augment": "mixing",
    "longtail.embedding": "embedding loss",
    "longtail.transfer": "transfer",
    "longtail.models": "backbone or head",
    "longtail.models.adapters": "adapter",
    "longtail.posthoc": "post-hoc correction",
    "longtail.stages": "stage",
}
"""Name of the components of each package, for messages."""

NAMES = {"longtail.augment": "MIXINGS"}
"""Packages whose components are listed in a tuple of this name. The components of all others are in `__all__`."""


@dataclass(frozen=True)
class Component:
    """Name and keyword options of a class.

    Args:
        name: Name of a public class of the component's package, or the import path of any class
            ("package.module.Class").
        options: Keyword-only arguments of the class.

    Example:
        >>> from longtail import losses
        >>> Component("BalancedSoftmax", {"power": 0.25}).build(losses, [90, 10])
        BalancedSoftmax(num_classes=2, power=0.25)
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: object, where: str = "a component") -> Component:
        """Read a component from its written form.

        Args:
            value: A component, a name, or a mapping with a name and options.
            where: Name of the setting, for the message.

        Raises:
            InputError: If `value` is none of these.

        Example:
            >>> Component.parse({"name": "BalancedSoftmax", "power": 0.25})
            Component(name='BalancedSoftmax', options={'power': 0.25})
        """
        if isinstance(value, Component):
            return value
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            return cls(value["name"], {key: item for key, item in value.items() if key != "name"})
        raise InputError(f"{where} must be a name, or a mapping with a name and its options, not {value!r}")

    def to_mapping(self) -> Any:
        """Return the written form that `parse` reads: the name, or a mapping with name and options.

        Example:
            >>> Component("BalancedSoftmax", {"power": 0.25}).to_mapping()
            {'name': 'BalancedSoftmax', 'power': 0.25}
        """
        options = {key: _plain(option) for key, option in self.options.items()}
        return {"name": self.name, **options} if options else self.name

    def build(self, package: types.ModuleType, *runtime: Any) -> Any:
        """Construct the component.

        Args:
            package: Package that holds the class.
            runtime: Positional arguments, such as the class counts of a loss.

        Raises:
            InputError: If the name or an option is unknown, or the class does not accept the arguments.
        """
        cls = self.check(package)
        try:
            return cls(*runtime, **self.options)
        except TypeError as error:
            raise InputError(
                f"cannot build {self.name} with {dict(self.options) or 'no options'}: {error}. A custom loss takes the "
                "class counts first, a custom sampler takes the labels first, and options must be keyword-only."
            ) from error

    def check(self, package: types.ModuleType) -> Any:
        """Return the class after checking its name and the names of the options.

        Args:
            package: Package that holds the class.

        Raises:
            InputError: If the name or an option is unknown. The message suggests the nearest names.
        """
        cls = find_class(self.name, package)
        known = keyword_options(cls)
        for option in self.options:
            if option not in known:
                raise unknown_name(f"option of {self.name}", option, known)
        return cls


def _plain(value: Any) -> Any:
    """Return an option as plain data."""
    if isinstance(value, Component):
        return value.to_mapping()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def keyword_options(cls: Any) -> list[str]:
    """Return the names of the keyword-only parameters of a class.

    Example:
        >>> from longtail.losses import BalancedSoftmax
        >>> keyword_options(BalancedSoftmax)
        ['power', 'reduction', 'ignore_index', 'absent']
    """
    return [each.name for each in inspect.signature(cls).parameters.values() if each.kind is each.KEYWORD_ONLY]


def find_class(name: str, package: types.ModuleType) -> Any:
    """Return a class by its name in a package of components, or by its import path.

    Args:
        name: Public name, or import path with at least one dot.
        package: Package of components, such as `longtail.losses`.

    Raises:
        InputError: If there is no such class. The message suggests the nearest names.
    """
    if "." in name:
        module_name, _, attribute = name.rpartition(".")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise InputError(f"cannot import {name!r}: {error}") from error
    public: list[str] = getattr(package, NAMES.get(package.__name__, "__all__"))
    if name not in public:
        raise unknown_name(KINDS.get(package.__name__, "class"), name, public)
    return getattr(package, name)


def format_options(component: object, base: type, omit: str = "") -> str:
    """Format the options of a component for its `repr`: `power=1.0, reduction='sum'`.

    An option is shown if the component has an attribute of its name. Options that `base` also takes are shown only if
    they differ from their defaults.

    Args:
        component: Instance to describe.
        base: Base class that declares the options shared by all components of its kind.
        omit: Name of an option to leave out.
    """
    shared, shown = inspect.signature(base).parameters, []
    for name in keyword_options(type(component)):
        value = getattr(component, name, inspect.Parameter.empty)
        if name == omit or value is inspect.Parameter.empty or isinstance(value, (torch.Tensor, nn.Module)):
            continue
        if name not in shared or value != shared[name].default:
            shown.append(f"{name}={value!r}")
    return ", ".join(shown)


def plain_attributes(module: nn.Module) -> tuple[tuple[str, str, object], ...]:
    """Return the attributes of a module and its parts that are numbers, strings or None, in a fixed order.

    Example:
        >>> layer = nn.Dropout(0.5)
        >>> plain_attributes(layer)
        (('', 'inplace', False), ('', 'p', 0.5), ('', 'training', True))
    """
    return tuple(
        (name, key, value)
        for name, part in module.named_modules()
        for key, value in sorted(vars(part).items())
        if not key.startswith("_") and isinstance(value, (bool, int, float, str, type(None)))
    )
