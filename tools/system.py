"""System packages that fcnef's display and tests need: installed where that is possible, named
where it is not. Standard library only, since it runs before anything is installed.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
import sys

PROGRAMS = {"Xvfb": "xvfb", "xauth": "xauth"}
LIBRARIES = {
    "GL": "libgl1",
    "GLU": "libglu1-mesa",
    "EGL": "libegl1",
    "usb-1.0": "libusb-1.0-0",
    "portaudio": "libportaudio2",
    "asound": "libasound2",
    "glib-2.0": "libglib2.0-0",
    "xkbcommon": "libxkbcommon0",
    "fontconfig": "libfontconfig1",
}
MODULES = {"ensurepip": f"python{sys.version_info.major}.{sys.version_info.minor}-venv"}
DRIVERS = {"libgl1-mesa-dri": ("/usr/lib/x86_64-linux-gnu/dri", "/usr/lib/aarch64-linux-gnu/dri")}
TESTS_ONLY = {"storescu": "dcmtk", "chromium": "chromium"}


def missing() -> list[str]:
    """Debian names of what is not there."""
    names = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    names += [p for name, p in LIBRARIES.items() if ctypes.util.find_library(name) is None]
    names += [p for name, p in MODULES.items() if importlib.util.find_spec(name) is None]
    names += [p for p, places in DRIVERS.items() if not any(map(os.path.isdir, places))]
    names += [p for name, p in TESTS_ONLY.items() if shutil.which(name) is None]
    return names


def install(names: list[str]) -> None:
    """Install with apt; the names that newer releases changed (`…t64`) are tried as well."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    for name in names:
        for candidate in (name, f"{name}t64"):
            done = subprocess.run(
                [*command, candidate], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                break


def main() -> int:
    names = missing()
    if names and shutil.which("apt-get") and os.geteuid() == 0:
        print("fcnef: installing system packages:", " ".join(names))
        install(names)
        names = missing()
    if names:
        print(
            "fcnef: missing system packages (Debian names):",
            " ".join(names),
            "- install them; what needs them will say so or be skipped",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
