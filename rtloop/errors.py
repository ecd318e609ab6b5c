"""Every error a user can cause, in one place.

Each also inherits the natural builtin, and each message says what was expected, what was
found and what to do, in one line. Command-line programs print that line and exit with 2.
"""

__all__ = [
    "ConfigError",
    "DisplayError",
    "FcnefError",
    "KeyFileError",
    "LinkError",
    "PlanError",
    "ReaderError",
    "RecordError",
    "RoiError",
    "TriggerError",
    "WireError",
]


class FcnefError(Exception):
    """Base of all errors with a message meant for the user."""


class ConfigError(FcnefError, ValueError):
    """Raised when a configuration file holds a wrong, missing or contradictory entry."""


class PlanError(FcnefError, ValueError):
    """Raised when a plan cannot be loaded or does not fit the run it is used for."""


class RoiError(FcnefError, ValueError):
    """Raised when ROI labels or spheres do not fit the volumes they should be measured in."""


class ReaderError(FcnefError, ValueError):
    """Raised when a scanner file is truncated, unreadable, or not part of the run."""


class WireError(FcnefError, ValueError):
    """Raised when a message is malformed, oversized, of another version, or fails its checksum."""


class LinkError(FcnefError, OSError):
    """Raised when an endpoint cannot be bound, reached or trusted."""


class KeyFileError(LinkError):
    """Raised when a CURVE key file is missing, readable by others, or not a key."""


class RecordError(FcnefError, OSError):
    """Raised when a run record cannot be created, written or read."""


class DisplayError(FcnefError, OSError):
    """Raised when no window can be opened for the participant."""


class TriggerError(FcnefError, OSError):
    """Raised when a trigger input cannot be opened or stays silent."""
