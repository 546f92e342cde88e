"""Published protocols as settings of the synthetic dataset, with targets always drawn at random.

Each keeps the sizes and laws of its paper and differs only where the published generator gives something away or breaks its
own model; every such difference is named. Results on them are not comparable with the papers' to the digit.
"""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt, Len

from bench.draws import Spec
from bench.experiments import Count, HeldOutPlan, Positive, run_experiment
from bench.interventions import Interventions
from bench.registry import register_dataset
from bench.types import Meta, Problem
from datasets.synthetic.model import draw_model
from datasets.synthetic.problem import synthetic


@register_dataset(
    "bacadi",
    meta=Meta(
        "BaCaDI's protocol: 100 observational samples, d environments of 10 with one hard target.",
        "Hägele et al., BaCaDI: Bayesian Causal Discovery with Unknown Interventions, AISTATS 2023",
        source="simulated by this project after the paper's protocol",
        known="graph and targets, exactly: the samples were drawn from them",
        not_known="nothing of the model; the authors' own draws are not reproduced, only their distribution",
    ),
    golden="c5586f91720ab06c",
)
def bacadi(
    rng: np.random.Generator,
    *,
    n_variables: Positive = 20,
    graph: Literal["erdos_renyi", "scale_free_out"] = "erdos_renyi",
    mechanism: Literal["linear", "mlp_bacadi"] = "linear",
    double_data: bool = False,
    n_held_out: Count = 10,
    few_shot_sizes: Annotated[list[Positive], Len(1)] = [3, 10, 30],  # noqa: B006  (never changed)
    n_query: Count = 100,
) -> Problem:
    """Draw a problem of BaCaDI's protocol.

    Deviation: environment i of the paper always hits variable i, so that the answer can be read off the order; here the
    targets are independent draws. Held-out environments also have a support set, for few-shot adaptation.

    Parameters
    ----------
    rng : Generator
    n_variables : int
        20 in the paper, 50 in its appendix.
    graph : {"erdos_renyi", "scale_free_out"}
        Two edges per node ("ER" and "SF").
    mechanism : {"linear", "mlp_bacadi"}
    double_data : bool
        200 observational samples and environments of 20.
    n_held_out, few_shot_sizes, n_query
        Environments with a fifth of the variables set to N(-5, variance .5), as for the paper's held-out likelihood.
    """
    model = draw_model(
        rng,
        n_variables=n_variables,
        graph=graph,
        edges_per_node=2.0,
        mechanism=mechanism,
        weights={"plus_minus": (0.5, 2.0)},
        length_scale=1.0,
        noise="gaussian",
        noise_variance=(0.05, 0.15),
    )
    return run_experiment(
        model,
        rng,
        n_observational=200 if double_data else 100,
        n_environments=n_variables,
        n_per_environment=20 if double_data else 10,
        n_targets=1,
        interventions=Interventions("hard", {"hard_mean": {"offset_normal": (5.0, 2.0)}, "hard_variance": 0.5}),
        held_out=HeldOutPlan(
            n_held_out,
            tuple(few_shot_sizes),
            n_query,
            n_targets=ceil(0.2 * n_variables),
            interventions=Interventions("hard", {"hard_mean": -5.0, "hard_variance": 0.5}),
        ),
    )


