"""DCDI as a method of the benchmark: samples in, one DAG with gate probabilities out."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from bench.errors import InputError, MissingDependency
from bench.registry import register_method
from bench.torch_threads import one_thread
from bench.types import Budget, Capabilities, Estimate, Fitted, Meta, Method, Observed
from methods.dcdi.gates import Gates
from methods.dcdi.linear import LinearConditionals
from methods.dcdi.neural import NeuralConditionals, Output
from methods.dcdi.refinement import Pace, Refinement
from methods.dcdi.samples import Samples
from methods.dcdi.training import Outcome, Schedule, Sparsity, Training

BATCH_SIZE = 128

NEURAL = Schedule(
    edge_start=0.0,
    target_start=-3.0,
    penalty=1e-6,
    warm_up=1000,
    window=50,
    opened=1000,
    settle=1000,
    gate_rate=0.02,
    settling_gate_rate=0.1,
    weight_rate=5e-3,
    growth=4.0,
    tolerance=1e-3,
)
"""Every gate is open for half of the samples at first, so that networks learn to do with any parents, and nothing has to close
at once, as it would in a full graph, which is where the published search starts."""

HASTY = dataclasses.replace(NEURAL, gate_rate=0.1)
"""Gates that run ahead of the networks: in dense graphs they may follow a wrong order, in sparse ones fewer ancestors pass for
parents (``results/comparisons/dcdi_protocol.md`` has what both reach)."""

FROM_EVERYTHING = dataclasses.replace(
    HASTY, edge_start=5.0, penalty=1e-4, warm_up=300, window=20, opened=0, settle=150, weight_rate=0.0
)
FROM_NOTHING = dataclasses.replace(FROM_EVERYTHING, edge_start=-4.0, target_start=3.0, penalty=1.0)
"""Without edges, and with every variable a target everywhere: edges come in where a mechanism holds in several environments,
whose targets then close. In a full graph a variable depends on its effects as well, so that their targets seem to be its own;
once those gates are open, little speaks against the wrong direction. Neither start is better everywhere."""

SCHEDULES = {"neural": (NEURAL, HASTY), "linear": (FROM_NOTHING, FROM_EVERYTHING)}
"""A search for each, whose answer is refined; of those the one with the lowest objective counts."""

PACES = {
    "neural": Pace(first_steps=3000, steps=600, weight_rate=5e-3, target_rate=0.1),
    "linear": Pace(first_steps=60, steps=60, weight_rate=0.0, target_rate=0.5),
}
"""Of the refinement."""


@register_method("dcdi")
class DCDI(Method):
    """DCDI: conditionals, edge gates and target gates learned together under an acyclicity constraint (needs torch).

    Without told targets each variable of each environment has a gate that says whether it is a target there. With told
    targets (the oracle track) those take their place. Environments known to be observational have no targets. Where none is
    known, every environment may have targets, and what most samples agree on is each variable's mechanism.

    Parameters
    ----------
    conditionals : {"linear", "neural"}
        Linear Gaussian regressions, on second moments (``methods.dcdi.linear``): no gates drawn, no weights to learn, and no
        use of the generator; or, as published, networks with two hidden layers of 16 leaky rectifiers, on minibatches. With a
        few hundred samples the regressions came out ahead, on networks too (``results/tuning``).
    output : {"gaussian", "flow"}
        Density that a network answers with: a mean and one standard deviation for each variable ("DCDI-G"), or a deep
        sigmoidal flow of two layers of 16 sigmoids ("DCDI-DSF"), whose answers are not refined: with a few hundred samples they
        depend on the order of the batches. Regressions are always Gaussian.
    interventions : {"perfect", "imperfect"}
        What a target has of its own in its environment: a density without parents, or another conditional given the same
        parents.
    edge_sparsity : float
        Price of an open edge gate, divided by d² (published: .1), when the negative log-likelihood is averaged over samples
        and variables.
    target_sparsity : float
        Price of a target in the same units, not divided.
    refinement : bool
        Change the answer of the search by single edges for as long as that lowers the objective (``methods.dcdi.refinement``).
        Not with flows, which would take many times as long, nor where the gates never became acyclic.
    max_steps : int
        Gradient steps after which a search gives up; the row then says that it did not converge.

    Notes
    -----
    Edges and targets have scores, not probabilities: each says by how many nats of all samples the objective prefers the answer
    to its best alternative in that one edge or target. Without refinement they are gates, nearly always at 0 or 1 in the end.

    The answer is always a DAG: edges above .5 along one order of the variables, the one against which the gates are weakest.

    References
    ----------
    P. Brouillard, S. Lachapelle, A. Lacoste, S. Lacoste-Julien, A. Drouin, "Differentiable causal discovery from
    interventional data", NeurIPS 2020. As published: networks, gates drawn for each sample by the Gumbel sigmoid with
    straight-through gradients, first logits, prices of edges, constraint, threshold .5, and for imperfect or unknown targets
    densities of their own for each environment. Deviations:

    - Schedule: Adam with rates .02 or .1 for gates and .005 for weights on batches of 128 in place of RMSprop with .001 on 64;
      multipliers move as soon as a window of 50 steps gains nothing; mu starts at 1e-6 and grows by a factor of 4, in place
      of 1e-8 and 2, and all gates at one half, in place of nearly open. Gate logits stay in [-14, 14]. Some seven thousand
      steps in place of tens of thousands, two searches, and of their answers the one with the lower objective.
    - Refinement (ours): edges of the answer come, go and turn around for as long as that lowers the same objective, all changes
      trained side by side. A search alone often has an edge the wrong way, and then others that make up for it;
      ``refinement=False`` is that search. Networks learn from four fifths of the samples there and are judged by the others:
      judged by what they have learned from, they take noise for edges where samples are few.
    - Once the gates are acyclic, their order is kept; weights learn with all of its gates open, then gates and targets start
      anew and come to rest without constraint. The published code only thresholds, and what the constraint has closed beyond
      need stays closed.
    - The constraint is not divided by that of a full graph, and counts as met at .01.
    - The search sets no samples aside: the published code uses them only to see when a stage is over.
    - The target gates are not drawn: the likelihood is linear in them, so that their expectation is exact. Densities of perfect
      targets are in closed form, each with its own variance; the published code shares one between environments.
    - Imperfect targets share the hidden units and have their own read-out, and may be unknown; the published code gives each
      environment a whole network, and needs the targets for it.
    - The linear variant is ours. Its two searches start from a full graph without targets, and from an empty one with all
      targets open.
    """

    capabilities = Capabilities(
        targets="optional", estimates_targets=True, edge_output="score", target_output="score", extra="torch"
    )
    meta = Meta(
        "DCDI: linear or neural conditionals, edge and target gates, by gradients, acyclic by a penalty (own implementation).",
        "Brouillard et al., Differentiable Causal Discovery from Interventional Data, NeurIPS 2020, arXiv:2007.01754",
        mechanisms="linear (nonlinear with conditionals=neural)",
        noise="Gaussian (any with networks and output=flow)",
        interventions=("hard", "hard_constant"),
        complexity="steps, each d² times a batch of samples, and d³ for the constraint",
        n_variables=(2, 50),
    )
    search_space: ClassVar = {
        "conditionals": ["neural", "linear"],
        "interventions": ["perfect", "imperfect"],
        "edge_sparsity": [0.03, 0.1, 0.3],
        "target_sparsity": [5e-4, 1e-3, 2e-3, 5e-3, 1e-2],
    }

    def __init__(
        self,
        conditionals: Literal["neural", "linear"] = "linear",
        output: Output = "gaussian",
        interventions: Literal["perfect", "imperfect"] = "perfect",
        edge_sparsity: Annotated[float, Ge(0)] = 0.3,
        target_sparsity: Annotated[float, Ge(0)] = 2e-3,
        refinement: bool = True,
        max_steps: Annotated[int, Ge(1)] = 20_000,
    ) -> None:
        self.conditionals = conditionals
        self.output = output
        self.interventions = interventions
        self.edge_sparsity = edge_sparsity
        self.target_sparsity = target_sparsity
        self.refinement = refinement
        self.max_steps = max_steps

    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        outcome = self.train(observed, rng, budget or Budget())
        estimate = Estimate(
            outcome.edge_probability,
            target_probability=outcome.target_probability,
            point_graph=outcome.graph,
            graph_kind="dag",
        )
        return Fitted(estimate, cut_short=outcome.cut_short, converged=outcome.converged)

    def train(
        self,
        observed: Observed,
        rng: np.random.Generator,
        budget: Budget,
        schedules: Sequence[Schedule] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Outcome:
        """What :meth:`fit` does, with schedules to choose; by default those of the kind of conditionals."""
        _require_torch()
        if self.conditionals == "linear" and self.output != "gaussian":
            raise InputError(f"linear conditionals have Gaussian output only, got output='{self.output}'")
        samples = Samples.of(observed)
        # From means over variables to sums over them, in which training counts.
        d = observed.n_variables
        sparsity = Sparsity(edge=self.edge_sparsity / d, target=self.target_sparsity * d)
        outcomes = []
        with one_thread():
            for schedule in schedules or SCHEDULES[self.conditionals]:
                conditionals = self._conditionals(samples, rng, batch_size, hold_out=False)
                gates = Gates(samples.told, samples.estimated, conditionals.precision)
                outcome = Training(conditionals, gates, sparsity, schedule, self.max_steps, budget).run()
                if self.refinement and self.output == "gaussian" and np.isfinite(outcome.objective):
                    conditionals = self._conditionals(samples, rng, batch_size, hold_out=True)
                    outcome = Refinement(conditionals, samples, sparsity, PACES[self.conditionals], budget).run(outcome)
                outcomes.append(outcome)
        best = min(outcomes, key=lambda outcome: outcome.objective)
        return dataclasses.replace(best, cut_short=any(outcome.cut_short for outcome in outcomes))

    def _conditionals(
        self, samples: Samples, rng: np.random.Generator, batch_size: int, *, hold_out: bool
    ) -> LinearConditionals | NeuralConditionals:
        import torch

        imperfect = self.interventions == "imperfect"
        if self.conditionals == "linear":
            return LinearConditionals(samples, imperfect=imperfect)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        return NeuralConditionals(
            samples,
            output=self.output,
            imperfect=imperfect,
            batch_size=batch_size,
            generator=generator,
            hold_out=hold_out,
        )

    def effective_capabilities(self) -> Capabilities:
        """Linear conditionals are fitted without any draw."""
        return dataclasses.replace(self.capabilities, deterministic=self.conditionals == "linear")

    def warm_up(self) -> None:
        """Import torch."""
        _require_torch()


def _require_torch() -> None:
    try:
        importlib.import_module("torch")
    except ImportError as error:
        raise MissingDependency("dcdi needs torch: pip install 'cadibench[torch]'") from error
