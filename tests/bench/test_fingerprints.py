"""Like problems are like whatever the rounding, and unlike ones are named."""

import numpy as np
import pandas as pd
import pytest

from bench import registry
from bench.fingerprints import problems_of, unlike
from bench.types import Environment, HeldOut, Observed, Problem, Truth

BASE = {"dataset": "er", "repetition": 0, "dataset_spec": "er", "data_seed": 1, "n_variables": 5, "n_environments": 3}
BASE |= {"n_samples": 10, "n_held_out": 0, "fingerprint": "a", "checksum": 1.25}


def _lines(**changed):
    ours, theirs = (problems_of(pd.DataFrame([BASE | more])) for more in ({}, changed))
    return unlike(ours, theirs, us="A", them="B")


def test_rounding_is_no_difference_and_another_draw_is():
    assert not _lines()
    assert not _lines(fingerprint="b", checksum=1.25 * (1 + 1e-9))
    assert _lines(fingerprint="b", checksum=1.2501) == ["'er' #0: the data are others"]
    assert _lines(fingerprint="b", checksum=np.nan) == ["'er' #0: the data are others"]


def test_the_line_names_what_differs():
    assert _lines(fingerprint="b", checksum=2.0, n_samples=12) == ["'er' #0: n_samples is 10 in A, 12 in B"]


def _problem(scale=1.0, edge=True, target=False):
    X = np.random.default_rng(0).normal(size=(6, 2)) * scale
    held_out = HeldOut(X[:3], (3,), X[3:], np.array([target, False]))
    truth = Truth(adjacency=[[0, edge], [0, 0]], targets=[[0, 0]])
    return Problem(Observed((Environment(X, is_observational=True),)), truth, (held_out,))


def test_the_checksum_sees_data_graph_and_targets_and_no_rounding():
    same = _problem().checksum()
    assert _problem(scale=1 + 1e-14).checksum() == pytest.approx(same, rel=1e-10)
    for other in (_problem(scale=1.001), _problem(edge=False), _problem(target=True)):
        assert abs(other.checksum() / same - 1) > 1e-4


def test_every_draw_has_a_checksum_of_its_own():
    sums = [registry.make_problem("synthetic[n_variables=4]", seed=seed).checksum() for seed in range(5)]
    assert len(set(np.round(sums, 6))) == 5
