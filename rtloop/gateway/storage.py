"""The DICOM entrance: takes C-STORE, answers success only for what is safe in the spool.

Uncompressed MR images are accepted, classic and enhanced, and C-ECHO for the scanner's setup
page. DICOM's own transport has neither encryption nor authentication: beyond loopback a list of
calling AE titles is required, and it keeps out mistakes, not attackers.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    Verification,
)

from rtloop.errors import LinkError
from rtloop.gateway.config import Address
from rtloop.gateway.spool import Spool

__all__ = ["OUT_OF_RESOURCES", "SUCCESS", "StorageService"]

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
STORED = (
    MRImageStorage,
    EnhancedMRImageStorage,
    EnhancedMRColorImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
)
IDLE_S = 600.0
"""A scanner may keep its association open between two runs."""
TRANSFER_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class StorageService:
    """A C-STORE service in threads of its own.

    Parameters
    ----------
    address : Address
        Where to listen.
    spool : Spool
        Where objects go.
    ae_title : str
        Own title.
    callers : tuple of str
        Calling titles that may store; empty for anybody.
    failed : callable
        Called, in a thread of the service, with the reason whenever an object was not taken.
    """

    def __init__(
        self,
        address: Address,
        spool: Spool,
        ae_title: str,
        callers: tuple[str, ...],
        failed: Callable[[str], None],
    ) -> None:
        # Its log would carry what the headers say of the person.
        _config.LOG_HANDLER_LEVEL = "none"
        self._address = address
        self._spool = spool
        self._failed = failed
        self._entity = AE(ae_title=ae_title)
        for stored in STORED:
            self._entity.add_supported_context(stored, TRANSFER_SYNTAXES)
        self._entity.add_supported_context(Verification)
        self._entity.require_calling_aet = list(callers)
        self._entity.network_timeout = IDLE_S
        # Unlimited protocol units: a volume comes in one piece.
        self._entity.maximum_pdu_size = 0

    def start(self) -> None:
        """Listen.

        Raises
        ------
        LinkError
            If the address cannot be had.
        """
        host, port = self._address.host, self._address.port
        try:
            self._entity.start_server(
                (host, port),
                block=False,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, _answer_at_once),
                    (evt.EVT_PDU_SENT, _acknowledge_at_once),
                    (evt.EVT_C_STORE, self._store),
                ],
            )
        except OSError as error:
            raise LinkError(
                f"dicom://{host}:{port}: expected a free address, found {error.strerror}; "
                "choose another port or end the program that holds it"
            ) from error

    def close(self) -> None:
        """End the open associations and stop listening."""
        self._entity.shutdown()

    def _store(self, event: evt.Event) -> int:
        try:
            self._spool.put(event.encoded_dataset())
        except OSError as error:
            self._failed(f"a DICOM object was not taken: {error.strerror}")
            return OUT_OF_RESOURCES
        return SUCCESS


def _answer_at_once(event: evt.Event) -> None:
    """Nagle's algorithm would hold our answers back until the scanner's delayed ACK, 40 ms."""
    _set(event, socket.TCP_NODELAY)
    _acknowledge_at_once(event)


def _acknowledge_at_once(event: evt.Event) -> None:
    """A scanner's own Nagle holds its next object back until our delayed ACK, 40 ms.

    Linux falls back to delayed ones after each answer, so that the option is set after each.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        _set(event, socket.TCP_QUICKACK)


def _set(event: evt.Event, option: int) -> None:
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        with contextlib.suppress(OSError):
            connection.socket.setsockopt(socket.IPPROTO_TCP, option, 1)
