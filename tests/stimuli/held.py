"""Reads a key that goes down before the reading and up in the middle of it; prints its presses."""

from __future__ import annotations

import sys
import time
from typing import Any

from stimuli.trigger import Keyboard
from stimuli.window import open_window

SEEN_S = 0.2
"""What Psychtoolbox may take to see a key."""


def main() -> None:
    window = open_window(size=(320, 240))
    window.flip()
    keyboard = Keyboard(["5"])
    keyboard.take(["5"])
    _ask(keyboard.backend)
    device: Any = keyboard._device
    read = device.getKeys

    def read_slowly(waitRelease: bool) -> list[Any]:
        keys: list[Any] = read(waitRelease=waitRelease)
        if not waitRelease:
            _ask("half read")
        return keys

    device.getKeys = read_slowly
    n_first = len(keyboard.take(["5"]))
    device.getKeys = read
    print(n_first, len(keyboard.take(["5"])), flush=True)
    keyboard.close()
    window.close()


def _ask(text: str) -> None:
    """Say where it is, and wait until the key was moved."""
    print(text, flush=True)
    sys.stdin.readline()
    time.sleep(SEEN_S)


if __name__ == "__main__":
    main()
