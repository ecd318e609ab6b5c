"""The `fcnef` command: one file per subcommand, loaded when it is called.

A user's mistake, and a disk that is full or may not be written, end in one line on standard error
and exit status 2, never in a traceback.
"""

from __future__ import annotations

import ast
import difflib
import errno
import importlib.metadata
import inspect
import os
import re
import select
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import cyclopts

from rtloop import __version__
from rtloop.errors import FcnefError

__all__ = ["COMMANDS", "main", "run"]

COMMANDS = (
    "demo",
    "doctor",
    "keys",
    "read",
    "gateway",
    "scan",
    "run",
    "replay",
    "bench",
    "plan",
    "cohort",
    "harmonize",
    "decode",
    "task",
    "twin",
)
DISK = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""What a disk or its owner refuses."""
THERE_OR_NOT = frozenset({errno.EBUSY, errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY})
"""What may be a fault of fcnef's own too: the user's only where a file of theirs is named."""
PACKAGES = ("rtloop", "offline", "stimuli", "tools")
BROUGHT_BY = {
    "ants": "antspyx",
    "dask": "distributed",
    "scipy": "scikit-learn",
    "sklearn": "scikit-learn",
    "threadpoolctl": "scikit-learn",
}
"""Packages by the names they are imported by, and what has to be installed for them."""
HELP_FLAGS = frozenset({"--help", "-h"})


def main() -> None:
    """Entry point of the console command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit status is returned."""
    try:
        return _call(list(arguments))
    except cyclopts.CycloptsError as error:
        return _refuse(f"{str(error).rstrip('.')}; see `fcnef {arguments[0]} --help`")
    except FcnefError as error:
        return _refuse(str(error))
    except ImportError as error:
        package = _missing_package(error)
        if package is None:
            raise
        return _refuse(
            f"expected the package {package}, found none; install fcnef[{_extra_of(package)}]"
        )
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return 1
        if not _is_the_disks(error):
            raise
        where = error.filename or "the files of this command"
        return _refuse(
            f"expected to read and write {where}, found {error.strerror}; check the path, whose it"
            " is and how much space is left"
        )
    except KeyboardInterrupt:
        print("fcnef: interrupted", file=sys.stderr)
        return 130


def _call(arguments: list[str]) -> int:
    overview = not arguments or arguments[0] in HELP_FLAGS
    if not overview and arguments[0] not in (*COMMANDS, "--version"):
        close = difflib.get_close_matches(arguments[0], COMMANDS, 1)
        advice = f"did you mean {close[0]}?" if close else "see `fcnef --help`"
        return _refuse(f"expected a command, found {arguments[0]!r}; {advice}")
    app = _make_app(overview)
    if HELP_FLAGS.intersection(arguments) and not overview:
        _add_example(app, arguments)
    result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return result if isinstance(result, int) else 0


def _refuse(text: str) -> int:
    """Say in one line what is wrong; the exit status of a user's mistake."""
    print("fcnef:", " ".join(text.split()), file=sys.stderr)
    return 2


def _reader_left() -> bool:
    """Whether nobody reads standard output any more (`| head`), which is then thrown away."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(1, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


def _missing_package(error: ImportError) -> str | None:
    """Name of the package of an extra that is not installed; None for a fault of fcnef's own."""
    cause = error.__cause__ if error.__cause__ is not None else error
    name = (cause.name or "") if isinstance(cause, ModuleNotFoundError) else ""
    package = name.partition(".")[0]
    return None if package in ("", *PACKAGES) else package


def _extra_of(package: str) -> str:
    """The smallest extra that brings a package; `all` where that cannot be told."""
    try:
        lines = importlib.metadata.requires("fcnef") or []
    except importlib.metadata.PackageNotFoundError:
        return "all"
    found = [re.match(r"([\w.-]+).*\bextra == ['\"]([\w.-]+)['\"]", line) for line in lines]
    pairs = [(_plain(match[1]), match[2]) for match in found if match]
    extras = [extra for _, extra in pairs]
    wanted = _plain(BROUGHT_BY.get(package, package))
    holding = sorted({extra for name, extra in pairs if name == wanted}, key=extras.count)
    return holding[0] if holding else "all"


def _plain(name: str) -> str:
    """A distribution's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_the_disks(error: OSError) -> bool:
    """Whether a disk or its owner refused a user's file; else it is a fault of fcnef's own."""
    if error.errno not in THERE_OR_NOT:
        return error.errno in DISK
    if not isinstance(error.filename, str):
        return False
    here = Path(__file__).resolve().parents[2]
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    own = [*(here / name for name in PACKAGES), *installed]
    path = Path(os.path.realpath(error.filename))
    return not any(path.is_relative_to(folder) for folder in own)


def _make_app(overview: bool) -> cyclopts.App:
    """All commands by name; for the overview also their summaries, which need no import."""
    app = cyclopts.App(
        name="fcnef",
        version=__version__,
        help="Functional-connectivity neurofeedback: scanner volumes to feedback, recorded.",
    )
    for name in COMMANDS:
        summary = _summary(name) if overview else None
        app.command(f"tools.cli.{name}:{name}", name=name, help=summary)
    return app


def _summary(name: str) -> str:
    """What follows the command's name in the first line of its file."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    first_line = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    summary = first_line.partition(": ")[2]
    return summary[:1].upper() + summary[1:]


def _add_example(app: cyclopts.App, arguments: Sequence[str]) -> None:
    """Show the Example section of the command's docstring, which cyclopts leaves out."""
    words = [word for word in arguments if word not in HELP_FLAGS]
    command = app.parse_commands(words)[1][-1]
    text = inspect.getdoc(command.default_command) or ""
    example = text.partition("Example\n-------\n")[2].partition("\n\nParameters\n---")[0]
    if example:
        command.help_epilogue = f"Example:\n\n```text\n{example}\n```"
