"""One trained network of the ensemble, and what it takes to use it for a new person."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offline.twin.basis import Basis
from offline.twin.hyper import CodeMap
from offline.twin.model import Parameters, Settings, Shape

__all__ = ["Member"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """Fitted on the people of all folds but one.

    Attributes
    ----------
    fold, seed : int
        The fold left out, and which of the seeds.
    shape : Shape
    settings : Settings
    basis : Basis
        Of the training people.
    map : CodeMap or None
        None in the whole form, whose perceptron is among the parameters.
    parameters : dict of Tensor
    curve : tuple of dict
        `epoch`, `training` and, where looked at, `validation`: negative log likelihood a trial.
    """

    fold: int
    seed: int
    shape: Shape
    settings: Settings
    basis: Basis
    map: CodeMap | None
    parameters: Parameters
    curve: tuple[dict[str, float], ...] = field(default=())

    def who(self, edges: Float64) -> Float64:
        """What the network takes of people, (n_people, rank) or (n_people, n_scores).

        Parameters
        ----------
        edges : ndarray of float64, shape (n_people, n_edges)
            Fisher z.
        """
        if self.map is None:
            return self.basis.perceptron_input(self.basis.scores(edges))
        return self.map.codes(self.basis.block_scores(edges))
