"""Optional libraries of pretrained networks, imported in one place, and their hub without a network."""

import logging
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

from longtail._imports import import_optional
from longtail.errors import InputError, first_line

logger = logging.getLogger("longtail")

TIMEOUT = 5.0
"""Seconds after which a server that does not answer counts as unreachable."""
ERRORS = (OSError, RuntimeError, ValueError)
"""Errors of the libraries for weights that cannot be loaded: no network, no such weights, a damaged file."""


def import_timm() -> ModuleType:
    """Import timm.

    Raises:
        InputError: If it is not installed.
    """
    return import_optional("timm", 'timm networks need the package timm; install it: pip install "longtail[timm]"')


def import_transformers() -> ModuleType:
    """Import transformers.

    Raises:
        InputError: If it is not installed.
    """
    return import_optional(
        "transformers",
        'backbones hf/... need the package transformers; install it: pip install "longtail[transformers]"',
    )


def import_peft() -> ModuleType:
    """Import peft.

    Raises:
        InputError: If it is not installed.
    """
    return import_optional("peft", 'LoRA needs the package peft; install it: pip install "longtail[peft]"')


@contextmanager
def hub_access() -> Iterator[None]:
    """Use only cached files of the Hugging Face hub within the context if the hub cannot be reached.

    The clients of the hub would repeat every request for half a minute. `HF_HUB_OFFLINE=1` skips the check.
    """
    try:
        from huggingface_hub import constants
    except ImportError:  # timm and transformers require it
        yield
        return
    offline = constants.HF_HUB_OFFLINE
    with socket_timeout():
        constants.HF_HUB_OFFLINE = offline or not _is_reachable(constants.ENDPOINT)
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = offline


@contextmanager
def socket_timeout() -> Iterator[None]:
    """Limit the time that new connections wait for an answer within the context."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(2 * TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@cache
def _is_reachable(endpoint: str) -> bool:
    """Return whether a server answers, with any status."""
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=TIMEOUT).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        logger.info("note: %s cannot be reached; only files in the cache are used", endpoint)
        return False
    return True


def cache_folder() -> str:
    """Return the folder in which the Hugging Face hub keeps its downloads.

    Example:
        >>> cache_folder().endswith("hub")
        True
    """
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    return os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")


def without_network(name: str, repository: str, error: Exception) -> InputError:
    """Return the message for weights that cannot be loaded: the reason, and what to put where.

    Args:
        name: Name of the backbone.
        repository: Repository of the hub that holds the weights.
        error: Error of the library.
    """
    reason = first_line(error).removesuffix(".")
    return InputError(
        f"cannot load the pretrained weights of {name}: {reason}. On a machine with a network, run "
        f"`hf download {repository}` and copy the folder models--{repository.replace('/', '--')} to {cache_folder()}; "
        "or give a weights file with `weights`; or set `pretrained` to false"
    )
