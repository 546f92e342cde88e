"""Draw a structural model: a graph, a mechanism and a noise law per node, under a random order of the variables."""

from __future__ import annotations

import dataclasses

import numpy as np

from bench.draws import Spec, draw
from bench.random_graphs import GRAPHS, Graph
from bench.scm import SOURCE, LinearModel, Mechanism, Node, NoiseLaw, StructuralModel
from datasets.synthetic.mechanisms import Family, draw_mechanism

LARGEST_STANDARD_DEVIATION = 1e6
N_PILOT = 256


def draw_model(
    rng: np.random.Generator,
    *,
    n_variables: int,
    graph: Graph,
    edges_per_node: float,
    mechanism: Family,
    weights: Spec,
    length_scale: float,
    noise: NoiseLaw,
    noise_variance: Spec,
    source_variance: Spec | None = None,
) -> StructuralModel:
    """Draw a model; a :class:`bench.scm.LinearModel` where the mechanisms are linear.

    Variances grow along paths, without bound where weights exceed 1. A node whose standard deviation in a pilot sample
    passes 1e6 is scaled down to that (mechanism and noise alike, once for all environments), so that everything stays
    finite at any d; the published protocols at their sizes never come near it.

    Returns
    -------
    StructuralModel
        Variables are in random order; ``order`` is a causal one.
    """
    dag = GRAPHS[graph](n_variables, edges_per_node, rng)
    labels = rng.permutation(n_variables)  # node i of the graph is variable labels[i]
    nodes: dict[int, Node] = {}
    pilot = np.empty((n_variables, N_PILOT))
    inner = draw(noise_variance, n_variables, rng)
    variances = inner if source_variance is None else np.where(dag.any(axis=0), inner, draw(source_variance, n_variables, rng))
    for i, variable in enumerate(labels):
        parents = np.sort(labels[np.flatnonzero(dag[:, i])])
        answer: Mechanism = SOURCE
        if len(parents):
            answer = draw_mechanism(mechanism, len(parents), rng, weights=weights, length_scale=length_scale)
        node = Node(parents, answer, noise, float(variances[i]))
        values = node.sample(pilot[parents].T, rng)
        shrink = min(1.0, LARGEST_STANDARD_DEVIATION / max(float(values.std()), 1e-300))
        nodes[variable], pilot[variable] = dataclasses.replace(node, scale=shrink), shrink * values
    kind = LinearModel if mechanism == "linear" else StructuralModel
    return kind(tuple(nodes[v] for v in range(n_variables)), labels)
