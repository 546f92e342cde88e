"""Which parent sets graphs have, against numpy's own account of distinct rows."""

import numpy as np
import pytest

from methods.metacadi.parent_sets import distinct_parent_sets


@pytest.mark.parametrize("n", [1, 40])
def test_distinct_parent_sets_are_distinct_rows_and_shares_add_up(n):
    rng = np.random.default_rng(n)
    graphs = np.triu(rng.random((n, 5, 5)) < 0.5, 1)
    graphs[:, 0, 1] = True  # one parent in all
    weights = rng.dirichlet(np.ones(n))
    for i, found in enumerate(distinct_parent_sets(graphs)):
        sets, of_sample = np.unique(graphs[:, :, i], axis=0, return_inverse=True)
        assert (found.sets == sets).all()
        assert (found.of_sample == of_sample.reshape(-1)).all()
        assert found.shares(weights) == pytest.approx(np.bincount(of_sample.reshape(-1), weights))
