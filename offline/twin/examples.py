"""Segments of a run laid out by person, as a network takes them: rectangular, padded, masked.

People may have different numbers of segments, and segments different numbers of trials; what is
padded has no trial and no weight. Arrays are (person, segment, ...); a bias channel that is always
1 is appended to the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from offline.errors import TwinError
from offline.twin.tasks import Segments

__all__ = ["MAX_WINDOW_S", "Examples", "examples_of"]

MAX_WINDOW_S = 2.24
"""After an onset, or until the next one: when a response counts for the choice (28 steps)."""

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Examples:
    """What people saw and did.

    Attributes
    ----------
    people : tuple of str
    inputs : ndarray of float32, shape (n_people, n_segments, n_steps, n_channels + 1)
        The last channel is 1.
    start_step : ndarray of int64, shape (n_people, n_segments)
        Of the run, which starts at 0; -1 where padded.
    run : ndarray of int64, shape (n_people, n_segments)
        Task and run as one number; -1 where padded.
    onset : ndarray of int64, shape (n_people, n_segments, n_slots)
        Step of the stimulus; -1 where there is no trial.
    end : ndarray of int64, shape (n_people, n_segments, n_slots)
        Step after the last at which a response counts.
    log_rt : ndarray of float64, shape (n_people, n_segments, n_slots)
        Of correct answers; NaN elsewhere.
    choice : ndarray of int64, shape (n_people, n_segments, n_slots)
        Action taken, `n_actions` for none; -1 where it is not known, or no trial.
    response_step : ndarray of int64, shape (n_people, n_segments, n_slots)
        Step of the response, whichever action it was; -1 where there is none.
    answer : ndarray of int64, shape (n_people, n_segments, n_slots)
        The right action; -1 where not known.
    condition : ndarray of int64, shape (n_people, n_segments, n_slots)
        Place in `conditions`; -1 where there is no trial.
    trial : ndarray of int64, shape (n_people, n_segments, n_slots)
        Number of the trial within its run; -1 where there is none.
    bold : ndarray of float32, shape (n_people, n_segments, n_volumes, n_regions)
        NaN where there is none; n_regions may be 0.
    bold_s : ndarray of float64, shape (n_people, n_segments, n_volumes)
        Times of volumes from step 0 of the segment; NaN where there is none.
    channels, conditions, regions : tuple of str
    n_actions : int
    step_s : float
    """

    people: tuple[str, ...]
    inputs: Float32
    start_step: Ints
    run: Ints
    onset: Ints
    end: Ints
    log_rt: Float64
    choice: Ints
    response_step: Ints
    answer: Ints
    condition: Ints
    trial: Ints
    bold: Float32
    bold_s: Float64
    channels: tuple[str, ...]
    conditions: tuple[str, ...]
    regions: tuple[str, ...]
    n_actions: int
    step_s: float

    @property
    def n_segments(self) -> int:
        """Of the person who has most."""
        return int(self.inputs.shape[1])

    @property
    def n_steps(self) -> int:
        """Length of a segment."""
        return int(self.inputs.shape[2])

    def of(self, people: Ints | Bools) -> Examples:
        """Those of some people, in this order."""
        places = np.arange(len(self.people))[people]
        return self._taken(lambda values: values[places], tuple(self.people[k] for k in places))

    def parts(self, segments: Ints) -> Examples:
        """Chosen segments of each person, `segments` of shape (n_people, n)."""
        rows = np.arange(len(self.people))[:, None]
        return self._taken(lambda values: values[rows, segments], self.people)

    def first(self, k: int) -> Examples:
        """The first `k` correct trials of everybody's, and nothing of what came after them.

        Raises
        ------
        TwinError
            If k is negative.
        """
        if k < 0:
            raise TwinError(f"expected k >= 0 trials, found {k}")
        return self.known(self.until(k))

    def possible(self) -> Bools:
        """Which actions a response of unknown choice may have been, (..., n_actions).

        All, but not the right one where the answer was wrong; none where there was no response or
        its choice is known. Shape (n_people, n_segments, n_slots, n_actions).
        """
        unknown = (self.choice < 0) & (self.response_step >= 0)
        wrong = ~np.isfinite(self.log_rt) & (self.answer >= 0)
        right = self.answer[..., None] == np.arange(self.n_actions)
        return np.asarray(unknown[..., None] & ~(wrong[..., None] & right))

    def until(self, k: int, among: Bools | None = None) -> Bools:
        """The first `k` correct trials and what lies before them, (n_people, n_segments, n_slots).

        Parameters
        ----------
        k : int
        among : ndarray of bool, shape (n_people, n_segments, n_slots), or None
            Trials that count; None for all.
        """
        among = np.ones(self.log_rt.shape, bool) if among is None else among
        correct = (among & np.isfinite(self.log_rt)).reshape(len(self.people), -1)
        # slots are in order of time: runs one after another, segments and trials within them
        before = np.cumsum(correct, axis=1) - correct < k
        return np.asarray(among & before.reshape(among.shape))

    def shown(self, keep: Bools) -> Examples:
        """What is to be done: only trials kept are trials; segments nobody needs are left out.

        Parameters
        ----------
        keep : ndarray of bool, shape (n_people, n_segments, n_slots)

        Raises
        ------
        TwinError
            If no trial is kept.
        """
        if not keep.any():
            raise TwinError("expected a trial of somebody, found none; keep some")
        some = replace(
            self,
            onset=np.where(keep, self.onset, -1),
            end=np.where(keep, self.end, -1),
            condition=np.where(keep, self.condition, -1),
        )
        return some._needed(keep)

    def known(self, keep: Bools) -> Examples:
        """What was done: responses of trials kept, of all others nothing is known.

        Parameters
        ----------
        keep : ndarray of bool, shape (n_people, n_segments, n_slots)
        """
        some = replace(
            self,
            log_rt=np.where(keep, self.log_rt, np.nan),
            choice=np.where(keep, self.choice, -1),
            response_step=np.where(keep, self.response_step, -1),
            bold=np.full_like(self.bold, np.nan),
        )
        return some._needed(keep)

    def _needed(self, keep: Bools) -> Examples:
        """Segments with a trial of anybody that is kept, or else the first."""
        needed = np.flatnonzero(keep.any(axis=(0, 2)))
        needed = needed if len(needed) else np.zeros(1, np.int64)
        return self.parts(np.broadcast_to(needed, (len(self.people), len(needed))))

    def _taken(self, take, people: tuple[str, ...]) -> Examples:  # type: ignore[no-untyped-def]  # of arrays of any type
        arrays = {
            field.name: take(getattr(self, field.name))
            for field in fields(self)
            if isinstance(getattr(self, field.name), np.ndarray)
        }
        return replace(self, people=people, **arrays)


def examples_of(segments: Segments, people: Sequence[str] | None = None) -> Examples:
    """Lay segments out by person.

    Parameters
    ----------
    segments : Segments
    people : sequence of str or None
        Rows, in this order; None for `segments.people`.

    Raises
    ------
    TwinError
        If a person has no segment, or no correct trial at all.
    """
    names = tuple(segments.people if people is None else people)
    places = _places(segments, names)
    padded = places < 0

    def laid(values: NDArray, empty: float) -> NDArray:  # type: ignore[type-arg]  # of any type
        out = values[places].copy()
        out[padded] = empty
        return out

    onset = laid(segments.onset_step, -1)
    rt_s, correct = laid(segments.rt_s, np.nan), laid(segments.correct, 0)
    missed = laid(segments.missed, 0).astype(bool)
    choice = np.where(missed, segments.n_actions, laid(segments.choice, -1))
    inputs = laid(segments.inputs, 0.0)
    bold = np.zeros((*places.shape, 0, 0), np.float32)
    bold_s = np.zeros((*places.shape, 0))
    if segments.bold is not None and segments.bold_s is not None:
        bold, bold_s = laid(segments.bold, np.nan), laid(segments.bold_s, np.nan)
    return Examples(
        people=names,
        inputs=np.concatenate([inputs, np.ones_like(inputs[..., :1])], axis=-1),
        start_step=laid(np.round(segments.start_s / segments.step_s).astype(np.int64), -1),
        run=laid(segments.task * len(segments.runs) + segments.run, -1),
        onset=onset,
        end=_ends(onset, segments.inputs.shape[1], segments.step_s),
        log_rt=_log_rt(rt_s, correct, names),
        choice=choice,
        response_step=_response_steps(onset, rt_s, ~missed, segments),
        answer=laid(segments.answer, -1),
        condition=laid(segments.condition, -1),
        trial=laid(segments.trial, -1),
        bold=bold,
        bold_s=bold_s,
        channels=segments.channels,
        conditions=segments.conditions,
        regions=segments.regions if segments.bold is not None else (),
        n_actions=segments.n_actions,
        step_s=segments.step_s,
    )


def _places(segments: Segments, names: tuple[str, ...]) -> Ints:
    """Each person's segments in order, shape (n_people, n_segments); -1 where they have fewer."""
    own = {name: np.flatnonzero(segments.person == k) for k, name in enumerate(segments.people)}
    for name in names:
        if not len(own.get(name, ())):
            raise TwinError(f"expected trials of sub-{name}, found none; leave the person out")
    places = np.full((len(names), max(len(own[name]) for name in names)), -1)
    for row, name in enumerate(names):
        places[row, : len(own[name])] = own[name]
    return places


