"""What a validation says in words: the first sentence, and how to read it.

The sentence comes from the figures alone. It says "nothing" where the interval covers chance or
permuted labels reach the figure as often as one time in twenty, whatever else looks good.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from offline.decoder.judge import LEFT_OUT
from offline.decoder.metrics import LEVEL, Figure
from offline.decoder.validate import Validation
from offline.numerals import counted, interval, number, percent, probability

__all__ = ["Verdict", "transductive_sites", "verdict", "versions", "why_nothing"]

CHANCE_P = 0.05
ENOUGH_PERMUTATIONS = 19
"""With fewer, no p can be .05 or less."""

LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas", "nilearn", "numba")


@dataclass(frozen=True)
class Verdict:
    """The first sentence, and how to look at it.

    Attributes
    ----------
    found : bool
        Whether anything beyond chance was reached.
    sentence, reading : str
        What was reached, and what it means; `reading` may be "".
    """

    found: bool
    sentence: str
    reading: str


def verdict(validation: Validation) -> Verdict:
    """What may be said first."""
    figure, nothing = validation.figures[validation.headline], why_nothing(validation)
    if nothing:
        return Verdict(False, f"Nothing can be said: {nothing}.", "")
    told = _told(validation)
    kind = "AUC" if validation.classes else "r"
    reached = (
        f"telling {told} within sites, {kind} {number(figure.value)} ({LEVEL * 100:.0f} % interval"
        f" {_interval(figure)})"
    )
    chance = f"chance is {number(figure.chance)}"
    null, apart = _null(validation), _left_out(validation)
    if figure.covers_chance:
        sentence = f"Adds nothing that can be shown: {reached}; {chance}."
        return Verdict(False, sentence, null + apart)
    if figure.value < figure.chance:
        return Verdict(False, f"Worse than chance: {reached}; {chance}.", null + apart)
    n = len(validation.permuted)
    if validation.p > CHANCE_P and n < ENOUGH_PERMUTATIONS:
        few = f"{counted(n, 'permutation')} {'is' if n == 1 else 'are'} too few to rely on it"
        return Verdict(False, f"Not shown yet: {reached}; {chance}, but {few}.", apart)
    if validation.p > CHANCE_P:
        sentence = (
            f"Not to be relied on: {reached}, but permuted labels reach that too often (p ="
            f" {probability(validation.p)})."
        )
        return Verdict(False, sentence, apart)
    sentence = f"Beyond chance: {reached}; {chance}."
    return Verdict(True, sentence, _meaning(validation, figure) + null + apart)


def why_nothing(validation: Validation) -> str:
    """Why no site can be judged by itself; "" where one can."""
    if np.isfinite(validation.figures[validation.headline].value):
        return ""
    if validation.classes is None:
        return f"within no site {validation.target} and what is told of it both vary"
    return f"no site has both {validation.classes[0]} and {validation.classes[1]}"


def transductive_sites(validation: Validation) -> str:
    """Sites that were harmonized by their own controls when they were left out; "" for none."""
    own = validation.sites["told"].astype(str).str.startswith("TRANSDUCTIVE")
    if len(own) > 1 and own.all():
        return "all sites"
    return ", ".join(validation.sites["site"][own].astype(str))


def _told(validation: Validation) -> str:
    if validation.classes is None:
        return validation.target
    return f"{validation.classes[1]} from {validation.classes[0]}"


def _interval(figure: Figure) -> str:
    return interval(figure.low, figure.high)


def _meaning(validation: Validation, figure: Figure) -> str:
    if validation.classes is None:
        return f"That is {percent(figure.value**2)} of the variance within sites. "
    return (
        f"Of two people of one site, one {validation.classes[1]} and one {validation.classes[0]},"
        f" the right one has the higher output in {100 * figure.value:.0f} of 100 cases. "
    )


def _null(validation: Validation) -> str:
    n = len(validation.permuted)
    if not n:
        return "No permuted labels were run. "
    reached = round(validation.p * (n + 1)) - 1
    runs = counted(n, "run")
    verb = "reaches" if reached == 1 else "reach"
    return f"{reached} of {runs} on permuted labels {verb} it (p = {probability(validation.p)}). "


def _left_out(validation: Validation) -> str:
    name = LEFT_OUT[validation.classes is not None]
    figure = validation.figures.get(name)
    if figure is None or not np.isfinite(figure.value):
        return "No site could be left out: nothing is known of a new scanner."
    if figure.low == figure.high == figure.chance:
        return "At sites left out of training everybody of a site gets the same: nothing is told."
    beyond = "not beyond chance" if figure.covers_chance else "beyond chance"
    if not figure.covers_chance and figure.value < figure.chance:
        beyond = "below chance"
    text = f"At sites left out of training: {number(figure.value)} ({_interval(figure)}), {beyond}."
    own = transductive_sites(validation)
    if own:
        text += (
            f" TRANSDUCTIVE ({own}): harmonized by controls of their own; this is no figure of a"
            " new scanner."
        )
    return text


def versions() -> dict[str, str]:
    """Versions of everything that made the figures."""
    from rtloop import __version__

    found = {"fcnef": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
