"""Is this machine fit for a run? Each check looks at one thing and says what to do about it.

A line is `ok`, `warn` (the loop works, but not as well as it could, or without a screen) or `fail`
(it would not work). Nothing is changed; the disk check writes and removes one file.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from rich.table import Table

from rtloop import __version__
from rtloop.config import Network, Source
from rtloop.fingerprint import fingerprint
from tools import system

__all__ = ["CORE", "EXTRAS", "Line", "as_json", "examine", "fit", "table"]

CORE = (
    "numpy", "numba", "pyzmq", "msgpack", "nibabel", "pydicom", "pynetdicom", "watchfiles",
    "pydantic", "starlette", "uvicorn", "websockets", "cyclopts", "rich",
)  # fmt: skip
DECODER = (
    "nilearn", "scikit-learn", "pandas", "zarr", "h5py", "safetensors", "matplotlib", "jinja2",
)  # fmt: skip
EXTRAS = {
    "stimuli": ("psychopy",),
    "demo": ("psychopy", "nilearn", "matplotlib", "jinja2"),
    "decoder": DECODER,
    "offline": (*DECODER, "networkx", "torch"),
    "prepare": ("antspyx",),
    "scale": ("distributed",),
}
"""What pyproject.toml asks for; a test keeps the two together."""

VOLUME_BYTES = 1_600_000
"""A volume of 104x104x72 voxels of 16 bits, the largest in everyday use."""

N_WRITES = 40
SLOW_WRITE_MS = 100.0
FREE_WARN_BYTES = 10_000_000_000
FREE_FAIL_BYTES = 1_000_000_000
MEMORY_WARN_BYTES = 4_000_000_000
WATCHES_WARN = 8192
INSTANCES_WARN = 64
SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "software")

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Line:
    """One finding: its topic, how bad it is, what was found, what to do (empty if ok)."""

    topic: str
    status: Status
    found: str
    advice: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


Check = tuple[str, Callable[[], list[Line]]]


def examine(flips: int, records: Path) -> Iterator[tuple[str, list[Line]]]:
    """All checks in order: (topic, its lines), each when it is done.

    Parameters
    ----------
    flips : int
        Frames of the display timing.
    records : Path
        Folder in which run records will be written.
    """
    checks: tuple[Check, ...] = (
        ("system", check_system),
        ("packages", check_packages),
        ("fingerprint", check_fingerprint),
        ("display", lambda: check_display(flips)),
        ("disk", lambda: check_disk(records)),
        ("ports", check_ports),
        ("folder watching", check_inotify),
    )
    for topic, check in checks:
        yield topic, check()


def fit(lines: list[Line]) -> bool:
    """Whether no line failed."""
    return all(line.status != "fail" for line in lines)


def table(lines: list[Line]) -> Table:
    """The lines for people."""
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    result = Table(title=f"fcnef {__version__} doctor", title_justify="left", show_lines=False)
    for column in ("", "What", "Found", "What to do"):
        result.add_column(column, overflow="fold")
    for line in lines:
        status = f"[{colours[line.status]}]{line.status}[/]"
        result.add_row(status, _plain(line.topic), _plain(line.found), _plain(line.advice))
    return result


def as_json(lines: list[Line]) -> str:
    """The lines for machines and support mail."""
    content = {"version": __version__, "fit": fit(lines), "lines": [asdict(line) for line in lines]}
    return json.dumps(content, indent=2)


def _plain(text: str) -> str:
    """Text in which rich sees no markup."""
    return text.replace("[", "\\[")


# --- the machine ---------------------------------------------------------------------------------


def check_system() -> list[Line]:
    """Operating system, processor, memory, system libraries."""
    return [
        Line("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}"),
        _cores(),
        _memory(),
        _libraries(),
    ]


def _cores() -> Line:
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    found = f"{_cpu_name()}, {n} usable cores, load {load:.1f}"
    if n < 2:
        advice = "the loop and the display want a core each; run the display on another machine"
        return Line("processor", "warn", found, advice)
    if load > n:
        return Line("processor", "warn", found, "other programs are busy here; stop them for a run")
    return Line("processor", "ok", found)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def _memory() -> Line:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):
        return Line("memory", "ok", "not told by this system")
    found = f"{total / 1e9:.1f} GB"
    if total < MEMORY_WARN_BYTES:
        return Line("memory", "warn", found, "the loop and the display together want 4 GB")
    return Line("memory", "ok", found)


def _libraries() -> Line:
    if not sys.platform.startswith("linux"):
        return Line("system libraries", "ok", "come with PsychoPy on this system")
    names = [name for name in system.missing() if name not in system.TESTS_ONLY.values()]
    if names:
        found = f"missing (Debian names): {' '.join(names)}"
        return Line("system libraries", "warn", found, "install them; the display needs them")
    return Line("system libraries", "ok", "complete")


# --- Python and packages -------------------------------------------------------------------------


def check_packages() -> list[Line]:
    """Python, the core packages, each extra."""
    lines = [_python()]
    missing = [name for name in CORE if _version(name) is None]
    found = _versions(CORE)
    if missing:
        lines.append(Line("core packages", "fail", found, "pip install fcnef"))
    else:
        lines.append(Line("core packages", "ok", found))
    return lines + [_extra(name, packages) for name, packages in EXTRAS.items()]


def _python() -> Line:
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        return Line("Python", "fail", found, "install Python 3.11 or 3.12 (PsychoPy's ceiling)")
    return Line("Python", "ok", found)


def _extra(name: str, packages: tuple[str, ...]) -> Line:
    # An extra that is not there is a choice, not a fault; a missing screen is told by the display.
    missing = any(_version(package) is None for package in packages)
    advice = f"pip install 'fcnef[{name}]' if it is wanted here" if missing else ""
    return Line(f"extra {name}", "ok", _versions(packages), advice)


def _versions(packages: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {_version(name) or 'missing'}" for name in packages)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_fingerprint() -> list[Line]:
    """What replay compares before it promises identical scores."""
    content = fingerprint()
    found = f"{content['digest'][:16]} ({content['cpu']}, {len(content['cpu_features'])} features)"
    return [Line("fingerprint", "ok", found, figures=content)]


# --- screen and keyboard -------------------------------------------------------------------------


def check_display(flips: int) -> list[Line]:
    """A real window, in a process of its own, flipped `flips` times."""
    if find_spec("psychopy") is None:
        advice = "pip install 'fcnef[stimuli]' on the participant's machine"
        return [Line("display", "warn", "PsychoPy is missing", advice)]
    command = [sys.executable, "-m", "stimuli.window", "--flips", str(flips)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60 + flips / 10, check=False
        )
    except subprocess.TimeoutExpired:
        return [Line("display", "warn", "the window did not answer", "update the graphics driver")]
    if done.returncode != 0:
        found = (done.stderr.strip().splitlines() or ["no window"])[-1]
        advice = "needed on the participant's machine only; there: follow what the line says"
        return [Line("display", "warn", found, advice)]
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    return [judge_flips(figures), judge_keyboard(figures["keyboard"])]


def judge_flips(figures: dict[str, Any]) -> Line:
    """Line of the display's timing, from what `stimuli.window` measured."""
    software = any(name in figures["renderer"].lower() for name in SOFTWARE_RENDERERS)
    found = (
        f"{figures['flips']} flips, {figures['pacing']} at {figures['rate_hz']:.1f} Hz: median "
        f"{figures['median_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms, "
        f"{figures['dropped']} dropped; {figures['renderer']}"
        f"{' (software renderer)' if software else ''}"
    )
    if figures["pacing"] != "vertical sync":
        found += f"; no vertical sync: a flip returns after {figures['unpaced_median_ms']:.1f} ms"
        advice = (
            "expected under Xvfb; on a real screen switch on vertical sync in the graphics driver "
            "and switch off the desktop's compositor"
        )
        return Line("display", "warn", found, advice, figures)
    if figures["dropped"] > 0.01 * figures["flips"]:
        advice = "close other programs, use the full screen, update the graphics driver"
        return Line("display", "warn", found, advice, figures)
    return Line("display", "ok", found, figures=figures)


