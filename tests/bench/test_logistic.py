"""The logistic function that goes on rising."""

import numpy as np
import pytest
from scipy.special import expit

from bench.logistic import CERTAIN, logistic


def test_what_is_certain_still_differs_and_all_else_is_logistic():
    log_odds = np.array([-np.inf, -800.0, -3.0, 0.0, 24.9, 25.0, 25.1, 40.0, 45.0, 1000.0, 1e4])
    found = logistic(log_odds)
    assert found[:6] == pytest.approx(expit(log_odds[:6]), rel=1e-15)
    assert (np.diff(found[1:]) > 0).all()
    assert ((1 - found[6:] > 0) & (1 - found[6:] < 1.4e-11)).all()
    assert logistic(np.array([[CERTAIN, 80.0]])).shape == (1, 2)
