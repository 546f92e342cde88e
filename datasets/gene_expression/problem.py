"""The dataset "gene_expression": single cells of a random regulatory network, some of whose genes are perturbed.

Cell types are a hidden factor that all environments share alike, unless asked otherwise: any C cells in a row hold one of each
of C types, in random order. They correlate master regulators, as they do in tissue, and no method is told of them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Len

from bench.draws import PositiveDraw
from bench.errors import InputError
from bench.experiments import Count, HeldOutPlan, Positive, SampleSizes, TargetChoice, TargetCounts, run_experiment
from bench.flaws import Flaws, Share
from bench.graphs import is_acyclic
from bench.random_graphs import Graph, draw_graph
from bench.registry import register_dataset
from bench.scm import IntArray
from bench.types import BoolArray, FloatArray, Meta, Problem
from datasets.gene_expression.network import Kinds, Perturbations, draw_network
from datasets.gene_expression.simulator import Dynamics, Noise
from datasets.gene_expression.technical_noise import Measurement, Technology

N_UNPERTURBED = 500
"""Cells by which a measurement is placed."""


class Surroundings(NamedTuple):
    """What one environment changes: the production of its targets by a factor each, and the cell type that prevails, if any."""

    factors: dict[int, float]
    prevailing_type: int | None


@dataclass(frozen=True, slots=True)
class Treatments:
    """Perturbations, each in cells of another mix of types where ``cell_type_shift`` is above 0."""

    perturbations: Perturbations
    cell_type_shift: float

    def draw(self, model: CellModel, targets: IntArray, rng: np.random.Generator) -> Surroundings:
        factors, prevailing = self.perturbations.draw(model, targets, rng), None
        if self.cell_type_shift:  # from a stream of its own: the perturbations stay the same
            prevailing = int(rng.spawn(1)[0].integers(model.dynamics.network.n_cell_types))
        return Surroundings(factors, prevailing)


@dataclass(frozen=True, slots=True, eq=False)
class CellModel:
    """Cells of one environment, as ``bench.experiments`` samples them.

    Parameters
    ----------
    dynamics : Dynamics
    measurement : Measurement or None
        None measures expression itself.
    factors : float64 (d,)
        By which the production of each gene is multiplied.
    cell_type_shift : float
        Probability of each cell to be of the prevailing type, where there is one; the others keep the even mix.
    prevailing_type : int or None
    """

    dynamics: Dynamics
    measurement: Measurement | None
    factors: FloatArray
    cell_type_shift: float = 0.0
    prevailing_type: int | None = None

    @property
    def n_variables(self) -> int:
        return self.dynamics.network.n_genes

    def adjacency(self) -> BoolArray:
        return self.dynamics.network.adjacency()

    def intervened(self, changes: Surroundings) -> CellModel:
        factors = self.factors.copy()
        factors[list(changes.factors)] = list(changes.factors.values())
        return dataclasses.replace(self, factors=factors, prevailing_type=changes.prevailing_type)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Cells, float64 (n, d)."""
        n_types = self.dynamics.network.n_cell_types
        types = np.concatenate([rng.permutation(n_types) for _ in range(-(-n // n_types))])[:n]
        if self.prevailing_type is not None:
            types[rng.spawn(1)[0].random(n) < self.cell_type_shift] = self.prevailing_type
        X = self.dynamics.expression(types, self.factors, rng)
        return X if self.measurement is None else self.measurement(X, rng)


@register_dataset(
    "gene_expression",
    meta=Meta(
        "Single cells of a random gene regulatory network (SERGIO's equations), with knockouts, knockdowns and overexpression.",
        "Dibaeinia, Sinha, SERGIO, Cell Systems 11, 2020; interventions as in Hägele et al., BaCaDI, AISTATS 2023",
        source="simulated by this project from SERGIO's equations; no code and no data of SERGIO",
        known="regulatory graph and perturbed genes, exactly: the cells were simulated from them",
        not_known="cell types are a hidden common cause of master regulators; with technical noise library sizes move all",
    ),
    golden="101de437db9402b9",
)
def gene_expression(
    rng: np.random.Generator,
    *,
    n_variables: Positive = 20,
    graph: Graph = "scale_free_out",
    edges_per_node: Annotated[float, Ge(0)] = 2.0,
    edges: list[tuple[Count, Count]] | None = None,
    n_cell_types: Positive = 10,
    basal_rate: PositiveDraw = (1.0, 3.0),
    strength: PositiveDraw = (1.0, 5.0),
    activation: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.2588, 0.2499),
    hill_coefficient: Positive = 2,
    decay: Annotated[float, Gt(0)] = 0.8,
    amplitude: Annotated[float, Ge(0)] = 1.0,
    noise: Noise = "dpd",
    technical_noise: Technology | Literal["none"] = "none",
    n_observational: Count = 100,
    n_environments: Count = 10,
    n_per_environment: SampleSizes = 10,
    n_targets: TargetCounts = 1,
    target_choice: TargetChoice = "independent",
    interventions: Kinds = "knockout",
    knockdown: PositiveDraw = 0.5,
    overexpression: PositiveDraw = 2.0,
    n_held_out: Count = 0,
    few_shot_sizes: Annotated[list[Positive], Len(1)] = [3, 10, 30],  # noqa: B006  (never changed)
    n_query: Count = 100,
    held_out_genes: Literal["any", "unseen"] = "any",
    cell_type_shift: Share = 0.0,
    escape: Share = 0.0,
) -> Problem:
    """Draw a network, and simulate cells with and without perturbed genes.

    Parameters
    ----------
    rng : Generator
    n_variables : int
        Genes.
    graph, edges_per_node
        As in the dataset "synthetic".
    edges : list of [regulator, gene], optional
        A given graph, of genes numbered from 0; ``graph`` and ``edges_per_node`` then have no say.
    n_cell_types : int
    basal_rate, strength : number, range or mapping
        Of master regulators in each cell type, and of each edge; forms as in ``bench.draws``.
    activation : [float, float]
        Parameters of the Beta distribution of each regulator's probability to activate a gene.
    hill_coefficient : int
    decay, amplitude : float
        λ and q.
    noise : {"dpd", "sp", "spd"}
        See ``datasets.gene_expression.simulator``.
    technical_noise : {"none", "10x-1", "10x-2", "10x-3", "illumina", "drop-seq", "smart-seq"}
        Measure counts as a technology would, or expression itself.
    n_observational, n_environments, n_per_environment, n_targets, target_choice
        As in "synthetic", in cells.
    interventions : str or mapping of str to float
        "knockout", "knockdown", "overexpression", or weights; one kind is drawn per environment.
    knockdown, overexpression : number, range or mapping
        Factors of a target's production.
    n_held_out, few_shot_sizes, n_query
        As in "synthetic".
    held_out_genes : {"any", "unseen"}
        Whether held-out environments may perturb genes that training environments perturb.
    cell_type_shift : float
        Share of the cells of each environment with a perturbation that are of one type, drawn for it at random; the others
        keep the even mix. What differs between types then differs between environments, without being a target.
    escape : float
        Probability of each cell that the perturbation missed it.

    Raises
    ------
    InputError
        If the factors do not fit each other, such as an edge to a gene that there is not.
    """
    dag = draw_graph(graph, n_variables, edges_per_node, rng) if edges is None else _given(edges, n_variables)
    network = draw_network(
        dag,
        rng,
        n_cell_types=n_cell_types,
        basal_rate=basal_rate,
        strength=strength,
        activation=activation,
        decay=decay,
        hill_coefficient=hill_coefficient,
    )
    dynamics = Dynamics.of(network, rng, amplitude=amplitude, noise=noise)
    model = CellModel(dynamics, None, np.ones(n_variables), cell_type_shift)
    if technical_noise != "none":
        unperturbed = model.sample(N_UNPERTURBED, rng)
        model = dataclasses.replace(model, measurement=Measurement.of(technical_noise, unperturbed, rng))
    return run_experiment(
        model,
        rng,
        n_observational=n_observational,
        n_environments=n_environments,
        n_per_environment=n_per_environment,
        n_targets=n_targets,
        target_choice=target_choice,
        interventions=Treatments(
            Perturbations(interventions, {"knockdown": knockdown, "overexpression": overexpression}), cell_type_shift
        ),
        held_out=HeldOutPlan(n_held_out, tuple(few_shot_sizes), n_query, unseen=held_out_genes == "unseen"),
        flaws=Flaws(escape),
        variable_names=[f"G{i}" for i in range(n_variables)],
    )


def _given(edges: list[tuple[int, int]], d: int) -> BoolArray:
    graph = np.zeros((d, d), dtype=bool)
    for regulator, gene in edges:
        if not (regulator < d and gene < d and regulator != gene):
            raise InputError(f"edges must be pairs of different genes from 0 to {d - 1}, got [{regulator}, {gene}]")
        graph[regulator, gene] = True
    if not is_acyclic(graph):
        raise InputError("edges must form an acyclic graph, got a cycle")
    return graph
