"""The online loop: scanner volumes in, feedback out, everything recorded and recomputable."""

__version__ = "0.1.0"
