"""A site on this machine: free ports, a virtual screen, and `fcnef run` as a child."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["free_ports", "running", "screen"]


@contextlib.contextmanager
def running(session: Path, screen: str) -> Iterator[subprocess.Popen[bytes]]:
    """`fcnef run` on a session; it is ended in any case."""
    environment = {**os.environ, "DISPLAY": screen} if screen else dict(os.environ)
    command = [sys.executable, "-m", "tools.cli", "run", str(session)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def screen(window: bool) -> Iterator[str]:
    """Name of the display to use: the desktop's, a virtual one's, or "" for none."""
    if window:
        yield os.environ.get("DISPLAY", "")
        return
    program = shutil.which("Xvfb")
    if program is None:
        yield ""
        return
    read, write = os.pipe()
    command = [program, "-displayfd", str(write), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    server = subprocess.Popen(
        command, pass_fds=(write,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(write)
    try:
        with os.fdopen(read) as answer:
            yield f":{answer.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


def free_ports(n: int) -> list[int]:
    """Ports of the loopback address that nobody uses at this moment."""
    with contextlib.ExitStack() as undo:
        probes = [undo.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
