"""Sockets opened safely: CURVE beyond loopback, bounded messages, one-line errors, clean ends.

Every endpoint has a ZeroMQ context of its own unless it is given one, so that closing it leaves
nothing behind: no socket, no thread, no port. On the bound side a gate, the only thread here,
answers ZeroMQ's question whether a client's key is on the allow-list (ZAP, ZeroMQ RFC 27).
"""

from __future__ import annotations

import errno
import ipaddress
import math
import re
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from rtloop.errors import LinkError
from rtloop.link.keys import Keys, load_keys, public_key

__all__ = ["Allowed", "Bound", "Connected", "Options", "Wakeable", "has_input", "is_local", "wait"]

Allowed = Iterable[bytes | str | Path]
"""Public keys of clients, in Z85 or as paths of .pub files."""

Options = Mapping[int, int | bytes]
"""ZeroMQ socket options."""

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"fcnef"
PING_MS = 1000
PONG_MS = 3000
"""A connection whose other end vanished without a word is given up, and made again."""

RECONNECT_MS = 100
RECONNECT_MAX_MS = 1000
RETRY_S = 1.0
"""ZeroMQ gives up a connection refused for its key; it is tried again at this pace."""

_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:/;]+):(\d{1,5}|\*)")
_LOCAL = re.compile(r"(ipc|inproc)://.+")
_DISAGREED = "no agreement on keys: one side uses none, or this is not that engine's key"
_FAILED: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the other side does not know our key",
    # Which of these two it is depends on who hangs up first.
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: _DISAGREED,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: _DISAGREED,
}
_ADVICE = {
    errno.EADDRINUSE: "the port is in use; stop what uses it or choose another",
    errno.EADDRNOTAVAIL: "this machine has no such address; name one it has",
    errno.ENODEV: "this machine has no such address; name one it has",
    errno.EACCES: "not permitted; choose a port above 1023 or another path",
}


class Wakeable(Protocol):
    """Anything with a socket that can be waited for."""

    @property
    def socket(self) -> zmq.Socket[bytes]: ...


def is_local(endpoint: str) -> bool:
    """Whether nobody beyond this machine can reach an endpoint.

    Raises
    ------
    LinkError
        If it is no endpoint of the form tcp://HOST:PORT, ipc://PATH or inproc://NAME.
    """
    if _LOCAL.fullmatch(endpoint):
        return True
    match = _TCP.fullmatch(endpoint)
    if match is None or (match[2] != "*" and int(match[2]) > 65535):
        raise LinkError(
            f"endpoint {endpoint}: expected tcp://HOST:PORT, ipc://PATH or inproc://NAME"
        )
    host = match[1].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def has_input(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message can be received at once."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def wait(
    sockets: Iterable[zmq.Socket[bytes]], wake: Iterable[Wakeable | int], timeout_s: float
) -> bool:
    """Wait until something arrives; True if it did at one of `wake` (endpoints or descriptors)."""
    others = [one if isinstance(one, int) else one.socket for one in wake]
    watched = [(one, zmq.POLLIN) for one in (*sockets, *others)]
    timeout_ms = -1 if timeout_s == math.inf else math.ceil(max(0.0, timeout_s) * 1e3)
    ready = {one for one, _ in zmq.zmq_poll(watched, timeout_ms)}
    return any(one in ready for one in others)


