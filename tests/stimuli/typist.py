"""Opens a window, says so, and prints every press of some keys for a while, as JSON."""

from __future__ import annotations

import json
import sys
import time

from stimuli.trigger import Keyboard
from stimuli.window import open_window


def main() -> None:
    backend, names, seconds = json.loads(sys.argv[1])
    window = open_window(size=(320, 240))
    window.flip()
    keyboard = Keyboard(names, backend)
    keyboard.take(names)
    print(keyboard.backend, flush=True)
    presses = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        presses += [(press.name, press.time_s) for press in keyboard.take(names)]
        time.sleep(0.005)
    print(json.dumps(presses), flush=True)
    keyboard.close()
    window.close()


if __name__ == "__main__":
    main()
