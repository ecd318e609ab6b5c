"""Loops in this process say farewell quickly: there is no display to wait for."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtloop.loop.FAREWELL_S", 0.4)