def _log_rt(rt_s: Float64, correct: Bools, names: tuple[str, ...]) -> Float64:
    """Of correct answers, NaN elsewhere; everybody has one."""
    with np.errstate(invalid="ignore"):
        log_rt: Float64 = np.where(correct & (rt_s > 0.0), np.log(rt_s), np.nan)
    silent = np.flatnonzero(~np.isfinite(log_rt).any(axis=(1, 2)))
    if len(silent):
        raise TwinError(
            f"expected a correct trial of everybody, found none of sub-{names[silent[0]]}; leave"
            " out who missed all trials"
        )
    return log_rt


def _response_steps(onset: Ints, rt_s: Float64, made: Bools, segments: Segments) -> Ints:
    """Steps of the responses that were made; -1 elsewhere, and past the segment."""
    step = onset + np.floor(np.nan_to_num(rt_s) / segments.step_s).astype(np.int64)
    return np.where(made & np.isfinite(rt_s) & (step < segments.inputs.shape[1]), step, -1)


def _ends(onset: Ints, n_steps: int, step_s: float) -> Ints:
    """Where a trial's responses end: after the window, at the next onset, or with the segment."""
    following = np.concatenate([onset[..., 1:], np.full_like(onset[..., :1], -1)], axis=-1)
    following = np.where(following < 0, n_steps, following)
    ends = np.minimum(onset + round(MAX_WINDOW_S / step_s), np.minimum(following, n_steps))
    return np.where(onset >= 0, ends, -1)
