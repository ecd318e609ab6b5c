"""Decoders: which connections tell patients from controls, or go with a score or a state.

`LassoEnsemble` and `LassoEnsembleRegressor` average sparse models, `ComponentClassifier` and
`ComponentRegressor` use principal components. All of them deal people to folds, harmonize inside
them and keep an output for everyone from models that never saw that person.
"""

from offline.decoder.across import across_disorders
from offline.decoder.components import ComponentClassifier, ComponentRegressor
from offline.decoder.ensemble import LassoEnsemble, LassoEnsembleRegressor
from offline.decoder.files import load_decoder
from offline.decoder.null import SelectionNull, max_count_null
from offline.decoder.selector import ComponentSelector

__all__ = [
    "ComponentClassifier",
    "ComponentRegressor",
    "ComponentSelector",
    "LassoEnsemble",
    "LassoEnsembleRegressor",
    "SelectionNull",
    "across_disorders",
    "load_decoder",
    "max_count_null",
]
