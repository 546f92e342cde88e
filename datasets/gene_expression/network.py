"""Gene regulation: who regulates whom, how strongly, and what a perturbation does to a gene's production.

A gene without regulators is a master regulator, produced at a basal rate that depends on the cell type; any other is produced
at P = Σ |K| H(x), summed over its regulators, where H rises (activator, K > 0) or falls (repressor, K < 0) from 0 to 1 or back
with the regulator's expression x and is one half at its half response.

References
----------
P. Dibaeinia, S. Sinha, "SERGIO: a single-cell expression simulator guided by gene regulatory networks", Cell Systems 11
(2020), equations 1 to 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Len

from bench.draws import Spec, draw
from bench.graphs import topological_order
from bench.scm import IntArray
from bench.types import BoolArray, FloatArray

Kind = Literal["knockout", "knockdown", "overexpression"]
Kinds = Kind | Annotated[dict[Kind, Annotated[float, Ge(0)]], Len(1)]
"""Annotation: one kind, or kinds with their weights; one is drawn per environment."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A gene regulatory network in several cell types.

    Parameters
    ----------
    strength : float64 (d, d)
        K, of regulator i (row) on gene j (column); its sign says whether it activates; 0 where it does not regulate.
    basal_rate : float64 (C, d)
        Production of master regulators in each of C cell types; that of other genes is not used.
    decay : float
        λ, the same for all genes.
    hill_coefficient : int
        m, how steeply a regulator acts.
    """

    strength: FloatArray
    basal_rate: FloatArray
    decay: float = 0.8
    hill_coefficient: int = 2

    @property
    def n_genes(self) -> int:
        return len(self.strength)

    @property
    def n_cell_types(self) -> int:
        return len(self.basal_rate)

    def adjacency(self) -> BoolArray:
        """bool (d, d), [i, j] where i regulates j."""
        return np.asarray(self.strength != 0)

    def layers(self) -> list[IntArray]:
        """Genes by the length of the longest path that leads to them: master regulators first."""
        depth = np.zeros(self.n_genes, dtype=np.intp)
        for gene in topological_order(self.adjacency()):
            depth[gene] = 1 + depth[self.regulators(gene)].max(initial=-1)
        return [np.flatnonzero(depth == level) for level in range(depth.max() + 1)]

    def regulators(self, gene: int) -> IntArray:
        return np.flatnonzero(self.strength[:, gene])


def draw_network(
    graph: BoolArray,
    rng: np.random.Generator,
    *,
    n_cell_types: int = 10,
    basal_rate: Spec = (1.0, 3.0),
    strength: Spec = (1.0, 5.0),
    activation: tuple[float, float] = (0.2588, 0.2499),
    decay: float = 0.8,
    hill_coefficient: int = 2,
) -> Network:
    """Draw rates, strengths and signs for a graph.

    Parameters
    ----------
    graph : bool (d, d)
        Acyclic.
    rng : Generator
    n_cell_types : int
    basal_rate, strength : number, range or mapping
        Of each master regulator in each cell type, and |K| of each edge; forms as in ``bench.draws``.
    activation : (float, float)
        Each regulator activates a gene with a probability of its own, drawn from the Beta distribution of these parameters.
        The default is BaCaDI's, with most mass near 0 and 1: most regulators nearly always do the same.
    decay : float
    hill_coefficient : int
    """
    d = len(graph)
    share = rng.beta(*activation, size=d)
    signs = np.where(rng.random((d, d)) < share[:, None], 1.0, -1.0)
    sizes = draw(strength, d * d, rng).reshape(d, d)
    rates = draw(basal_rate, n_cell_types * d, rng).reshape(n_cell_types, d)
    return Network(np.where(graph, signs * sizes, 0.0), rates, decay, hill_coefficient)


@dataclass(frozen=True, slots=True)
class Perturbations:
    """Kinds of perturbation and their sizes, drawn afresh for every environment and target.

    Each multiplies the production of its targets, and what they start from, by a factor; all else stays as it is.

    Parameters
    ----------
    kinds : str or mapping of str to float
        "knockout" (factor 0), "knockdown", "overexpression", or weights of these; one is drawn per environment.
    sizes : mapping of str to number, range or mapping
        Factors of knockdown and overexpression.
    """

    kinds: Kinds = "knockout"
    sizes: Mapping[str, Spec] = field(default_factory=lambda: {"knockdown": 0.5, "overexpression": 2.0})

    def draw(self, model: object, targets: Iterable[int], rng: np.random.Generator) -> dict[int, float]:
        """The factor of each target, all of one kind."""
        weights = {self.kinds: 1.0} if isinstance(self.kinds, str) else dict(self.kinds)
        share = np.array(list(weights.values()))
        kind = list(weights)[int(rng.choice(len(weights), p=share / share.sum()))]
        return {int(t): 0.0 if kind == "knockout" else float(draw(self.sizes[kind], 1, rng)[0]) for t in targets}
