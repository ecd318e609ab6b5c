"""Closes the loop: what the display is told, the simulated participant hears."""

from __future__ import annotations

from pathlib import Path

from rtloop.errors import ConfigError
from rtloop.link import Listener
from rtloop.wire import Feedback
from tools.scanner.series import RecordedSeries
from tools.scanner.simulated import SimulatedSeries

__all__ = ["FeedbackEar"]

HEARD_SCENES = ("feedback", "score")


class FeedbackEar:
    """Listens to the feedback broadcast in a display's place.

    Parameters
    ----------
    endpoint : str or None
        Where the engine publishes feedback; None to hear nothing.
    series : SimulatedSeries
        Whose participant hears each new value once.
    keys : Path or None
        Key file, needed beyond this machine.

    Raises
    ------
    ConfigError
        If a recorded series is to hear.
    """

    def __init__(
        self,
        endpoint: str | None,
        series: SimulatedSeries | RecordedSeries,
        keys: Path | None = None,
    ) -> None:
        self._listener = None
        if endpoint is not None:
            if not isinstance(series, SimulatedSeries):
                raise ConfigError(
                    "--feedback: expected a simulated participant, found a recorded series, which "
                    "cannot learn; leave it out"
                )
            self._participant = series.participant
            self._listener = Listener(endpoint, keys=keys)
        self._last_id = -1

    def listen(self) -> int:
        """Pass on what has come since the last call; returns how many values."""
        n_values = 0
        if self._listener is None:
            return n_values
        while (message := self._listener.receive(0.0)) is not None:
            if isinstance(message, Feedback) and self._is_news(message):
                assert message.value is not None
                self._participant.hear(message.index, message.value)
                n_values += 1
        return n_values

    def close(self) -> None:
        """Disconnect."""
        if self._listener is not None:
            self._listener.close()

    def _is_news(self, message: Feedback) -> bool:
        """The broadcast repeats a value until it is shown."""
        new = message.id > self._last_id
        self._last_id = max(self._last_id, message.id)
        return new and message.value is not None and message.scene in HEARD_SCENES
