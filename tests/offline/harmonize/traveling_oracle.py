"""The traveling-subject model by its KKT system: one dense solve an edge, columns written out."""

from __future__ import annotations

import numpy as np


def design(sites, subjects, diagnosis):
    """D, A and the names of D's columns, for joint fits of the published model."""
    columns, names, groups = [], [], []

    def block(name, levels, member):
        levels = sorted({level for level in levels if level is not None})
        for level in levels:
            columns.append([1.0 if value == level else 0.0 for value in member])
            names.append((name, level))
        groups.append((name, len(levels)))

    resident_dx = [None if t else d for t, d in zip(subjects, diagnosis, strict=True)]
    patients = [d if d not in (None, "control") else None for d in resident_dx]
    block("site", sites, sites)
    block("participant", subjects, subjects)
    block("disorder", patients, patients)
    for dx in ["control", *sorted({p for p in patients if p})]:
        where = [s if d == dx else None for s, d in zip(sites, resident_dx, strict=True)]
        block(f"sampling {dx}", where, where)
    columns.append([1.0] * len(sites))
    names.append(("constant", ""))
    groups.append(("constant", 1))
    A, at = [], 0
    for name, n in groups:
        if name not in ("disorder", "constant") and n:
            A.append([1.0 if at <= k < at + n else 0.0 for k in range(len(names))])
        at += n
    return np.array(columns).T, np.array(A), names


def solve(D, A, X, penalty):
    """Coefficients, hat matrix's trace and residual squares, by the inverse of the KKT matrix."""
    p, c = D.shape[1], len(A)
    K = np.block([[D.T @ D + penalty * np.eye(p), A.T], [A, np.zeros((c, c))]])
    R = np.linalg.inv(K)[:p, :p]
    b = R @ D.T @ X
    return b, np.trace(R @ D.T @ D), ((X - D @ b) ** 2).sum(axis=0)
