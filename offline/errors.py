"""Every error a user of the offline side can cause, in one place.

Each also inherits the natural builtin, and each message says what was expected, what was
found and what to do, in one line.
"""

from rtloop.errors import FcnefError

__all__ = [
    "AtlasError",
    "CohortError",
    "DecodeError",
    "DesignError",
    "ExecutorError",
    "HarmonizeError",
    "LeakageError",
    "ScaleError",
    "TaskError",
    "TwinError",
    "UnseenSiteError",
]


class CohortError(FcnefError, ValueError):
    """Raised when participants, series or connectivity matrices are missing or contradictory."""


class ScaleError(CohortError):
    """Raised when numbers are not what they are said to be: r, or Fisher z, or neither."""


class AtlasError(FcnefError, ValueError):
    """Raised when arrays of different atlases, or of another order of ROIs, are to be mixed."""


class HarmonizeError(FcnefError, ValueError):
    """Raised when harmonization is not defined for the data given."""


class DesignError(HarmonizeError):
    """Raised when a design does not determine what shall be estimated from it."""


class UnseenSiteError(HarmonizeError):
    """Raised when scans come from a site that the harmonizer was not fitted with."""


class DecodeError(FcnefError, ValueError):
    """Raised when a decoder cannot be trained or judged on the data given."""


class LeakageError(DecodeError):
    """Raised when what is used to judge a decoder would also be used to train it."""


class ExecutorError(FcnefError, RuntimeError):
    """Raised when a scheduler cannot be reached, or stored work belongs to other settings."""


class TaskError(FcnefError, ValueError):
    """Raised when a trial table is malformed, or does not belong to a task that is known."""


class TwinError(FcnefError, ValueError):
    """Raised when a twin or one of its baselines cannot be fitted to the data given."""
