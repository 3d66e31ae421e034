"""Run the application on a port until the process is stopped."""

import copy
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from longtail.errors import InputError

if TYPE_CHECKING:
    from fastapi import FastAPI

GRACE = 10
"""Seconds for the answers in progress after a signal to stop."""


def serve(app: "FastAPI", host: str, port: int, on_start: Callable[[str], None] = lambda address: None) -> None:
    """Answer requests until SIGTERM or Ctrl-C. Answers in progress are finished first.

    Args:
        app: Application, see `create_app`.
        host: Address to listen on. "127.0.0.1" accepts requests of this machine only.
        port: Port; 0 takes a free one.
        on_start: Called with the address of the service.

    Raises:
        InputError: If the address is not available.
    """
    import uvicorn

    listening = bind(host, port)
    shown = f"[{host}]" if ":" in host else host
    on_start(f"http://{shown}:{listening.getsockname()[1]}")
    config = uvicorn.Config(app, timeout_graceful_shutdown=GRACE, log_config=_log_config())
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn stops cleanly, and then raises the signal again
        logging.getLogger("longtail").info("stopped")
    finally:
        listening.close()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.

    Raises:
        InputError: If the address is not available.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot listen on {host}, `port` {port}: {reason}; choose another port or address") from error


def _log_config() -> dict[str, Any]:
    """Return the log settings of uvicorn, with the time and on stderr only."""
    from uvicorn.config import LOGGING_CONFIG

    config = copy.deepcopy(LOGGING_CONFIG)
    for formatter in config["formatters"].values():
        formatter["fmt"] = f"%(asctime)s {formatter['fmt']}"
    config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    return config