class Bound:
    """A socket bound at a fixed address, guarded by keys beyond loopback.

    Parameters
    ----------
    kind : int
        ZeroMQ socket type.
    endpoint : str
        Where to bind; port `*` takes a free one.
    keys : Keys, Path, str or None
        This side's pair or its file; None only on this machine.
    allow : iterable of bytes, str or Path, or None
        Clients' public keys. The own one is always among them: children share the engine's file.
    options : mapping of int to int or bytes
        Further socket options, set before binding.
    context : zmq.Context or None
        None for an own one; inproc needs the one that its other end uses.
    """

    def __init__(
        self,
        kind: int,
        endpoint: str,
        keys: Keys | Path | str | None,
        allow: Allowed | None,
        options: Options,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        keys = _given_keys(endpoint, keys)
        if keys is not None and context is not None:
            raise LinkError(f"bind {endpoint}: expected a context of its own with keys; give none")
        self._owner = context is None
        self._context = zmq.Context() if context is None else context
        self._gate: _Gate | None = None
        self.socket = self._context.socket(kind)
        try:
            _set_options(self.socket, endpoint, options)
            if keys is not None:
                allowed = {keys.public, *(public_key(entry) for entry in allow or ())}
                self._gate = _Gate(self._context, allowed)
                self._arm(keys)
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            reason = _ADVICE.get(error.errno or 0, f"{error.strerror}; correct it")
            raise LinkError(f"bind {endpoint}: {reason}") from error
        except BaseException:
            self.close()
            raise
        self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def close(self) -> None:
        """Unbind at once; what was not yet sent is dropped."""
        self.socket.close(linger=0)
        if self._owner:
            # Ends the gate's wait; returns when its socket is closed too and the port is free.
            self._context.term()
        if self._gate is not None:
            self._gate.join()

    def _arm(self, keys: Keys) -> None:
        self.socket.curve_server = 1
        self.socket.curve_publickey, self.socket.curve_secretkey = keys.public, keys.secret
        self.socket.zap_domain = ZAP_DOMAIN
        # Without this, ZeroMQ lets everybody in when nobody answers at the gate.
        self.socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class Connected:
    """A socket that connects, stays connected, and knows why it is not.

    Parameters
    ----------
    kind : int
        ZeroMQ socket type.
    endpoint : str
        Where the other side is bound.
    keys : Keys, Path, str or None
        This side's pair or its file; None only on this machine.
    server_key : bytes, str, Path or None
        The bound side's public key; None for the one named in `keys`, or, if it names none, the
        own one: programs of one machine share the engine's file.
    options : mapping of int to int or bytes
        Further socket options, set before connecting.
    context : zmq.Context or None
        None for an own one; inproc needs the one that its other end uses.

    Attributes
    ----------
    trouble : str
        Why the connection was refused, one line; "" where it was not.
    """

    def __init__(
        self,
        kind: int,
        endpoint: str,
        keys: Keys | Path | str | None,
        server_key: bytes | str | Path | None,
        options: Options,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        keys = _given_keys(endpoint, keys)
        self.endpoint = endpoint
        self.trouble = ""
        self._retry_s = math.inf
        self._owner = context is None
        self._context = zmq.Context() if context is None else context
        self.socket = self._context.socket(kind)
        self._monitor: zmq.Socket[bytes] | None = None
        try:
            _set_options(self.socket, endpoint, options)
            if keys is not None:
                self.socket.curve_publickey, self.socket.curve_secretkey = keys.public, keys.secret
                self.socket.curve_serverkey = (
                    keys.engine or keys.public if server_key is None else public_key(server_key)
                )
            self._monitor = self.socket.get_monitor_socket(
                zmq.EVENT_HANDSHAKE_SUCCEEDED | sum(_FAILED)
            )
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close(0)
            raise LinkError(f"connect {endpoint}: {error.strerror}; correct it") from error
        except BaseException:
            self.close(0)
            raise

    @property
    def sockets(self) -> tuple[zmq.Socket[bytes], ...]:
        """What to wait for: the socket, and news of its connection."""
        assert self._monitor is not None
        return self.socket, self._monitor

    def attend(self, now: float) -> bool:
        """Take note of the connection's fate; True if one was just made."""
        assert self._monitor is not None
        made = False
        while has_input(self._monitor):
            event = int(recv_monitor_message(self._monitor, zmq.NOBLOCK)["event"])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                made, self.trouble = True, ""
            else:
                self.trouble = f"connect {self.endpoint}: {_FAILED[event]}; see `fcnef keys`"
                self._retry_s = min(self._retry_s, now + RETRY_S)
        if now >= self._retry_s:
            self._retry_s = math.inf
            self.socket.disconnect(self.endpoint)
            self.socket.connect(self.endpoint)
        return made

    def due_s(self) -> float:
        """When `attend` has to be called again, whatever arrives."""
        return self._retry_s

    def close(self, linger_s: float) -> None:
        """Disconnect; what is not sent within `linger_s` is dropped."""
        if self._monitor is not None:
            self.socket.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None
        self.socket.close(linger=math.ceil(linger_s * 1e3))
        if self._owner:
            self._context.term()


class _Gate(threading.Thread):
    """Answers, for one context, who may connect. Ends when the context does."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: set[bytes]) -> None:
        super().__init__(name="fcnef-gate", daemon=True)
        self._allowed = {z85.decode(key) for key in allowed}
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        # Bound before the thread runs: from the first connection on there is somebody to ask.
        self._socket.bind(ZAP_ENDPOINT)
        self.start()

    def run(self) -> None:
        try:
            while True:
                self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
        except zmq.ContextTerminated:
            self._socket.close(linger=0)

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """Reply to version, id, domain, address, identity, mechanism, credentials..."""
        version, number = request[0], request[1]
        mechanism, *credentials = request[5:]
        if mechanism == b"CURVE" and credentials[0] in self._allowed:
            return [version, number, b"200", b"OK", z85.encode(credentials[0]), b""]
        return [version, number, b"400", b"key is not on the allow-list", b"", b""]


def _given_keys(endpoint: str, keys: Keys | Path | str | None) -> Keys | None:
    if keys is None and not is_local(endpoint):
        raise LinkError(
            f"endpoint {endpoint}: expected keys beyond this machine, found none; "
            "make them with `fcnef keys` or use 127.0.0.1"
        )
    return load_keys(keys) if isinstance(keys, Path | str) else keys


def _set_options(socket: zmq.Socket[bytes], endpoint: str, options: Options) -> None:
    socket.linger = 0
    socket.setsockopt(zmq.HEARTBEAT_IVL, PING_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, PONG_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    if "[" in endpoint:
        socket.setsockopt(zmq.IPV6, 1)
    for option, value in options.items():
        socket.setsockopt(option, value)
