"""A virtual X server of the tests' own: what is on its screen, and keys pressed on it for real."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

__all__ = ["XServer"]

START_S = 20.0


class XServer:
    """Xvfb on a display number it chooses itself."""

    def __init__(self, width: int = 1024, height: int = 768) -> None:
        program = shutil.which("Xvfb")
        if program is None:
            pytest.skip("Xvfb is not installed: no screen to look at")
        for module in ("psychopy", "Xlib"):
            pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)
        self.width, self.height = width, height
        reading, writing = os.pipe()
        screen = f"{width}x{height}x24"
        self._process = subprocess.Popen(
            [program, "-displayfd", str(writing), "-screen", "0", screen, "-nolisten", "tcp"],
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        number = _line(reading)
        os.close(reading)
        if not number:
            self.close()
            pytest.skip("Xvfb did not start: no screen to look at")
        self.display = f":{number}"
        from Xlib.display import Display

        self._client = Display(self.display)

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a program that is to open its window here."""
        return {**os.environ, "DISPLAY": self.display, "OMP_NUM_THREADS": "1"}

    def screenshot(self) -> NDArray[np.uint8]:
        """What is on the screen, shape (height, width, 3), RGB."""
        from Xlib import X

        root = self._client.screen().root
        image = root.get_image(0, 0, self.width, self.height, X.ZPixmap, 0xFFFFFFFF)
        pixels = np.frombuffer(image.data, np.uint8).reshape(self.height, self.width, 4)
        return pixels[:, :, 2::-1]

    def press(self, key: str) -> float:
        """Press and release a key by its X name; the time it went down, Unix seconds."""
        self.move(key, "down")
        pressed_s = time.time()
        self.move(key, "up")
        return pressed_s

    def move(self, key: str, to: Literal["down", "up"]) -> None:
        """Hold a key down or let it go."""
        from Xlib import XK, X
        from Xlib.ext import xtest

        code = self._client.keysym_to_keycode(XK.string_to_keysym(key))
        xtest.fake_input(self._client, {"down": X.KeyPress, "up": X.KeyRelease}[to], code)
        self._client.sync()

    def close(self) -> None:
        if hasattr(self, "_client"):
            self._client.close()
        self._process.terminate()
        self._process.wait(10)


def _line(descriptor: int) -> str:
    """First line that comes, empty if none does in time."""
    text = b""
    end_s = time.monotonic() + START_S
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end_s - time.monotonic()))
        received = os.read(descriptor, 64) if ready else b""
        if not received:
            return ""
        text += received
    return text.decode().strip()
