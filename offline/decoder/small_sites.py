"""Sites of too few people: which they are, and the sample without them.

A harmonizer is fitted anew in every training set and has to learn every site there. A fold may
take a person of each class (or quarter of a number) from a site; ComBat then needs two scans that
are left, any other method one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import DecodeError
from offline.harmonize import ComBat
from offline.numerals import counted
from offline.store import read_block

if TYPE_CHECKING:
    from offline.decoder.study import Chosen

__all__ = ["common_sites", "least_people", "require_people", "without_small_sites"]


def least_people(harmonizer: Any, categorical: bool) -> int:
    """People a site needs so that a harmonizer can be fitted in whatever folds are dealt.

    Parameters
    ----------
    harmonizer : estimator or None
        Unfitted.
    categorical : bool
        Whether the target is one of classes: folds are even over two classes, or four quarters.
    """
    if harmonizer is None:
        return 1
    taken = 2 if categorical else 4
    return taken + (2 if isinstance(harmonizer, ComBat) else 1)


def without_small_sites(chosen: Chosen, least: int) -> tuple[Chosen, pd.DataFrame]:
    """The scans of sites with at least so many people of the sample; traveling scans all stay.

    Parameters
    ----------
    chosen : Chosen
    least : int
        1 for no limit.

    Returns
    -------
    tuple
        The scans that stay; and who does not: participant, session, reason.

    Raises
    ------
    DecodeError
        If `least` is no number of people, or no site has so many.
    """
    if least < 1:
        raise DecodeError(f"expected at least 1 person per site, found {least}; use 1 for no limit")
    people = chosen.people
    n_people = _people_of_sites(people)
    small = n_people[n_people < least]
    gone = people["site"].isin(small.index).to_numpy(bool) & ~people["traveling"].to_numpy(bool)
    left_out = people.loc[gone, ["participant", "session"]].assign(
        reason=[
            f"site {site}: {counted(small[site], 'person', 'people')}, at least {least} asked"
            for site in people.loc[gone, "site"]
        ]
    )
    if not len(small):
        return chosen, left_out
    if len(small) == len(n_people):
        raise DecodeError(
            f"expected a site with at least {least} people of the sample, found at most"
            f" {int(n_people.max())}; ask for fewer"
        )
    rows = np.flatnonzero(~gone)
    listed = ", ".join(f"{site} {n}" for site, n in small.items())
    told = (
        f"{counted(int(gone.sum()), 'scan')} at sites with fewer than {least} people left out:"
        f" {listed}"
    )
    stays = replace(
        chosen,
        X=read_block(chosen.X, slice(None), rows),
        y=chosen.y[rows],
        people=people.iloc[rows].reset_index(drop=True),
        told=(*chosen.told, told),
    )
    return stays, left_out


def require_people(chosen: Chosen, harmonizer: Any) -> None:
    """Refuse sites that some training set would have too few people of, before anything is run.

    Raises
    ------
    DecodeError
        Naming the sites, and the option that leaves them out.
    """
    least = least_people(harmonizer, chosen.positive is not None)
    n_people = _people_of_sites(chosen.people)
    small = n_people[n_people < least]
    if len(small) and len(n_people) > 1:
        listed = ", ".join(f"{site} {n}" for site, n in small.items())
        raise DecodeError(
            f"expected at least {least} people at every site to fit {type(harmonizer).__name__} in"
            f" every training set, found {listed}; leave such sites out with"
            f" --min-people-per-site {least}, or use --harmonizer none"
        )


def common_sites(
    people: pd.DataFrame, diagnosis: NDArray[Any], names: Sequence[str], control: str, least: int
) -> NDArray[np.bool_]:
    """Which scans are at sites with so many people of every disorder's sample, shape (n_scans,).

    Parameters
    ----------
    people : pandas.DataFrame
    diagnosis : ndarray of object, shape (n_scans,)
    names : sequence of str
        Disorders; the sample of each are its patients and all controls.
    control : str
    least : int
    """
    stays = np.ones(len(people), bool)
    for name in names:
        n_people = _people_of_sites(people[np.isin(diagnosis.astype(str), [name, control])])
        stays &= people["site"].isin(n_people.index[n_people >= least]).to_numpy(bool)
    return stays


def _people_of_sites(people: pd.DataFrame) -> pd.Series:
    """People at each site who do not travel."""
    own = people[~people["traveling"].to_numpy(bool)]
    return own.groupby("site")["participant"].nunique()
