"""The console's process: one port on this machine, until told to end or its parent ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import uvicorn

from rtloop.console.app import ConsoleConfig, make_app
from rtloop.errors import LinkError

__all__ = ["serve"]

PARENT_CHECK_S = 0.25
PARTING_S = 1
"""A page that does not answer the farewell is waited for this long, seconds."""

PING_S, PONG_S = 5.0, 10.0
"""A page that hung is let go after this pause and patience, seconds."""

MAX_COMMAND_BYTES = 16_384


def serve(config: ConsoleConfig) -> None:
    """Serve the page until SIGTERM, SIGINT or the parent's end.

    Parameters
    ----------
    config : ConsoleConfig
        Where the engine is heard and the page served.

    Raises
    ------
    LinkError
        If the port cannot be had.
    """
    parent = os.getppid() if config.parent_pid is None else config.parent_pid
    with _bound(config) as port:
        settings = uvicorn.Config(
            make_app(config),
            log_level="warning",
            lifespan="on",
            ws_max_size=MAX_COMMAND_BYTES,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PONG_S,
            timeout_graceful_shutdown=PARTING_S,
        )
        server = uvicorn.Server(settings)
        if parent:
            threading.Thread(target=_follow, args=(parent, server), daemon=True).start()
        # uvicorn raises the signal that ended it once more when it is done.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[port])


def _bound(config: ConsoleConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        raise LinkError(
            f"console {config.page}: expected a free port, found: {error.strerror}; stop what uses "
            "it or name another under [network]"
        ) from error


def _follow(parent: int, server: uvicorn.Server) -> None:
    """End with the process that started the console."""
    while os.getppid() == parent and not server.should_exit:
        time.sleep(PARENT_CHECK_S)
    server.should_exit = True