@register_dataset(
    "dcdi",
    meta=Meta(
        "DCDI's protocol: 10,000 samples over one environment per variable, perfect or imperfect.",
        "Brouillard et al., Differentiable Causal Discovery from Interventional Data, NeurIPS 2020",
        source="simulated by this project after the paper's protocol",
        known="graph and targets, exactly: the samples were drawn from them",
        not_known="nothing of the model; the authors' generator moved the noise of non-targets as well, this one does not",
    ),
    golden="ddf7ee03bed8ee7d",
)
def dcdi(
    rng: np.random.Generator,
    *,
    n_variables: Literal[10, 20] = 10,
    edges_per_node: Annotated[float, Gt(0)] = 1.0,
    mechanism: Literal["linear", "mlp_dcdi", "dcdi_nonadditive"] = "linear",
    interventions: Literal["perfect", "imperfect"] = "perfect",
    observational: bool = True,
    n_samples: Positive = 10_000,
) -> Problem:
    """Draw a problem of DCDI's protocol.

    Deviation: the published generator draws every noise variance anew in every environment, so that non-targets change
    too; here they keep theirs.

    Parameters
    ----------
    rng : Generator
    n_variables : {10, 20}
        One target per environment, each variable once, for 10; one or two at random for 20.
    edges_per_node : float
        1 or 4 in the paper.
    mechanism : {"linear", "mlp_dcdi", "dcdi_nonadditive"}
    interventions : {"perfect", "imperfect"}
        Perfect is N(2, 1). Imperfect moves linear weights by ±U[2, 5] and output weights of networks by N(0, 1); sources
        become N(2, 1).
    observational : bool
        Whether one more environment has no intervention, as in the published files.
    n_samples : int
        In all, divided evenly; a remainder is dropped.
    """
    noise: Spec = (0.16, 0.32)  # 0.4 times noise of variance U[1, 2]; sources have the full noise
    size = n_samples // (n_variables + observational)
    return synthetic(
        rng,
        n_variables=n_variables,
        edges_per_node=edges_per_node,
        mechanism=mechanism,
        weights={"plus_minus": (0.25, 1.0)},
        noise_variance=noise,
        source_variance=(1.0, 2.0),
        n_observational=size * observational,
        n_environments=n_variables,
        n_per_environment=size,
        n_targets=1 if n_variables == 10 else (1, 2),
        target_choice="covering" if n_variables == 10 else "independent",
        interventions="hard" if interventions == "perfect" else "imperfect",
        intervention_sizes={"hard_mean": 2.0, "hard_variance": 1.0},
    )


@register_dataset(
    "utigsp",
    meta=Meta(
        "UT-IGSP's protocol: observational and 5 environments of 1 to 4 targets, shift or hard.",
        "Squires, Wang, Uhler, Permutation-Based Causal Structure Learning with Unknown Intervention Targets, UAI 2020",
        source="simulated by this project after the paper's protocol",
        known="graph and targets, exactly: the samples were drawn from them",
        not_known="nothing of the model; that one target of each environment is known there is not told here",
    ),
    golden="44e914bf3a437847",
)
def utigsp(
    rng: np.random.Generator,
    *,
    n_variables: Positive = 20,
    interventions: Literal["shift", "hard"] = "shift",
    n_per_environment: Positive = 1000,
) -> Problem:
    """Draw a problem of UT-IGSP's protocol, with no target known.

    Deviation: the paper tells one of the targets of each environment; here all are unknown.

    Parameters
    ----------
    rng : Generator
    n_variables : int
        20 in the paper, with 1.5 expected neighbours.
    interventions : {"shift", "hard"}
        A shift by +2, or N(1, variance .01).
    n_per_environment : int
        1000 to 5000 in the paper; the observational environment is as large.
    """
    return synthetic(
        rng,
        n_variables=n_variables,
        edges_per_node=0.75,
        weights={"plus_minus": (0.25, 1.0)},
        n_observational=n_per_environment,
        n_environments=5,
        n_per_environment=n_per_environment,
        n_targets=(1, 4),
        interventions=interventions,
        intervention_sizes={"shift": 2.0, "hard_mean": 1.0, "hard_variance": 0.01},
    )


@register_dataset(
    "gnies",
    meta=Meta(
        "GnIES's protocol: observational and 3 environments with distinct single targets.",
        "Gamella, Taeb, Heinze-Deml, Bühlmann, Characterization and Greedy Learning of Gaussian Structural Causal Models "
        "under Unknown Interventions, 2022",
        source="simulated by this project after the paper's protocol",
        known="graph and targets, exactly: the samples were drawn from them",
        not_known="nothing of the model; the authors' own draws are not reproduced, only their distribution",
    ),
    golden="c938f3cf12b46990",
)
def gnies(
    rng: np.random.Generator,
    *,
    interventions: Literal["noise", "do"] = "noise",
    n_per_environment: Positive = 1000,
) -> Problem:
    """Draw a problem of GnIES's protocol.

    Parameters
    ----------
    rng : Generator
    interventions : {"noise", "do"}
        Added noise of variance U[5, 10], or N(0, variance U[5, 10]).
    n_per_environment : int
        10, 100 or 1000 in the paper; the observational environment is as large.
    """
    return synthetic(
        rng,
        n_variables=10,
        edges_per_node=1.35,  # average degree 2.7
        weights=(0.5, 1.0),
        noise_variance=(1.0, 2.0),
        n_observational=n_per_environment,
        n_environments=3,
        n_per_environment=n_per_environment,
        target_choice="covering",
        interventions="noise" if interventions == "noise" else "hard",
        intervention_sizes={"added_variance": (5.0, 10.0), "hard_mean": 0.0, "hard_variance": (5.0, 10.0)},
    )
