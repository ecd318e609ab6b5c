"""A simulated participant in the simulated scanner: volumes made as they are due."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from rtloop.volume import Volume
from tools.faults import Delivery
from tools.scanner.edit import FOREIGN_NAME, FOREIGN_NUMBER, Edit, edited_dicom
from tools.scanner.mosaic import Identity, mosaic_file
from tools.scanner.recording import Form
from tools.scanner.series import File, dicom_name, numbered_attempt, with_fault

__all__ = ["Scanned", "SimulatedSeries"]

SERIES_NUMBER = 5
"""Of the functional run."""


class Scanned(Protocol):
    """Whoever lies in the scanner: a participant, from the beginning or later on."""

    @property
    def seed(self) -> int:
        """Tells participants apart."""

    @property
    def tr_s(self) -> float:
        """Repetition time, s."""

    def volume(self, index: int) -> Volume:
        """One volume; the first is 0."""

    def hear(self, index: int, value: float) -> None:
        """Take the feedback value of a volume."""


class SimulatedSeries:
    """A participant in the scanner, volumes made as they are due.

    Parameters
    ----------
    participant : Scanned
        Who is scanned.
    n_volumes : int
        How many volumes.
    """

    form: Form = "siemens"

    def __init__(self, participant: Scanned, n_volumes: int) -> None:
        self.participant, self.n_volumes = participant, n_volumes
        self.tr_s = participant.tr_s

    def attempt_name(self, attempt: int) -> str:
        return numbered_attempt(f"participant-{self.participant.seed}", attempt)

    def volume(self, delivery: Delivery) -> Volume:
        volume = self.participant.volume(delivery.index)
        attempt = self.attempt_name(delivery.attempt)
        return with_fault(replace(volume, attempt=attempt, n_volumes=self.n_volumes), delivery)

    def files(self, delivery: Delivery) -> list[File]:
        foreign = delivery.part == "foreign"
        number = SERIES_NUMBER + delivery.attempt + FOREIGN_NUMBER * foreign
        volume = self.participant.volume(delivery.index)
        if foreign:
            volume = replace(volume, index=delivery.index + delivery.copy)
        protocol = volume.protocol or {}
        identity = Identity(
            key=f"{self.attempt_name(delivery.attempt)} {'foreign' if foreign else 'bold'}",
            number=number,
            protocol=FOREIGN_NAME if foreign else str(protocol["protocol_name"]),
            component="P" if foreign else "M",
            n_volumes=self.n_volumes,
        )
        body = mosaic_file(volume, identity)
        if delivery.change != "none":
            body = edited_dicom(body, Edit(change=delivery.change, shift_mm=delivery.shift_mm))
        copy = 0 if foreign else delivery.copy
        name = dicom_name("siemens", number, volume.index + 1, 1, copy)
        return [File(name, body)]
