"""`fcnef keys`: a CURVE key pair for one program's side of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rtloop.errors import KeyFileError
from rtloop.link import create_keys, public_key

__all__ = ["keys"]


def keys(
    name: str,
    /,
    *,
    folder: Annotated[Path, Parameter(name="--dir")] = Path(),
    engine: Path | None = None,
) -> int:
    """Make a key pair: NAME.key, secret, and NAME.pub, for the other side.

    Programs on different machines talk only with keys. Programs on one machine may share the
    engine's key file. Existing files are never overwritten.

    Example
    -------
    On the engine's machine: fcnef keys engine --dir ~/fcnef-keys

    On another machine, engine.pub copied there: fcnef keys gateway --engine engine.pub

    Then name gateway.pub (or the key in it) under `allow` in the session's [network] section.

    Parameters
    ----------
    name
        What the files are called: letters, digits, - and _.
    folder
        Where to write them; made if it does not exist.
    engine
        The engine's .pub file, for a program that connects to an engine on another machine.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise KeyFileError(
            f"{folder}: expected a folder to write keys in, found: {error.strerror}; name another"
        ) from error
    secret, public = create_keys(name, folder, engine)
    print(f"{secret}: secret, stays on this machine")
    print(f"{public}: give it to the other side ({public_key(public).decode()})")
    return 0
