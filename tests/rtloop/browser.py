"""A real browser, headless: Chromium driven over its DevTools WebSocket, nothing more installed."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

__all__ = ["Page", "browser"]

PROGRAM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
)
PATIENCE_S = 30.0


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._id = 0
        self.dialogs: list[str] = []
        self._call("Page.enable")
        self._call("Runtime.enable")

    def open(self, address: str) -> None:
        self._call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """Value of a JavaScript expression."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str, patience_s: float = PATIENCE_S) -> Any:
        """Wait for an expression to be true; its value."""
        give_up = time.monotonic() + patience_s
        while not (value := self.evaluate(script)):
            if time.monotonic() > give_up:
                raise AssertionError(f"still not after {patience_s:g} s: {script}")
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        """Text of an element as a person sees it."""
        return str(self.evaluate(f"document.querySelector({selector!r}).innerText"))

    def click(self, selector: str, answer: str | None = None) -> None:
        """Click; a dialog that opens is accepted, with `answer` typed into it."""
        # the dialog blocks the script that opened it, so the click must not wait for it
        script = f"setTimeout(() => document.querySelector({selector!r}).click(), 0)"
        self.evaluate(script)
        give_up = time.monotonic() + PATIENCE_S
        if answer is None:
            return
        while time.monotonic() < give_up:
            message = json.loads(self._socket.recv(PATIENCE_S))
            if message.get("method") == "Page.javascriptDialogOpening":
                self.dialogs.append(message["params"]["message"])
                self._call("Page.handleJavaScriptDialog", accept=True, promptText=answer)
                return
        raise AssertionError("no dialog")

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)

    def screenshot(self, path: Path) -> None:
        found = self._call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(found["data"]))

    def _call(self, method: str, **parameters: Any) -> Any:
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(PATIENCE_S))
            if message.get("id") == self._id:
                assert "error" not in message, message["error"]
                return message["result"]


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with an empty profile in `folder`; the test is skipped where there is none."""
    if PROGRAM is None:
        pytest.skip("no Chromium found")
    command = [PROGRAM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        with connect(_tab(folder, process), max_size=None, open_timeout=PATIENCE_S) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tab(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """WebSocket address of the only tab."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            port = int((folder / "DevToolsActivePort").read_text().split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError(f"the browser did not open (exit status {process.poll()})")
