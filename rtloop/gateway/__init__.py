"""The scanner's side of the volume stream: watches an export folder or accepts DICOM C-STORE.

`watch` and `tree` name files, `tries` decides when one is read, `intake` reads it, `series` says
what it means, `order` when it leaves; `storage` and `spool` are the DICOM entrance. What leaves
is complete volumes, in index order, each once, and notes; nothing else of the files.
"""

from rtloop.gateway.config import GatewayConfig
from rtloop.gateway.gateway import Gateway, main

__all__ = ["Gateway", "GatewayConfig", "main"]
