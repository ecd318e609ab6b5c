"""Draws pictures on demand: one JSON line in, one line out when the picture is on the screen.

PsychoPy stays out of the test process: its import raises DeprecationWarnings of its own
(`locale.getdefaultlocale` in psychopy.localization, 2026.2.5), opens a window and starts threads.
"""

from __future__ import annotations

import json
import sys

from stimuli.pen import Look
from stimuli.scenes import Picture, Scenes
from stimuli.window import open_window


def main() -> None:
    window = open_window(size=tuple(json.loads(sys.argv[1])))
    scenes: dict[str, Scenes] = {}
    print("open", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        look = Look(**order["look"])
        key = look.model_dump_json()
        if key not in scenes:
            scenes[key] = Scenes(window, look)
        # Twice: the second flip returns when the first picture has left the front buffer.
        for _ in range(2):
            scenes[key].draw(Picture(**order["picture"]))
            window.flip()
        print("drawn", flush=True)
    window.close()


if __name__ == "__main__":
    main()
