"""What a gateway is told: where scans come in, where volumes go, and how long it waits for what."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from rtloop.errors import ConfigError, KeyFileError
from rtloop.plan import explain

__all__ = ["Address", "GatewayConfig", "read_secret"]

SECRET_BYTES = 32
_LISTEN = re.compile(r"dicom://(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/\[\]]+):(?P<port>\d{1,5})/?")

AeTitle = Annotated[str, Field(pattern=r"^[\x21-\x5b\x5d-\x7e][\x20-\x5b\x5d-\x7e]{0,15}$")]


class Address(BaseModel):
    """Host and port of a DICOM entrance."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class GatewayConfig(BaseModel):
    """Settings of one gateway: exactly one of `watch` and `listen` is given.

    Attributes
    ----------
    watch : str or None
        Folder the scanner exports into.
    listen : str or None
        DICOM entrance, `dicom://HOST:PORT`.
    engine : str
        Endpoint of the engine's volume stream.
    scanner : str or None
        Path of `scanner.toml`; None takes any echo-planar series.
    spool : str or None
        Folder (mode 0700) for received DICOM objects until the engine has them; needed by
        `listen`.
    secret : str
        File of the key that attempts are hashed with; made, readable by its owner alone, if
        there is none.
    keys : str or None
        Own key file (`fcnef keys`); required if the engine is beyond loopback.
    source : str
        Name of this gateway in the stream.
    rescan_s : float
        Time between two looks at the watched folder, seconds.
    gap_wait_s : float or None
        How long a volume is held for its predecessors, seconds; None for half a TR.
    unfinished_wait_s : float
        How long an incomplete file or slice set may make no progress, seconds.
    ae_title : str
        Own application entity title of the DICOM entrance.
    allowed_callers : tuple of str
        Calling AE titles that may store; required if `listen` is beyond loopback.
    elsewhere : tuple of str
        Attempts that other runs have recorded: nothing of theirs is sent, old files or new.
    parent_pid : int or None
        The process with whose end the gateway ends; None for whoever started it, 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    watch: str | None = None
    listen: str | None = None
    engine: Annotated[str, Field(pattern=r"^(tcp|ipc)://.+")] = "tcp://127.0.0.1:5555"
    scanner: str | None = None
    spool: str | None = None
    secret: str
    keys: str | None = None
    source: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,60}$")] = "gateway"
    rescan_s: PositiveFloat = 0.25
    gap_wait_s: NonNegativeFloat | None = None
    unfinished_wait_s: PositiveFloat = 10.0
    ae_title: AeTitle = "FCNEF"
    allowed_callers: tuple[AeTitle, ...] = ()
    elsewhere: tuple[str, ...] = ()
    parent_pid: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_entrance(self) -> Self:
        if (self.watch is None) == (self.listen is None):
            found = "none" if self.watch is None else "both"
            raise ValueError(f"expected either watch or listen, found {found}; give one of them")
        if self.listen is not None:
            self._check_listen(self.listen)
        return self

    def _check_listen(self, listen: str) -> None:
        if not _LISTEN.fullmatch(listen) or not 0 < self.address.port < 65536:
            raise ValueError(
                f"listen: expected dicom://HOST:PORT such as dicom://127.0.0.1:11112, "
                f"found {listen!r}; correct it"
            )
        if self.spool is None:
            raise ValueError("spool: expected a folder for received DICOM, found none; name one")
        if not self.address.loopback and not self.allowed_callers:
            raise ValueError(
                f"allowed_callers: expected the scanner's AE title, because {self.address.host} is "
                "reachable from other machines, found none; name who may store"
            )

    @property
    def address(self) -> Address:
        """Host and port of `listen`."""
        match = _LISTEN.fullmatch(self.listen or "")
        if match is None:
            raise ConfigError(f"listen: expected dicom://HOST:PORT, found {self.listen!r}")
        return Address(host=match["host"].strip("[]"), port=int(match["port"]))

    @classmethod
    def load(cls, path: Path | str) -> GatewayConfig:
        """Read a JSON file.

        Raises
        ------
        ConfigError
            If the file cannot be read or an entry is wrong (all are named at once).
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: expected a readable file, found {error.strerror}") from None
        except ValidationError as error:
            raise ConfigError(f"gateway {path}: {explain(error)}") from error


def read_secret(path: Path) -> bytes:
    """The key that attempts are hashed with; made at first use, mode 0600.

    Raises
    ------
    KeyFileError
        If the file cannot be made or read, is no key, or can be read by others.
    """
    try:
        _make_secret(path)
        open_to_others = path.stat().st_mode & 0o077
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise KeyFileError(f"secret {path}: expected a key file, found {error.strerror}") from error
    if open_to_others:
        raise KeyFileError(
            f"secret {path}: expected mode 0600, found it open to others; run chmod 600 on it"
        )
    if not re.fullmatch(rf"[0-9a-f]{{{2 * SECRET_BYTES}}}", text):
        raise KeyFileError(
            f"secret {path}: expected {2 * SECRET_BYTES} hexadecimal digits, found something "
            "else; remove the file to have a new key made"
        )
    return bytes.fromhex(text)


def _make_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as stream:
        stream.write(secrets.token_hex(SECRET_BYTES) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
