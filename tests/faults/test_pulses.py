"""Scanner pulses in the loop: a lost one is on record, and changes no score."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import pytest

from rtloop.journal import Record
from rtloop.link import Reporter
from rtloop.wire import Trigger
from tests.faults.quiet import PATIENCE_S, TR_S, Quiet, quick

START_S = 1.7e9


def run(site: Quiet, lost: tuple[int, ...], source: str = "serial") -> list[dict[str, object]]:
    """A whole run with its pulses; the faults about them."""
    volumes = [
        replace(volume, received_s=START_S + volume.index * TR_S + 1.2 * TR_S) for volume in quick()
    ]
    given = [k for k in range(60) if k not in lost]
    with (
        site.loop() as loop,
        site.source() as scanner,
        contextlib.closing(Reporter(site.session.network.reports)) as reporter,
    ):
        for count, k in enumerate(given, 1):
            assert reporter.send(Trigger(count, START_S + k * TR_S, source))
        until = time.monotonic() + PATIENCE_S
        while heard(site) < len(given) and time.monotonic() < until:
            time.sleep(0.02)
        for volume in volumes:
            scanner.send(volume)
        assert scanner.drain(PATIENCE_S)
        loop.end(PATIENCE_S)
    with Record.open(site.record) as record:
        return [row for row in record.rows("fault") if row["kind"] == "triggers"]


def heard(site: Quiet) -> int:
    with Record.open(site.record) as record:
        return len(record.rows("trigger_pulse"))


def test_pulses_in_step_are_no_fault() -> None:
    with Quiet.site() as site:
        assert run(site, lost=()) == []


def test_a_lost_pulse_is_on_record_and_every_volume_used() -> None:
    with Quiet.site() as site:
        (fault,) = run(site, lost=(30,))
        assert "1 pulses lost or not read" in str(fault["reason"])
        assert fault["volume_index"] == 33
        assert len(site.became("used")) == 57
        assert site.outcomes() == ["complete"]


def test_pulses_of_our_own_making_are_not_counted() -> None:
    with Quiet.site() as site:
        assert run(site, lost=(30,), source="emulated") == []


@pytest.mark.parametrize("n_before", [0, 2])
def test_pulses_beforehand_are_the_sites_setting(n_before: int) -> None:
    with Quiet.site() as site:
        (site.folder / "scanner.toml").write_text(f"triggers_before_first_volume = {n_before}\n")
        source = site.session.source.model_copy(update={"scanner": "scanner.toml"})
        site.session = site.session.model_copy(update={"source": source})
        faults = run(site, lost=())
    assert [fault["volume_index"] for fault in faults] == ([] if n_before == 0 else [3])


def test_what_no_step_led_to_is_on_record_too() -> None:
    """The end screen is a message like any other, and no number is given twice."""
    with Quiet.site() as site:
        run(site, lost=())
        with Record.open(site.record) as record:
            rows = record.rows("message")
    assert rows[-1]["scene"] == "end"
    assert rows[-1]["event"] is None
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
