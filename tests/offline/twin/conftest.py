"""People of a module and the twin of the first of them; the rest are new to it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.offline.twin.tasks_of import small


@pytest.fixture(scope="module")
def training(request):
    """Everybody, as the module's `COHORT` says."""
    return small("linear", **request.module.COHORT)


@pytest.fixture(scope="module")
def twin(request, training):
    """Of the first `N_TRAINED`."""
    from offline.twin.model import Settings
    from offline.twin.twin import Twin

    people, examples = training
    n = request.module.N_TRAINED
    settings = Settings(units=8, rank=3, epochs=3, batch=15, folds=3, check_every=3)
    return Twin.fit(
        people.edges[:n], examples.of(np.arange(n)), people.atlas, "synthetic", settings
    )


@pytest.fixture(scope="module")
def new(request, training):
    """Edges and examples of the others."""
    people, examples = training
    n = request.module.N_TRAINED
    return people.edges[n:], examples.of(np.arange(n, len(examples.people)))
