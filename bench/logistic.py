"""From log odds to probabilities, also where floats end."""

from __future__ import annotations

import numpy as np
from scipy import special

from bench.types import FloatArray

CERTAIN = 25.0
"""Log odds, of which 1.4e-11 is missing to 1."""


def logistic(log_odds: FloatArray) -> FloatArray:
    """Logistic function that still rises where that of floats is 1.

    With many samples everything that is a little off has log odds of some forty nats, and targets have hundreds; as ones, they
    would all look alike, and be ranked as ties. From ``CERTAIN`` on, what is missing to 1 falls as the inverse of the log odds,
    not as their exponential: no probability moves by more than 1.4e-11.

    Parameters
    ----------
    log_odds : float64 (...)

    Returns
    -------
    float64 (...)

    Examples
    --------
    >>> p = logistic(np.array([-np.inf, 0.0, 50.0, 500.0]))
    >>> p[:2].tolist(), bool(p[2] < p[3] < 1.0)
    ([0.0, 0.5], True)
    """
    probability = np.asarray(special.expit(log_odds))
    beyond = log_odds > CERTAIN
    probability[beyond] = 1.0 - special.expit(-CERTAIN) * CERTAIN / log_odds[beyond]
    return probability
