"""What a decoder says of people it never saw: within the sites it knows, and at a site left out.

Any estimator with scikit-learn's `fit` and `predict_proba` (or `decision_function`, or `predict`
for a continuous target) can be judged; decoders of this package bring folds of their own. In
either case a harmonizer is fitted inside each training set alone, all scans of a person are on
one side, and traveling scans are on neither: they may only teach the harmonizer.
"""

from offline.decoder.outputs.left_out import left_out_sites, require_unseen_site
from offline.decoder.outputs.task import N_FOLDS, Task, UnseenSite
from offline.decoder.outputs.within import out_of_fold, permuted_run

__all__ = [
    "N_FOLDS",
    "Task",
    "UnseenSite",
    "left_out_sites",
    "out_of_fold",
    "permuted_run",
    "require_unseen_site",
]
