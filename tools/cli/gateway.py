"""`fcnef gateway`: the scanner's side of the volume stream, on its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import ValidationError

from rtloop.errors import ConfigError
from rtloop.gateway import GatewayConfig, main
from rtloop.plan import explain

__all__ = ["gateway"]


def gateway(
    source: Annotated[str, Parameter(name="SOURCE")],
    /,
    *,
    to: str = "tcp://127.0.0.1:5555",
    scanner: Path | None = None,
    keys: Path | None = None,
    spool: Path | None = None,
    secret: Path | None = None,
    allow: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)
    ] = (),
) -> int:
    """Watch an export folder, or accept DICOM C-STORE, and send volumes to the loop.

    Parameters
    ----------
    source
        A folder, or dicom://HOST:PORT.
    to
        Endpoint of the loop's volume stream.
    scanner
        The site's binding (see `configs/scanner.toml`); without it any echo-planar series is taken.
    keys
        This side's key file (`fcnef keys`); required if the loop is on another machine.
    spool
        Folder for received DICOM until the loop has it.
    secret
        File of the key that series are hashed with; made if there is none.
    allow
        Calling AE titles that may store; required if others can reach HOST.

    Example
    -------
    A folder the scanner exports into:
    fcnef gateway /mnt/export --to tcp://127.0.0.1:5555 --scanner scanner.toml

    A scanner that sends DICOM:
    fcnef gateway dicom://192.168.1.20:11112 --allow MRC40123
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
