"""Optional packages: import them, or refuse with a message that names the extra to install."""

import importlib
import importlib.util
from types import ModuleType

from longtail.errors import InputError


def import_optional(name: str, message: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        name: Dotted name of the module.
        message: Message if it is not installed, with the command that installs it.

    Raises:
        InputError: If the module cannot be imported.

    Example:
        >>> import_optional("json", "").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(message) from error


def check_installed(name: str, message: str) -> None:
    """Check that an optional package is installed, without importing it.

    Args:
        name: Top-level module of the package.
        message: Message if it is not installed, with the command that installs it.

    Raises:
        InputError: If there is no such module.

    Example:
        >>> check_installed("jsom", "the format needs the package jsom; install it")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: the format needs the package jsom; install it
    """
    if importlib.util.find_spec(name) is None:
        raise InputError(message)
