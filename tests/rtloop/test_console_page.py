"""The operator's page in a real browser: what it shows, and when it says that it knows nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rtloop.telemetry import ready_body, step_body
from rtloop.wire import Command
from tests.rtloop.browser import Page, browser
from tests.rtloop.consoles import PATIENCE_S, STEPS, Site, site
from tests.rtloop.simulated import small_plan
from tools.local import free_ports


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    with site() as made:
        yield made


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        page.size(1200, 900)
        yield page


def shows(page: Page, made: Site, count: int) -> None:
    page.open(f"http://{made.page}/")
    page.until(f"course.index.length > 0 && course.index.at(-1) === {STEPS[count - 1].index}")


def test_the_page_shows_the_run(shared: Site, chromium: Page) -> None:
    count = len(STEPS) - 1
    shared.tell_run(count)
    shows(chromium, shared, count)
    last = STEPS[count - 1]
    assert chromium.evaluate("document.title") == "ses · run · fcnef"
    score = f"{last.scores[0].value:.2f}".replace("-", "−")
    error = f"{last.scores[0].standard_error:.2f}"
    assert chromium.text("#score") == f"{score} ± {error}"
    assert last.screen.value is not None
    assert chromium.text("#feedback") == f"{last.screen.value:.0f}"
    assert chromium.text("#latency") == "4.5"
    assert chromium.text("#lost") == "2"
    assert chromium.text("#volume") == "volume 59 of 60: used"
    assert chromium.text("#scene") == "feedback"
    r = f"{last.correlations[0]:.2f}".replace("-", "−")
    assert chromium.text("#edges").split("\n") == ["A – B", r]
    bar = chromium.evaluate("document.querySelector('.bar i').style.width")
    assert float(bar.rstrip("%")) == pytest.approx(50 * abs(last.correlations[0]), abs=1e-3)
    faults = chromium.text("#faults")
    assert "31\tmissing\tnever arrived in time → weight 0, feedback holds" in faults
    # a line for each volume of scanner time, also for those that never came
    assert chromium.evaluate("course.index.length") == 59
    assert chromium.evaluate("course.score[30]") is None
    assert chromium.evaluate("course.scene[30]") == "hold"
    # the standard error's band is what the plot is given
    assert chromium.evaluate("plots.score.data[2][58] - plots.score.data[1][58]") == pytest.approx(
        last.scores[0].standard_error
    )
    assert chromium.evaluate("plots.score.data[1][58] - plots.score.data[3][58]") == pytest.approx(
        last.scores[0].standard_error
    )
    assert chromium.evaluate("document.querySelectorAll('canvas').length") == 3


def test_the_page_follows_live(shared: Site, chromium: Page) -> None:
    shared.tell_run(20)
    shows(chromium, shared, 20)
    assert "No score yet" in chromium.text("#banners") or STEPS[19].warming_up == ""
    warm = next(step for step in STEPS[:20] if step.warming_up)
    shared.tell("attempt", {"name": "again"})
    shared.tell("step", step_body(warm, None, False))
    chromium.until(f"document.querySelector('#banners').innerText.includes({warm.warming_up!r})")
    held = replace(STEPS[-1], screen=replace(STEPS[-1].screen, scene="hold"), missing=(7,))
    shared.tell("step", step_body(held, None, False))
    chromium.until("document.querySelector('#scene').innerText === 'hold'")
    banner = "Feedback is held: never arrived in time."
    chromium.until(f"document.querySelector('#banners').innerText.includes('{banner}')")
    alarmed = replace(STEPS[-1], watch=replace(STEPS[-1].watch, alarms=("fd",)))
    shared.tell("step", step_body(alarmed, None, False))
    chromium.until("document.querySelector('#banners').innerText === 'The score follows fd.'")
    shared.tell("attempt closed", {"name": "one", "outcome": "complete"})
    chromium.until("document.querySelector('#link').innerText === 'complete'")
    assert not chromium.evaluate("document.querySelector('main').classList.contains('stale')")


def test_a_late_volume_does_not_disturb_the_course(shared: Site, chromium: Page) -> None:
    shared.tell_run(40)
    late = replace(STEPS[39], index=30, status="late", reasons=("volume 41 was processed before",))
    shared.tell("step", step_body(late, None, False))
    shared.tell("step", step_body(STEPS[40], None, False))
    shows(chromium, shared, 41)
    indices = chromium.evaluate("course.index")
    assert indices == list(range(STEPS[40].index + 1))
    assert "30\tlate\tvolume 41 was processed before → recorded, not used" in chromium.text(
        "#faults"
    )


def test_a_blinded_run_shows_no_score(shared: Site, chromium: Page) -> None:
    count = len(STEPS) - 1
    shared.tell_run(count, blinded=True)
    shows(chromium, shared, count)
    visible = chromium.text("body")
    assert "Blinded run" in visible
    assert "raw score ±" not in visible
    assert "Correlation" not in visible
    assert chromium.evaluate("course.score.every((value) => value === null)")
    value = STEPS[count - 1].screen.value
    assert value is not None
    assert chromium.text("#feedback") == f"{value:.0f}"


def test_buttons_reach_the_engine(shared: Site, chromium: Page) -> None:
    shared.tell_run(5)
    shows(chromium, shared, 5)
    for name, answer in (("pause", None), ("resume", None), ("note", "moved"), ("stop", "")):
        chromium.click(f"#{name}", answer)
        command = shared.reports.receive(PATIENCE_S)
        assert isinstance(command, Command)
        assert (command.action, command.text) == (name, "moved" if name == "note" else "")
    assert "Stop the run?" in chromium.dialogs[-1]


def test_silence_greys_the_page_and_says_how_long(chromium: Page) -> None:
    stale = "document.querySelector('main').classList.contains('stale')"
    with site() as made:
        assert made.process is not None
        made.tell_run(30)
        shows(chromium, made, 30)
        assert not chromium.evaluate(stale)
        # the loop still speaks, but no volume comes: TR 1 s
        give_up = time.monotonic() + PATIENCE_S
        while not chromium.evaluate(stale) and time.monotonic() < give_up:
            made.tell("ready", ready_body(small_plan()))
            time.sleep(0.1)
        assert chromium.text("#banners").startswith("No volume for ")
        assert chromium.text("#link") == "stale"
        # a volume comes, and all is well
        made.tell("step", step_body(STEPS[30], None, False))
        chromium.until(f"!{stale}")
        # the console dies
        made.process.send_signal(signal.SIGKILL)
        chromium.until("document.querySelector('#link').innerText === 'no link'")
        words = chromium.text("#banners")
        assert words.startswith("No link to the console. The last volume came ")
        assert chromium.evaluate("document.querySelector('#stop').disabled")
        assert chromium.evaluate(stale)


def test_the_page_reconnects(chromium: Page) -> None:
    page = f"127.0.0.1:{free_ports(1)[0]}"
    with site(page=page) as made:
        made.tell_run(30)
        shows(chromium, made, 30)
    chromium.until("document.querySelector('#link').innerText === 'no link'")
    with site(page=page) as made:
        made.tell_run(10)
        chromium.until(f"linked && course.index.at(-1) === {STEPS[9].index}")
        assert chromium.text("#link") == "live"
