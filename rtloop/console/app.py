"""The web side of the console: three files, one WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from rtloop.console.hub import Hub
from rtloop.errors import ConfigError, LinkError, WireError
from rtloop.link import Listener, Reporter, load_keys
from rtloop.link.endpoint import is_local
from rtloop.plan import explain
from rtloop.wire import Command, Telemetry

__all__ = ["ConsoleConfig", "make_app"]

log = logging.getLogger("fcnef.console")

STATIC = Path(__file__).with_name("static")
MAX_NOTE = 400
LISTEN_S = 0.1
"""Pace at which the listening thread looks whether it shall end."""


class ConsoleConfig(BaseModel):
    """Where the engine is heard and where the page is served (`host:port`).

    `parent_pid` is the process with whose end the console leaves: None for the one that started
    it, 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    telemetry: str
    reports: str
    page: str = "127.0.0.1:8080"
    keys: str | None = None
    parent_pid: int | None = None

    @classmethod
    def read(cls, text: str) -> ConsoleConfig:
        """From JSON.

        Raises
        ------
        ConfigError
            If an entry is wrong, or the page would be open to other machines: it has no log-in.
        LinkError
            If the page's address is none.
        """
        try:
            config = cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(f"console: {explain(error)}") from error
        if not is_local(f"tcp://{config.page}") or config.page.endswith(":*"):
            raise ConfigError(
                f"console: expected a loopback address with a port, found {config.page}; the page "
                "has no log-in, so reach it from another machine through an SSH tunnel"
            )
        return config

    @property
    def host(self) -> str:
        return self.page.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.page.rpartition(":")[2])


def make_app(config: ConsoleConfig, hub: Hub | None = None) -> Starlette:
    """The page's server, listening to the engine while it runs."""
    hub = hub or Hub(config.run)
    keys = load_keys(config.keys) if config.keys else None

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with (
            contextlib.closing(Listener(config.telemetry, keys=keys)) as listener,
            contextlib.closing(Reporter(config.reports, keys=keys)) as reporter,
        ):
            app.state.reporter = reporter
            stop = threading.Event()
            loop = asyncio.get_running_loop()
            ear = threading.Thread(target=_listen, args=(listener, hub, loop, stop))
            ear.start()
            try:
                yield
            finally:
                stop.set()
                await asyncio.to_thread(ear.join)

    async def index(request: Request) -> FileResponse:
        return FileResponse(STATIC / "index.html")

    async def live(socket: WebSocket) -> None:
        await _serve_page(socket, hub)

    return Starlette(
        routes=[
            Route("/", index),
            WebSocketRoute("/live", live),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        lifespan=lifespan,
    )


def _listen(
    listener: Listener, hub: Hub, loop: asyncio.AbstractEventLoop, stop: threading.Event
) -> None:
    """Hand the engine's messages to the event loop until told to stop."""
    while not stop.is_set():
        try:
            message = listener.receive(LISTEN_S)
        except WireError as error:
            log.warning("%s", error)
            continue
        if isinstance(message, Telemetry):
            loop.call_soon_threadsafe(hub.take, message, time.time())


async def _serve_page(socket: WebSocket, hub: Hub) -> None:
    """One open page: the course so far, then every message; commands the other way."""
    if not _is_own_page(socket):
        await socket.close(1008)
        return
    await socket.accept()
    page = hub.join()
    writer = asyncio.create_task(_write(socket, hub, page))
    try:
        while (heard := await socket.receive())["type"] == "websocket.receive":
            _obey(socket, heard.get("text") or "")
    finally:
        hub.leave(page)
        writer.cancel()


async def _write(socket: WebSocket, hub: Hub, page: asyncio.Queue[str | None]) -> None:
    """Everything the page has to know, until it goes or falls behind."""
    with contextlib.suppress(WebSocketDisconnect):
        await socket.send_text(hub.snapshot(time.time()))
        while (text := await page.get()) is not None:
            await socket.send_text(text)
        await socket.close(1013)


def _is_own_page(socket: WebSocket) -> bool:
    """Whether this is our page, or a program of this machine.

    A page of another site must not steer the loop through the operator's browser: neither openly
    (its Origin is another) nor under a name of its own that it lets point to this machine.
    """
    host = socket.headers.get("host", "")
    origin = socket.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return False
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return is_local(f"tcp://[{name}]:0" if ":" in name else f"tcp://{name}:0")
    except LinkError:
        return False


def _obey(socket: WebSocket, text: str) -> None:
    """Pass on a command; anything else is ignored."""
    try:
        wish: Any = json.loads(text)
        action, note = wish["action"], str(wish.get("text", ""))[:MAX_NOTE]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    if action in ("stop", "pause", "resume", "note"):
        # JSON can escape half a character, which no other text can hold.
        note = note.encode("utf-8", "replace").decode("utf-8")
        socket.app.state.reporter.send(Command(action, "operator", note, time.time()))
