"""A component by its name and options: how recipes and other components refer to a class.

A component is written as its name, or as a mapping with its name and options:

    loss: BalancedSoftmax
    loss: {name: BalancedSoftmax, power: 0.25}
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from longtail.errors import InputError, unknown_name

KINDS = {  # what a component of each package is called in a message
    "longtail.losses": "loss",
    "longtail.samplers": "sampler",
    "longtail.augment.mixing": "way of mixing images",
    "longtail.embedding": "embedding loss",
    "longtail.transfer": "transfer",
    "longtail.models": "backbone or head",
    "longtail.posthoc": "post-hoc correction",
    "longtail.stages": "stage",
}


@dataclass(frozen=True)
class Component:
    """A class by its name, with the keyword options that a recipe gives it.

    Args:
        name: of a public class of the component's package, or "package.module.Class" of anyone's.
        options: its keyword-only arguments.
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

    def build(self, package: types.ModuleType, *runtime: Any) -> Any:
        """Construct it: `runtime` values first, then the options.

        Raises:
            InputError: for a name or an option that does not exist, with the nearest ones.
        """
        cls = self.check(package)
        try:
            return cls(*runtime, **self.options)
        except TypeError as error:
            raise InputError(
                f"cannot build {self.name} with {dict(self.options) or 'no options'}: {error}; a loss of one's own "
                "takes the class counts first, a sampler the labels, and options are keyword-only"
            ) from error

    def check(self, package: types.ModuleType) -> Any:
        """The class, once its name and the names of the options are known to be right.

        Raises:
            InputError: for a name or an option that does not exist, with the nearest ones.
        """
        cls = find_class(self.name, package)
        known = keyword_options(cls)
        for option in self.options:
            if option not in known:
                raise unknown_name(f"option of {self.name}", option, known)
        return cls


def keyword_options(cls: Any) -> list[str]:
    """Names of the options a component takes: its keyword-only arguments, those of an unpacked TypedDict included."""
    known = []
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            known.append(parameter.name)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            unpacked = typing.get_type_hints(cls.__init__).get(parameter.name)
            known += [key for shared in typing.get_args(unpacked) for key in typing.get_type_hints(shared)]
    return known


def check_options(component: object, given: Mapping[str, Any], contract: Any) -> None:
    """Refuse what a component has handed on to its base class and the base class does not know either.

    Args:
        component: being built.
        given: options that reached the base class.
        contract: the TypedDict of those that it takes.

    Raises:
        InputError: with the likest of the options that there are.
    """
    shared = list(typing.get_type_hints(contract))
    for name in given:
        if name not in shared:
            known = dict.fromkeys([*keyword_options(type(component)), *shared])
            raise unknown_name(f"option of {type(component).__name__}", name, known)


def find_class(name: str, package: types.ModuleType) -> Any:
    """The class called `name` in a package of components, or anywhere by its dotted path."""
    if "." in name:
        module_name, _, attribute = name.rpartition(".")
        try:
            return getattr(__import__(module_name, fromlist=[attribute]), attribute)
        except (ImportError, AttributeError) as error:
            raise InputError(f"cannot import {name!r}: {error}") from error
    public: list[str] = package.__all__
    if name not in public:
        raise unknown_name(KINDS.get(package.__name__, "class"), name, public)
    return getattr(package, name)
