"""Endpoints of fcnef's programs: the acknowledged volume stream, broadcast, reports, keys.

Beyond this machine every endpoint needs CURVE keys on both sides and, where it is bound, an
allow-list; without them it refuses to start. Endpoints are used by one thread each.
"""

from rtloop.link.broadcast import Broadcaster, Listener, Reporter, ReportSink
from rtloop.link.endpoint import Wakeable, is_local
from rtloop.link.keys import Keys, create_keys, load_keys, load_public, public_key
from rtloop.link.protocol import Malformed, PeerBack, PeerLost, SourceRefused
from rtloop.link.sink import SinkState
from rtloop.link.source import SourceState
from rtloop.link.stream import StreamSink, StreamSource

__all__ = [
    "Broadcaster",
    "Keys",
    "Listener",
    "Malformed",
    "PeerBack",
    "PeerLost",
    "ReportSink",
    "Reporter",
    "SinkState",
    "SourceRefused",
    "SourceState",
    "StreamSink",
    "StreamSource",
    "Wakeable",
    "create_keys",
    "is_local",
    "load_keys",
    "load_public",
    "public_key",
]
