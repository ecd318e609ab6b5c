"""One virtual screen per test session, and a process that draws pictures on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.stimuli.xserver import XServer


@pytest.fixture(scope="session")
def xserver() -> Iterator[XServer]:
    """A virtual X server; the test is skipped, saying why, where there can be none."""
    server = XServer()
    try:
        yield server
    finally:
        server.close()


Draw = Callable[..., NDArray[np.int16]]


@pytest.fixture(scope="module")
def draw(xserver: XServer) -> Iterator[Draw]:
    """`draw(scene, value, text, old, **look)` -> the screen's pixels, (768, 1024, 3)."""
    with _studio(xserver) as studio:

        def draw(
            scene: str,
            value: float | None = None,
            text: str = "",
            old: bool = False,
            **look: Any,
        ) -> NDArray[np.int16]:
            picture = {"scene": scene, "value": value, "text": text, "old": old}
            assert studio.stdin is not None
            studio.stdin.write(json.dumps({"look": look, "picture": picture}) + "\n")
            studio.stdin.flush()
            assert studio.stdout is not None
            assert studio.stdout.readline() == "drawn\n"
            return xserver.screenshot().astype(np.int16)

        yield draw


def _studio(xserver: XServer) -> subprocess.Popen[str]:
    size = json.dumps([xserver.width, xserver.height])
    studio = subprocess.Popen(
        [sys.executable, "-m", "tests.stimuli.studio", size],
        env=xserver.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert studio.stdout is not None
    assert studio.stdout.readline() == "open\n"
    return studio
