"""Three numbers of the model that the environments know better than we do.

They are: how strong effects are beside the noise, how rare targets are, and how much noise drifts. Each is chosen by the
evidence of one graph, from a small grid that is the same for every data set. Learned freely, the last two would take all misfit
for interventions, or all interventions for drift.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bench.types import BoolArray
from methods.metacadi.evidence import MixtureEvidence
from methods.metacadi.model import Priors

SLOPE_PRECISIONS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Relative to the noise variance. There is a highest, a slope as large as the noise, because where the model does not hold weak
effects of everything on everything fit best."""

RARER_TARGETS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Probabilities of a target below the highest allowed. There is a highest because, where all environments differ a little as
real ones do, the evidence would have everything a target."""

DRIFTS = (0.02, 0.05)
"""Of the noise variance. Laplace noise looks like .06 in fifty samples."""


def chosen_priors(
    evidence: MixtureEvidence,
    graph: BoolArray,
    priors: Priors,
    *,
    effects: bool = True,
    rare: bool = True,
    drift: bool = True,
) -> Priors:
    """The priors under which a graph has the highest evidence.

    Parameters
    ----------
    evidence : MixtureEvidence
        Of any priors.
    graph : bool (d, d)
    priors : Priors
        Where to start.
    effects, rare, drift : bool
        Choose how strong effects are; choose the probability of a target; choose the drift of variances.

    Returns
    -------
    Priors
        As given, but for ``slope_precision`` with ``rate``, ``target`` and ``variance_drift``. The slope precision moves along
        ``SLOPE_PRECISIONS`` as long as the evidence rises, and the probability of a target falls along ``RARER_TARGETS``. A
        drift has to gain log(E d), for E environments of d mechanisms that might drift: few samples suggest a little always,
        and it hides targets.
    """

    def log_evidence(candidate: Priors) -> float:
        return evidence.under(candidate).of_graph(graph)

    value = log_evidence(priors)
    weaker = [x for x in SLOPE_PRECISIONS if effects and x > priors.slope_precision]
    stronger = [x for x in SLOPE_PRECISIONS[::-1] if effects and x < priors.slope_precision]
    for direction in (weaker, stronger):
        for slope_precision in direction:
            candidate = priors.with_effects(slope_precision)
            if (stepped := log_evidence(candidate)) <= value:
                break
            value, priors = stepped, candidate
    if drift:
        least = value + np.log(evidence.n_environments * evidence.n_variables)
        drifting = [dataclasses.replace(priors, variance_drift=x) for x in DRIFTS]
        best, candidate = max(zip(map(log_evidence, drifting), drifting, strict=True), key=lambda x: x[0])
        if best > least:
            value, priors = best, candidate
    for target in (t for t in RARER_TARGETS if rare and t < priors.target):
        candidate = dataclasses.replace(priors, target=target)
        if (rarer := log_evidence(candidate)) <= value:
            break
        value, priors = rarer, candidate
    return priors
