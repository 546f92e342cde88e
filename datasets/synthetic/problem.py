"""The synthetic datasets: one composed of free factors, and the published protocols as settings of it.

Everything is in raw units; standardising is the suite's business (``bench.preprocessing``).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Len

from bench.draws import Draw, PositiveDraw
from bench.experiments import (
    Count,
    HeldOutPlan,
    Positive,
    SampleSizes,
    TargetChoice,
    TargetCounts,
    run_experiment,
)
from bench.flaws import Flaws, ProperShare, Share, Strength
from bench.interventions import Interventions, InterventionSizes, Kinds
from bench.random_graphs import Graph
from bench.registry import register_dataset
from bench.scm import NoiseLaw
from bench.types import Meta, Problem
from datasets.synthetic.mechanisms import Family
from datasets.synthetic.model import draw_model
from datasets.synthetic.stress import Drifting, with_heteroscedastic_noise, with_hidden_cause


@register_dataset(
    "synthetic",
    meta=Meta(
        "Random structural models with interventions: graph, mechanism, noise, kind of choice.",
        "no paper fixes the defaults; the families are those of the protocols bacadi, dcdi, utigsp and gnies",
        source="simulated by this project",
        known="graph and targets, exactly: the samples were drawn from them",
        not_known="hidden causes, drift and wrong labels, where those parameters add them; nothing else of the model",
    ),
    golden="0ec300d013fcf440",
)
def synthetic(
    rng: np.random.Generator,
    *,
    n_variables: Positive = 10,
    graph: Graph = "erdos_renyi",
    edges_per_node: Annotated[float, Ge(0)] = 1.0,
    mechanism: Family = "linear",
    weights: Draw = {"plus_minus": (0.5, 2.0)},  # noqa: B006  (never changed)
    length_scale: Annotated[float, Gt(0)] = 1.0,
    noise: NoiseLaw = "gaussian",
    noise_variance: PositiveDraw = 1.0,
    source_variance: PositiveDraw | None = None,
    n_observational: Count = 500,
    n_environments: Count = 10,
    n_per_environment: SampleSizes = 100,
    n_targets: TargetCounts = 1,
    target_choice: TargetChoice = "independent",
    interventions: Kinds = "hard",
    intervention_sizes: InterventionSizes = {},  # noqa: B006
    n_held_out: Count = 0,
    few_shot_sizes: Annotated[list[Positive], Len(1)] = [3, 10, 30],  # noqa: B006
    n_query: Count = 100,
    held_out_n_targets: TargetCounts | None = None,
    confounding: ProperShare = 0.0,
    heteroscedasticity: Share = 0.0,
    drift: Strength = 0.0,
    escape: Share = 0.0,
    measurement_error: Strength = 0.0,
    mislabelled: Share = 0.0,
) -> Problem:
    """Draw a graph, mechanisms and noise, and sample them with and without interventions.

    Parameters
    ----------
    rng : Generator
    n_variables : int
        d.
    graph : {"erdos_renyi", "scale_free_in", "scale_free_out", "chain", "random_tree"}
        The scale-free ones have a power law of the in- or the out-degree.
    edges_per_node : float
        Expected edges per node: edges_per_node * d in all. No say in a chain or tree.
    mechanism : {"linear", "mlp_bacadi", "mlp_dcdi", "dcdi_nonadditive", "smooth"}
        See ``datasets.synthetic.mechanisms``.
    weights : number, range or mapping
        Weights of linear mechanisms; forms as in ``bench.draws``.
    length_scale : float
        Of smooth mechanisms.
    noise : {"gaussian", "laplace", "uniform", "gumbel"}
        Law of the noise, standardised.
    noise_variance : number, range or mapping
        Drawn once per node.
    source_variance : number, range or mapping, optional
        Variance of the nodes without parents; noise_variance where None.
    n_observational : int
        Samples without intervention; 0 for none.
    n_environments : int
        Environments with interventions.
    n_per_environment : int or list of int
        Samples of each: one size, one per environment, or a range [low, high].
    n_targets : int, [low, high] or {number: probability}
        Targets per environment.
    target_choice : {"independent", "covering"}
        Environments draw their targets each for itself, or so that none is hit twice before all were.
    interventions : str or mapping of str to float
        "hard_constant", "hard", "shift", "scale", "noise", "mechanism_change", "imperfect", "mixture" of all alike, or
        weights; one kind is drawn per environment.
    intervention_sizes : mapping of str to number, range or mapping
        What differs from ``bench.interventions.DEFAULT_SIZES``.
    n_held_out : int
        Environments that ``fit`` never sees.
    few_shot_sizes : list of int
        Samples to adapt to in a held-out environment.
    n_query : int
        Further samples of each, for the held-out density.
    held_out_n_targets : int, [low, high] or {number: probability}, optional
        As in training where None.
    confounding : float
        A hidden cause of half of the variables, as the correlation that it makes between their noises; 0 for none.
    heteroscedasticity : float
        Share of each noise variance that is proportional to the square of what the parents contribute; 0 for none.
    drift : float
        Of every variable that is no target in every environment with an intervention, in standard deviations of its noise:
        its mean by N(0, drift²), the logarithm of its deviation as well. Still no targets; 0 for none.
    escape : float
        Probability of each sample that the intervention missed it.
    measurement_error : float
        Standard deviation of the noise on every measured value, in standard deviations of the variable without intervention.
    mislabelled : float
        Share of the environments of which the oracle track tells wrong targets.

    Raises
    ------
    InputError
        If the factors do not fit each other, such as more edges than pairs or more targets than variables.
    """
    model = draw_model(
        rng,
        n_variables=n_variables,
        graph=graph,
        edges_per_node=edges_per_node,
        mechanism=mechanism,
        weights=weights,
        length_scale=length_scale,
        noise=noise,
        noise_variance=noise_variance,
        source_variance=source_variance,
    )
    n_scaled_down = sum(node.scale < 1 for node in model.nodes)
    if confounding:
        model = with_hidden_cause(model, confounding, rng)
    if heteroscedasticity:
        model = with_heteroscedastic_noise(model, heteroscedasticity, rng)
    changes = Interventions(interventions, intervention_sizes)
    return run_experiment(
        model,
        rng,
        n_observational=n_observational,
        n_environments=n_environments,
        n_per_environment=n_per_environment,
        n_targets=n_targets,
        target_choice=target_choice,
        interventions=Drifting(changes, drift) if drift else changes,
        held_out=HeldOutPlan(n_held_out, tuple(few_shot_sizes), n_query, held_out_n_targets),
        flaws=Flaws(escape, measurement_error, mislabelled),
        diagnostics={"n_scaled_down": n_scaled_down},
    )
