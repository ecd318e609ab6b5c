"""`python -m tools.cli` is the `fcnef` command, for children of fcnef's own programs."""

from tools.cli import main

main()
