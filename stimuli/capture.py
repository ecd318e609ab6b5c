"""Screenshots of what the participant sees, for reports: few, and never in the way of a frame.

A picture is taken from the drawn buffer right before it is flipped (reading back what is already
on the screen returns black with some drivers) and compressed by a thread of its own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rtloop.errors import DisplayError
from rtloop.wire import Scene
from stimuli.scenes import Picture

if TYPE_CHECKING:
    from PIL.Image import Image
    from psychopy.visual import Window

__all__ = ["Capture"]

VALUE_STEP = 20.0
"""Change of the feedback, on its scale of 0..100, that is worth another picture of a scene."""


class Capture:
    """Writes `NN-scene.png` (`NN-scene-VALUE.png`) whenever the scene or much of the value changes.

    Parameters
    ----------
    folder : Path or None
        Where to; made if it is missing. None takes no pictures.
    scenes : tuple of Scene
        Scenes of interest.
    at_most : int
        Largest number of pictures.

    Raises
    ------
    DisplayError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path | None, scenes: tuple[Scene, ...], at_most: int) -> None:
        self._folder, self._scenes, self._at_most = folder, scenes, at_most
        self._first = self._n = 0
        self._last: Picture | None = None
        self._writer: ThreadPoolExecutor | None = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DisplayError(
                f"capture_folder {folder}: expected a writable folder, found: {error.strerror}; "
                "name another"
            ) from error
        # A display that was started again goes on counting.
        self._first = len(list(folder.glob("*.png")))
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="capture")

    def look(self, window: Window, picture: Picture) -> None:
        """Take the picture just drawn if it is worth one; call right before the flip."""
        if self._writer is None or self._folder is None or self._n >= self._at_most:
            return
        if picture.scene not in self._scenes or not self._is_new(picture):
            return
        self._last = picture
        value = "" if picture.value is None else f"-{picture.value:.0f}"
        path = self._folder / f"{self._first + self._n:02d}-{picture.scene}{value}.png"
        self._n += 1
        window.getMovieFrame(buffer="back")
        self._writer.submit(_save, window.movieFrames.pop(), path)

    def close(self) -> None:
        """Wait until all pictures are written."""
        if self._writer is not None:
            self._writer.shutdown(wait=True)

    def _is_new(self, picture: Picture) -> bool:
        last = self._last
        if last is None or (picture.scene, picture.old) != (last.scene, last.old):
            return True
        if picture.value is None or last.value is None:
            return picture.value != last.value
        return abs(picture.value - last.value) >= VALUE_STEP


def _save(image: Image, path: Path) -> None:
    partial = path.with_suffix(".part")
    image.save(partial, format="PNG", compress_level=3)
    partial.replace(path)
