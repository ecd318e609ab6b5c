"""Who is predicted to respond to an edit, and its edges as a plan takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from offline.errors import TwinError
from offline.twin.effects import LEVEL, NO_INTERVAL, Intervention
from offline.twin.files import require_real
from offline.twin.twin import Twin

if TYPE_CHECKING:
    from rtloop.plan import PlanEdge

__all__ = ["group_view", "plan_edges"]


def group_view(found: Intervention, target: str, direction: int) -> pd.DataFrame:
    """Who is predicted to respond to an edit.

    Parameters
    ----------
    found : Intervention
    target : str
    direction : {-1, 1}
        What is wanted: less of the target, or more.

    Returns
    -------
    pandas.DataFrame
        One row a person, the strongest predicted response first: `person`, `before`, `after`,
        `change`, `low`, `high`, `responds` (all members agree, and the interval is on the wanted
        side of 0), `why_not`.
    """
    k = found.row(target)
    table = found.table()
    table = table[table["target"] == target].reset_index(drop=True)
    nearer = np.where(direction > 0, found.low[k], -found.high[k])
    with np.errstate(invalid="ignore"):
        responds = (nearer > 0.0) & (found.agreement[k] == 1.0)
        wrong = direction * found.change[k] <= 0.0
    unknown = ~np.isfinite(found.low[k])
    why = np.select(
        [np.array([bool(w) for w in found.refused]), unknown, wrong, ~responds],
        [np.array(found.refused, object), NO_INTERVAL, "predicted the other way", "may be chance"],
        "",
    )
    out = table[["person", "before", "change", "low", "high"]].assign(
        after=table["before"] + table["change"], responds=responds, why_not=why
    )
    order = np.argsort(-direction * out["change"].to_numpy(), kind="stable")  # NaN come last
    columns = ["person", "before", "after", "change", "low", "high", "responds", "why_not"]
    return out.iloc[order][columns].reset_index(drop=True)


def plan_edges(
    twin: Twin, found: Intervention, person: str, target: str, direction: int
) -> tuple[PlanEdge, ...]:
    """Edges of an intervention as a plan takes them, for a person who is predicted to respond.

    Parameters
    ----------
    twin : Twin
        Of real people.
    found : Intervention
        Of this twin.
    person : str
    target : str
    direction : {-1, 1}
        What is wanted: less of the target, or more.

    Raises
    ------
    TwinError
        If the twin is of synthetic people, or the person is refused, has no interval, or one that
        covers 0, or is predicted to move the other way, or members disagree.
    """
    from rtloop.plan import PlanEdge

    require_real(twin, "a plan")
    if person not in found.people:
        raise TwinError(f"expected a person of the intervention, found {person!r}")
    p, k = found.people.index(person), found.row(target)
    reasons = [found.refused[p]] if found.refused[p] else []
    if not reasons and not np.isfinite(found.low[k, p]):
        reasons.append(NO_INTERVAL)
    if not reasons and found.low[k, p] <= 0.0 <= found.high[k, p]:
        reasons.append(
            f"{LEVEL:.0%} interval {found.low[k, p]:+.3g} to {found.high[k, p]:+.3g} covers 0"
        )
    if not reasons and direction * found.change[k, p] < 0.0:
        reasons.append(f"a change the other way, {found.change[k, p]:+.3g}")
    if not reasons and found.agreement[k, p] < 1.0:
        reasons.append(f"only {found.agreement[k, p]:.0%} of members agree on the sign")
    if reasons:
        raise TwinError(
            f"expected a predicted response of sub-{person} to plan for, found: {reasons[0]}"
        )
    labels, pairs = twin.atlas.labels, twin.atlas.edges()
    largest = np.abs(found.delta_z[p]).max()
    return tuple(
        PlanEdge(
            a=labels[pairs[edge, 0]],
            b=labels[pairs[edge, 1]],
            weight=float(abs(delta) / largest),
            direction=1 if delta > 0 else -1,
        )
        for edge, delta in zip(found.edges, found.delta_z[p], strict=True)
        if delta != 0.0
    )