def judge_keyboard(backend: str) -> Line:
    """Line of the keyboard backend PsychoPy has here."""
    if backend == "ptb":
        return Line("keyboard", "ok", "backend ptb: presses timed when the system sees them")
    found = f"backend {backend}: presses timed when they are read, up to a frame late"
    return Line("keyboard", "warn", found, "pip install psychtoolbox, or use serial triggers")


# --- disk, ports, watching -----------------------------------------------------------------------


def check_disk(records: Path) -> list[Line]:
    """Space and speed of the folder for records."""
    folder = next(place for place in (records, *records.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free in {folder} (about {free // VOLUME_BYTES} volumes)"
    status: Status = "ok" if free >= FREE_WARN_BYTES else "warn"
    if free < FREE_FAIL_BYTES:
        status = "fail"
    space = Line("disk space", status, found, "" if status == "ok" else "make room before a run")
    return [space, _disk_speed(folder)]


def _disk_speed(folder: Path) -> Line:
    try:
        times_ms = sorted(_synced_writes_ms(folder, N_WRITES))
    except OSError as error:
        advice = "change its rights or name another with --records"
        return Line("disk speed", "fail", f"{folder} is not writable: {error.strerror}", advice)
    median_ms = statistics.median(times_ms)
    p99_ms = times_ms[round(0.99 * (len(times_ms) - 1))]
    found = (
        f"write and fsync of {VOLUME_BYTES / 1e6:.1f} MB: median {median_ms:.1f} ms, p99 "
        f"{p99_ms:.1f} ms ({len(times_ms)} times)"
    )
    figures = {"median_ms": median_ms, "p99_ms": p99_ms, "n": len(times_ms)}
    if p99_ms > SLOW_WRITE_MS:
        advice = "record on a local solid-state disk, never on a network share"
        return Line("disk speed", "warn", found, advice, figures)
    return Line("disk speed", "ok", found, figures=figures)


def _synced_writes_ms(folder: Path, n: int) -> list[float]:
    content = os.urandom(VOLUME_BYTES)
    times_ms = []
    with tempfile.TemporaryFile(dir=folder, prefix=".fcnef-doctor-", buffering=0) as stream:
        for _ in range(n):
            start_s = time.perf_counter()
            stream.write(content)
            os.fsync(stream.fileno())
            times_ms.append(1000 * (time.perf_counter() - start_s))
    return times_ms


def check_ports() -> list[Line]:
    """Whether the default endpoints can be bound."""
    network = Network()
    endpoints = {
        name: getattr(network, name) for name in ("volumes", "feedback", "telemetry", "reports")
    }
    endpoints["dicom"] = Source().listen
    taken = {name: end for name, end in endpoints.items() if not _is_free(end)}
    numbers = ", ".join(f"{name} {urlsplit(end).port}" for name, end in endpoints.items())
    if not taken:
        return [Line("ports", "ok", f"free: {numbers}")]
    found = "in use: " + ", ".join(f"{name} {urlsplit(end).port}" for name, end in taken.items())
    advice = "end what uses them (a loop that still runs?) or name others under [network]"
    return [Line("ports", "warn", found, advice)]


def _is_free(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    with ExitStack() as undo:
        probe = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((parts.hostname or "127.0.0.1", parts.port or 0))
        except OSError:
            return False
    return True


def check_inotify(folder: Path = Path("/proc/sys/fs/inotify")) -> list[Line]:
    """Limits of the kernel's folder watching."""
    try:
        watches = int((folder / "max_user_watches").read_text())
        instances = int((folder / "max_user_instances").read_text())
    except OSError:
        return [Line("folder watching", "ok", "no inotify here; folders are rescanned as well")]
    found = f"inotify: {watches} watches, {instances} instances"
    if watches < WATCHES_WARN or instances < INSTANCES_WARN:
        advice = (
            "sysctl fs.inotify.max_user_watches=65536 fs.inotify.max_user_instances=512; until "
            "then new files are found by rescans only"
        )
        return [Line("folder watching", "warn", found, advice)]
    return [Line("folder watching", "ok", found)]
