"""The `fcnef` command: one file per subcommand, loaded when it is called.

A user's mistake ends in one line on standard error and exit status 2, never in a traceback.
"""

from __future__ import annotations

import sys

import cyclopts

from rtloop import __version__
from rtloop.errors import FcnefError

__all__ = ["app", "main"]

app = cyclopts.App(
    name="fcnef",
    version=__version__,
    help="Functional-connectivity neurofeedback: scanner volumes to feedback, recorded.",
)
for name in ("demo", "doctor", "keys", "read", "gateway", "scan", "run", "replay", "bench"):
    app.command(f"tools.cli.{name}:{name}", name=name)
app.command("tools.cli.plan:plan", name="plan")


def main() -> None:
    """Entry point of the console command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; the exit status is returned."""
    try:
        result = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except cyclopts.CycloptsError as error:
        print(f"fcnef: {_one_line(str(error))}; see `fcnef --help`", file=sys.stderr)
        return 2
    except FcnefError as error:
        print(f"fcnef: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fcnef: interrupted", file=sys.stderr)
        return 130
    return result if isinstance(result, int) else 0


def _one_line(text: str) -> str:
    return " ".join(text.split())
