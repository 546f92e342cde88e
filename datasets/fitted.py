"""Linear-Gaussian networks fitted to real data (bnlearn repository), simulated with interventions on top.

Structure, coefficients and variances are those of the fit; the interventions are ours. Their sizes are in standard
deviations of each variable without intervention, since the networks' units differ by orders of magnitude; samples come in
the networks' units.

References
----------
Schäfer, Strimmer, "A Shrinkage Approach to Large-Scale Covariance Matrix Estimation", 2005 (ecoli70).
Opgen-Rhein, Strimmer, "From Correlation to Causation Networks", BMC Systems Biology 1:37, 2007 (arth150).
Scutari, Howell, Balding, Mackay, "Multiple Quantitative Trait Analysis Using Bayesian Networks", Genetics 198:129, 2014
(magic_irri).
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Len

from bench.data_directory import DataFile, read
from bench.errors import InputError
from bench.experiments import Count, HeldOutPlan, Positive, SampleSizes, TargetChoice, TargetCounts, run_experiment
from bench.graphs import reachability
from bench.interventions import Interventions, InterventionSizes, Kinds
from bench.registry import register_dataset
from bench.scm import SOURCE, IntArray, Linear, LinearModel, Node
from bench.types import BoolArray, FloatArray, Meta, Problem

Network = Literal["ecoli70", "arth150", "magic_irri"]

_WHEEL = "pip:pgmpy==1.0.0"
_WHEEL_SHA256 = "7bec23b5507a466a612c19e93ce4b43f156c1293120ef53cf83797ba100c3d29"


def data_file(network: Network) -> DataFile:
    """Where a network is found: a JSON file, which the package pgmpy ships as well."""
    name = f"{network.replace('_', '-')}.json"
    return DataFile(f"gaussian_bn/{name}", _WHEEL, _WHEEL_SHA256, f"pgmpy/utils/example_models/{name}")


@register_dataset(
    "fitted",
    meta=Meta(
        "Linear-Gaussian networks fitted to real data, with simulated interventions.",
        "bnlearn repository, https://www.bnlearn.com/bnrepository/",
        licence="MIT (as shipped in pgmpy)",
        source="simulated by this project from networks of the bnlearn repository (ecoli70, arth150, magic-irri)",
        known="graph and targets, exactly: the samples were drawn from the fitted network",
        not_known="whether the fitted graph is that of the organism: it was learned from data, its interventions are ours",
    ),
    tags={"linear"},
    golden="d9d2dabb5685ab7f",
)
def fitted(
    rng: np.random.Generator,
    *,
    network: Network = "ecoli70",
    n_variables: Positive | None = None,
    n_observational: Count = 500,
    n_environments: Count = 10,
    n_per_environment: SampleSizes = 100,
    n_targets: TargetCounts = 1,
    target_choice: TargetChoice = "independent",
    interventions: Kinds = "hard",
    intervention_sizes: InterventionSizes = {},  # noqa: B006  (never changed)
    n_held_out: Count = 0,
    few_shot_sizes: Annotated[list[Positive], Len(1)] = [3, 10, 30],  # noqa: B006
    n_query: Count = 100,
) -> Problem:
    """Sample a fitted network with and without interventions.

    Parameters
    ----------
    rng : Generator
    network : {"ecoli70", "arth150", "magic_irri"}
        46, 107 and 64 variables; 70, 150 and 102 edges.
    n_variables : int or None
        Draw as many of them, causes included, so that what is left is a linear-Gaussian network as well, exactly, with no
        cause hidden; another part of the network in every draw. All of it by default.
    n_observational, n_environments, n_per_environment, n_targets, target_choice, interventions
        As in the dataset "synthetic".
    intervention_sizes : mapping of str to number, range or mapping
        As in "synthetic", in standard deviations; "imperfect" is ±U[.5, 1] by default, in standardised coefficients.
    n_held_out, few_shot_sizes, n_query
        As in "synthetic".

    Raises
    ------
    InputError
        If the network has fewer variables than asked for.
    MissingData
        If the network's file is neither at hand nor to be had.
    """
    names, model, mean, deviation = standardised_network(network)
    if n_variables is not None:
        if n_variables > len(names):
            raise InputError(f"n_variables must be at most {len(names)}, the size of {network}, got {n_variables}")
        kept = ancestral_set(model.adjacency(), n_variables, rng)
        names, model = tuple(names[j] for j in kept), _restricted(model, kept)
        mean, deviation = mean[kept], deviation[kept]
    return run_experiment(
        model,
        rng,
        n_observational=n_observational,
        n_environments=n_environments,
        n_per_environment=n_per_environment,
        n_targets=n_targets,
        target_choice=target_choice,
        interventions=Interventions(interventions, {"imperfect": {"plus_minus": (0.5, 1.0)}, **intervention_sizes}),
        held_out=HeldOutPlan(n_held_out, tuple(few_shot_sizes), n_query),
        location=mean,
        unit=deviation,
        variable_names=names,
    )


def standardised_network(network: Network) -> tuple[tuple[str, ...], LinearModel, FloatArray, FloatArray]:
    """Names (d,), the model in units of population standard deviations, and population mean and deviation float64 (d,)."""
    file = data_file(network)
    names, B, intercept, variance = _parse(read(file), file.path)
    total = np.linalg.inv(np.eye(len(names)) - B.T)
    mean = total @ intercept
    deviation = np.sqrt(total**2 @ variance)
    order = _causal_order(B != 0, file.path)
    nodes = []
    for j in range(len(names)):
        parents = np.flatnonzero(B[:, j])
        weights = B[parents, j] * deviation[parents] / deviation[j]
        typical = float(np.sqrt((weights**2).mean())) if len(parents) else 0.0
        # A changed mechanism has coefficients of the same magnitude as the fitted ones.
        mechanism = Linear(weights, {"plus_minus": (0.5 * typical, 2.0 * typical)}) if len(parents) else SOURCE
        nodes.append(Node(parents, mechanism, noise_variance=float(variance[j] / deviation[j] ** 2)))
    return names, LinearModel(tuple(nodes), order), mean, deviation


def ancestral_set(graph: BoolArray, size: int, rng: np.random.Generator) -> IntArray:
    """Draw so many variables that contain all of their ancestors: random ones in turn, each with its ancestors where they fit.

    Parameters
    ----------
    graph : bool (d, d)
        Acyclic.
    size : int
        Between 0 and d.
    rng : Generator

    Returns
    -------
    int (size,)
        In rising order.
    """
    closure = reachability(graph).T | np.eye(len(graph), dtype=bool)  # row j: j and its ancestors
    kept = np.zeros(len(graph), dtype=bool)
    while kept.sum() < size:  # each round adds one at least: a variable whose parents are all in
        for j in rng.permutation(len(graph)):
            if (kept | closure[j]).sum() <= size:
                kept |= closure[j]
    return np.flatnonzero(kept)


def _restricted(model: LinearModel, kept: IntArray) -> LinearModel:
    """The model of an ancestral set alone: the nodes as they are, under new numbers."""
    number = np.full(model.n_variables, -1)
    number[kept] = np.arange(len(kept))
    nodes = tuple(replace(model.nodes[j], parents=number[model.nodes[j].parents]) for j in kept)
    return LinearModel(nodes, number[model.order][number[model.order] >= 0])


def _parse(content: bytes, path: str) -> tuple[tuple[str, ...], FloatArray, FloatArray, FloatArray]:
    """Names, weights ``B[i, j]`` of i -> j, intercepts and noise variances of a network file."""
    try:
        stored: dict[str, Any] = json.loads(content)
        names = tuple(stored["nodes"])
        index = {name: i for i, name in enumerate(names)}
        d = len(names)
        B, intercept, variance = np.zeros((d, d)), np.zeros(d), np.zeros(d)
        for name, node in stored["cpds"].items():
            j = index[name]
            variance[j] = node["variance"][0]
            intercept[j] = node["coefficients"]["(Intercept)"][0]
            for parent in node["parents"]:
                B[index[parent], j] = node["coefficients"][parent][0]
    except (KeyError, TypeError, IndexError, ValueError) as reason:
        raise InputError(
            f"data file '{path}' must be a network with nodes and cpds (coefficients, variance, parents): "
            f"{type(reason).__name__} {reason}"
        ) from None
    return names, B, intercept, variance


def _causal_order(graph: BoolArray, path: str) -> IntArray:
    order: list[int] = []
    left = np.ones(len(graph), dtype=bool)
    while left.any():
        sources = np.flatnonzero(left & ~graph[left].any(axis=0))
        if not len(sources):
            raise InputError(f"data file '{path}' must hold an acyclic network")
        order += sources.tolist()
        left[sources] = False
    return np.array(order, dtype=np.intp)
