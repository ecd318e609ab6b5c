"""The operator's page: what the loop does, live in a browser, and the operator's few buttons.

It hears the engine's broadcast and sends commands; it holds nothing the loop needs, and a slow or
dead page can slow nothing.
"""

from rtloop.console.app import ConsoleConfig, make_app
from rtloop.console.server import serve

__all__ = ["ConsoleConfig", "make_app", "serve"]
