"""A data set's edges as the path needs them: all in float32, a few in float64.

All edges are multiplied with residuals again and again, which is a matter of memory bandwidth:
they are kept in float32, one edge after another. The columns that a working set asks for are
made once, in float64, centred and scaled, and are shared by all folds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.decoder.compiled import LANES

__all__ = ["Design"]

SINGLE = float(np.finfo(np.float32).eps) / 2
CONSTANT_BELOW = 1e-6
"""An edge whose SD is a smaller share of its size is constant, and never chosen."""

BLOCK = 2048
FIRST_COLUMNS = 512


class Design:
    """The edges of a data set: float32 for screening, columns in float64 as they are asked for."""

    def __init__(self, X: NDArray[np.floating], standardize: bool) -> None:
        self.n, self.n_edges = X.shape
        padded = -(-self.n // LANES) * LANES
        self.edges = np.zeros((self.n_edges, padded), np.float32)
        self.edges[:, : self.n] = X.T
        # a float32 array is its own screening copy
        self._source = None if X.dtype == np.float32 else X
        self.mean = np.empty(self.n_edges)
        scale = np.empty(self.n_edges)
        norm = np.empty(self.n_edges)
        for first in range(0, self.n_edges, BLOCK):
            block = slice(first, first + BLOCK)
            values = np.asarray(X[:, block], np.float64)
            self.mean[block] = values.mean(axis=0)
            scale[block] = values.std(axis=0)
            norm[block] = np.sqrt((values * values).sum(axis=0))
        constant = scale <= CONSTANT_BELOW * norm / np.sqrt(self.n)
        with np.errstate(divide="ignore"):
            self.inverse = np.where(constant, 0.0, 1.0 / scale if standardize else 1.0)
        self.inverse32 = self.inverse.astype(np.float32)
        # |computed - exact| of a float32 sum of n products, rounding of both factors included,
        # over the norm of the residuals (Higham 2002, section 3.1)
        self.slack = ((padded + 4) * SINGLE * norm * self.inverse).astype(np.float32)
        self.slot = np.full(self.n_edges, -1, np.int64)
        self.columns = np.zeros((FIRST_COLUMNS, padded))
        self._used = 0

    def slots(self, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of `columns` that hold these edges, made where they are new."""
        new = edges[self.slot[edges] < 0]
        while self._used + len(new) > len(self.columns):
            self.columns = np.concatenate([self.columns, np.zeros_like(self.columns)])
        if len(new):
            rows = slice(self._used, self._used + len(new))
            source = self.edges[new, : self.n] if self._source is None else self._source[:, new].T
            values = source.astype(np.float64)
            values -= self.mean[new, None]
            values *= self.inverse[new, None]
            self.columns[rows, : self.n] = values
            self.slot[new] = np.arange(rows.start, rows.stop)
            self._used = rows.stop
        return self.slot[edges]
