"""Floor: no edge, no target."""

from __future__ import annotations

import numpy as np

from bench.registry import register_method
from bench.types import Budget, Capabilities, Estimate, Fitted, Meta, Method, Observed


@register_method("empty")
class Empty(Method):
    """The graph without edges; whoever does not beat it has learned nothing."""

    capabilities = Capabilities(edge_output="binary", deterministic=True)
    meta = Meta("Empty graph (floor).")

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        d = observed.n_variables
        return Fitted(Estimate(np.zeros((d, d)), point_graph=np.zeros((d, d), dtype=bool), graph_kind="dag"))
