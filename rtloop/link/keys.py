"""CURVE key pairs in files. Who holds a secret key is whom its public key names.

A pair is two small TOML files: NAME.key with both keys, readable by its owner alone, and NAME.pub
with the public key, to be carried to the other side. Keys are 40 characters of Z85 (ZeroMQ RFC 32).
"""

from __future__ import annotations

import os
import re
import stat
import struct
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from rtloop.errors import KeyFileError

__all__ = ["Keys", "create_keys", "load_keys", "load_public", "public_key"]

KEY_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Keys:
    """A CURVE key pair in Z85, 40 characters each.

    `engine` is the public key of the engine that the holder connects to; None for the engine
    itself, and for programs on its machine that use its own file.
    """

    public: bytes
    secret: bytes = field(repr=False)
    engine: bytes | None = None


def create_keys(
    name: str, folder: Path | str, engine: bytes | str | Path | None = None
) -> tuple[Path, Path]:
    """Make a new key pair and write it to NAME.key (mode 0600) and NAME.pub.

    Parameters
    ----------
    name : str
        Letters, digits, - and _, at most 64.
    folder : Path or str
        An existing folder.
    engine : bytes, str, Path or None
        Public key (or .pub file) of the engine that the holder will connect to; None for the
        engine's own pair.

    Returns
    -------
    tuple of (Path, Path)
        The secret file and the public one.

    Raises
    ------
    KeyFileError
        If the name is no plain name, or one of the files exists or cannot be written.
    """
    if not NAME.fullmatch(name):
        raise KeyFileError(
            f"keys {name!r}: expected letters, digits, - and _ (at most 64); choose another name"
        )
    secret_path, public_path = Path(folder) / f"{name}.key", Path(folder) / f"{name}.pub"
    if public_path.exists():
        raise KeyFileError(f"{public_path}: expected no such file, found one; nothing was changed")
    public, secret = zmq.curve_keypair()
    pair = {"public": public, "secret": secret}
    if engine is not None:
        pair["engine"] = public_key(engine)
    about = "fcnef CURVE key pair. SECRET: stays on this machine, readable by its owner alone."
    _write(secret_path, about, pair, mode=0o600)
    about = "fcnef CURVE public key: give it to the other side, by a way you trust."
    _write(public_path, about, {"public": public}, mode=0o644)
    return secret_path, public_path


def load_keys(path: Path | str) -> Keys:
    """Read a key pair.

    Raises
    ------
    KeyFileError
        If the file is missing, readable by others than its owner, or holds no key pair.
    """
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            body = file.read()
    except OSError as error:
        raise _unreadable(path, error) from error
    if mode & 0o077:
        raise KeyFileError(
            f"{path}: expected a file for its owner alone, found mode {mode:04o}; "
            "chmod 600 it, and make new keys if others saw it"
        )
    entries = _entries(path, body)
    public, secret = _key(path, entries, "public"), _key(path, entries, "secret")
    if zmq.curve_public(secret) != public:
        raise KeyFileError(f"{path}: its public and secret key are no pair; make new keys")
    engine = _key(path, entries, "engine") if "engine" in entries else None
    return Keys(public, secret, engine)


def load_public(path: Path | str) -> bytes:
    """Read a public key, Z85, from NAME.pub.

    Raises
    ------
    KeyFileError
        If the file is missing or holds no public key.
    """
    try:
        body = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _key(path, _entries(path, body), "public")


def public_key(entry: bytes | str | Path) -> bytes:
    """A public key, Z85, given as such or as the path of a .pub file.

    Raises
    ------
    KeyFileError
        If it is neither.
    """
    if isinstance(entry, Path):
        return load_public(entry)
    text = entry.decode("ascii", "replace") if isinstance(entry, bytes) else entry
    return text.encode() if _is_key(text) else load_public(text)


def _write(path: Path, about: str, keys: dict[str, bytes], mode: int) -> None:
    try:
        # Created with its mode: a secret is never readable by others, not even for a moment.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise KeyFileError(
            f"{path}: expected no such file, found one; nothing was changed"
        ) from error
    except OSError as error:
        raise KeyFileError(
            f"{path}: expected a place to write keys, found: {error.strerror}; name another folder"
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        # Z85 has no quote and no backslash, so that a literal string holds any key.
        lines = [f"{name} = '{key.decode()}'\n" for name, key in keys.items()]
        file.write(f"# {about}\n{''.join(lines)}")


def _entries(path: Path | str, body: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(body.decode("ascii"))
    except ValueError:
        raise KeyFileError(
            f"{path}: expected a key file of `fcnef keys`, found something else; name the right one"
        ) from None


def _key(path: Path | str, entries: dict[str, Any], which: str) -> bytes:
    value = entries.get(which)
    if not isinstance(value, str) or not _is_key(value):
        raise KeyFileError(
            f"{path}: expected a {which} key of 40 characters, found none; "
            f"name a {'.key' if which == 'secret' else '.key or .pub'} file of `fcnef keys`"
        )
    return value.encode()


def _is_key(text: str) -> bool:
    try:
        return len(text) == 40 and len(z85.decode(text)) == KEY_BYTES
    except (KeyError, ValueError, struct.error):
        return False


def _unreadable(path: Path | str, error: OSError) -> KeyFileError:
    return KeyFileError(f"{path}: expected a key file, found: {error.strerror}; see `fcnef keys`")
