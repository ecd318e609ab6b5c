"""`python -m rtloop.gateway CONFIG.json`: a gateway as a child process of the supervisor."""

from __future__ import annotations

import sys

from rtloop.errors import FcnefError
from rtloop.gateway import GatewayConfig, main

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m rtloop.gateway CONFIG.json")
    try:
        sys.exit(main(GatewayConfig.load(sys.argv[1])))
    except FcnefError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
