"""Data at which regressions and tests stumble."""

import numpy as np

from bench.types import Environment, Observed


def degenerate(sizes, known):
    """Eight variables: one twice, two constants (one of them within environments), an exact sum; fewer samples than variables.

    ``sizes`` are samples by environment, and ``known`` is said of the first: is it observational?
    """
    rng = np.random.default_rng(0)
    environments = []
    for e, n in enumerate(sizes):
        X = rng.normal(size=(n, 8))
        X[:, 1] = X[:, 0]
        X[:, 2] = 0.1
        X[:, 3] = e
        X[:, 4] = -2 * X[:, 0] + X[:, 5]
        environments.append(Environment(X, is_observational=known if e == 0 else None))
    return Observed(tuple(environments))
