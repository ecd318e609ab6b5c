"""`python -m rtloop.console CONFIG`: the page as a child process of the supervisor."""

from __future__ import annotations

import sys

from rtloop.console import ConsoleConfig, serve
from rtloop.errors import FcnefError

if __name__ == "__main__":
    try:
        serve(ConsoleConfig.read(sys.argv[1]))
    except FcnefError as error:
        print(f"fcnef: {error}", file=sys.stderr)
        sys.exit(2)
