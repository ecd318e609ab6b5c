"""`fcnef run`: a session's next run, from the first volume to the last."""

from __future__ import annotations

from pathlib import Path

from rtloop.session import run_session

__all__ = ["run"]


def run(session: Path, /, *, run: str | None = None) -> int:
    """Run the loop: gateway, engine and display of a session's next unfinished run.

    Started again on the same file after a crash or power cut, it resumes the attempt.

    Parameters
    ----------
    session
        The session file (TOML; see `configs/session.toml`).
    run
        Name of the run; the first unfinished one if not given.

    Example
    -------
    fcnef run session.toml --run run-01
    """
    return run_session(session, run)
