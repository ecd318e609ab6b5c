"""`fcnef gateway`: the scanner's side of the volume stream, on its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import cyclopts
from pydantic import ValidationError

from rtloop.errors import ConfigError
from rtloop.gateway import GatewayConfig, main
from rtloop.plan import explain

__all__ = ["gateway"]


def gateway(
    source: Annotated[str, cyclopts.Parameter(name="SOURCE")],
    /,
    *,
    to: str = "tcp://127.0.0.1:5555",
    scanner: Path | None = None,
    keys: Path | None = None,
    spool: Path | None = None,
    secret: Path | None = None,
    allow: tuple[str, ...] = (),
) -> int:
    """Watch an export folder, or accept DICOM C-STORE, and send volumes to the loop.

    Example
    -------
    fcnef gateway /mnt/export --to tcp://127.0.0.1:5555 --scanner scanner.toml
    fcnef gateway dicom://127.0.0.1:11112 --to tcp://127.0.0.1:5555

    Parameters
    ----------
    source
        A folder, or dicom://HOST:PORT.
    to
        Endpoint of the loop's volume stream.
    scanner
        The site's binding; without it the first functional series is taken.
    keys
        This side's key file (`fcnef keys`); required if the loop is on another machine.
    spool
        Folder for received DICOM until the loop has it.
    secret
        File of the key that series are hashed with; made if there is none.
    allow
        Calling AE titles that may store; required if others can reach HOST.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "fcnef"
    entrance = "listen" if source.startswith("dicom://") else "watch"
    try:
        config = GatewayConfig.model_validate(
            {
                entrance: source,
                "engine": to,
                "scanner": scanner and str(scanner),
                "keys": keys and str(keys),
                "spool": str(spool or state / "spool"),
                "secret": str(secret or state / "secret"),
                "allowed_callers": allow,
                "parent_pid": 0,
            }
        )
    except ValidationError as error:
        raise ConfigError(f"gateway: {explain(error)}") from error
    return main(config)
