"""Expression of single cells by the chemical Langevin equation, every cell the end of a trajectory of its own.

x ← max(0, x + dt (P - λ x) + √dt η), where P is the production and η the noise of production and decay. A trajectory starts at
the steady state that the equation would have without noise, and runs long enough to forget it, as long in every environment.
Genes are simulated layer by layer (all regulators of a gene before it), and all cells at once.

References
----------
P. Dibaeinia, S. Sinha, "SERGIO: a single-cell expression simulator guided by gene regulatory networks", Cell Systems 11
(2020). Deviations: each cell has a trajectory of its own, where SERGIO takes cells from one; half responses are those of the
unperturbed system in every environment, where published extensions to interventions estimate them anew in each, which hides
what a knockout does downstream of its children; and all start after the same burn-in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.compiled import compiled
from bench.scm import IntArray
from bench.types import FloatArray
from datasets.gene_expression.network import Network

Noise = Literal["dpd", "sp", "spd"]
"""η = q (√P ξ₁ + √(λx) ξ₂), q √P ξ, or q (√P + √(λx)) ξ."""

TIME_STEP = 0.01
BURN_IN = 1000
"""Steps; the relaxation time of a master regulator is 1 / (decay × TIME_STEP), 125 at the usual decay."""

RELAXATIONS_PER_LAYER = 1.0
"""How much longer trajectories run for each layer below the first."""

N_REFERENCE_CELLS = 200
"""Unperturbed cells from which half responses are estimated; every cell type has as many, at least one."""

_CHUNK_MEMORY = 2**24
"""Bytes of trajectories that are kept at once; more would leave the processor's cache."""

_NOISES = ("dpd", "sp", "spd")
_SMALLEST_HALF_RESPONSE = 1e-12
"""In place of that of a gene that is never expressed: any expression is then much."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Dynamics:
    """A network and how it moves.

    Parameters
    ----------
    network : Network
    half_response : float64 (d,)
        Mean expression of each gene over the unperturbed cell types.
    amplitude : float
        q, of the noise; 0 for none.
    noise : {"dpd", "sp", "spd"}
        Of production and decay, of production alone, or of both at once.
    """

    network: Network
    half_response: FloatArray
    amplitude: float = 1.0
    noise: Noise = "dpd"

    @classmethod
    def of(cls, network: Network, rng: np.random.Generator, *, amplitude: float = 1.0, noise: Noise = "dpd") -> Dynamics:
        """Estimate the half responses, layer by layer, from unperturbed cells."""
        unknown = np.full(network.n_genes, np.nan)
        types = np.repeat(np.arange(network.n_cell_types), max(1, N_REFERENCE_CELLS // network.n_cell_types))
        known = cls(network, unknown, amplitude, noise)._run(types, np.ones((len(types), network.n_genes)), rng).half_response
        return cls(network, known, amplitude, noise)

    @property
    def n_steps(self) -> int:
        """Length of every trajectory."""
        extra = RELAXATIONS_PER_LAYER * (len(self.network.layers()) - 1) / (self.network.decay * TIME_STEP)
        return BURN_IN + round(extra)

    def expression(self, types: IntArray, factors: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Simulate cells.

        Parameters
        ----------
        types : int (n,)
            Cell type of each.
        factors : float64 (n, d) or (d,)
            By which the production of each gene is multiplied: 1 where it is not perturbed.
        rng : Generator

        Returns
        -------
        float64 (n, d)
            Expression before any measurement.
        """
        factors = np.broadcast_to(factors, (len(types), self.network.n_genes))
        chunk = max(1, _CHUNK_MEMORY // (4 * self.n_steps * self.network.n_genes))
        parts = [slice(start, start + chunk) for start in range(0, len(types), chunk)]
        return np.concatenate([self._run(types[part], factors[part], rng).expression for part in parts])

    def steady_state(self, types: IntArray, factors: FloatArray) -> FloatArray:
        """Where cells would end without noise, float64 (n, d); arguments as of :meth:`expression`."""
        factors = np.broadcast_to(factors, (len(types), self.network.n_genes))
        state: dict[int, FloatArray] = {}
        for gene in np.concatenate(self.network.layers()):
            production = _production(self.network, gene, state, self.half_response, types)
            state[gene] = factors[:, gene] * production / self.network.decay
        return np.stack([state[gene] for gene in range(self.network.n_genes)], axis=1)

    def _run(self, types: IntArray, factors: FloatArray, rng: np.random.Generator) -> _Run:
        """All cells at once; half responses that are not known are estimated on the way."""
        network, n_steps, half = self.network, self.n_steps, self.half_response.copy()
        start: dict[int, FloatArray] = {}
        paths: dict[int, Floats] = {}
        shocks = np.empty((n_steps, len(types)), dtype=np.float32)
        for gene in np.concatenate(network.layers()):
            start[gene] = factors[:, gene] * _production(network, gene, start, half, types) / network.decay
            production = _production(network, gene, paths, half, types) * factors[:, gene].astype(np.float32)
            paths[gene] = _path(
                start[gene].astype(np.float32),
                np.broadcast_to(production.astype(np.float32, copy=False), (n_steps, len(types))),
                rng.standard_normal(out=shocks, dtype=np.float32),
                np.float32(network.decay),
                np.float32(self.amplitude),
                _NOISES.index(self.noise),
            )
            if np.isnan(half[gene]):
                half[gene] = paths[gene][n_steps // 2 :].mean(dtype=np.float64)
        ends = np.stack([paths[gene][-1] for gene in range(network.n_genes)], axis=1)
        return _Run(ends.astype(np.float64), half)


class _Run(NamedTuple):
    expression: FloatArray
    half_response: FloatArray


def _production(
    network: Network, gene: int, expression: Mapping[int, npt.NDArray[Any]], half: FloatArray, types: IntArray
) -> npt.NDArray[Any]:
    """P of a gene without perturbation, of the shape (..., n) of its regulators' ``expression``."""
    regulators = network.regulators(gene)
    if not len(regulators):
        return np.asarray(network.basal_rate[types, gene])
    total: Any = 0.0
    for i in regulators:
        strength, power = float(network.strength[i, gene]), expression[i] ** network.hill_coefficient
        rise = power / (power + float(max(half[i], _SMALLEST_HALF_RESPONSE)) ** network.hill_coefficient)
        total = total + abs(strength) * (rise if strength > 0 else 1.0 - rise)
    return np.asarray(total)


@compiled
def _path(start: Any, production: Any, shocks: Any, decay: Any, amplitude: Any, noise: Any) -> Any:
    """Expression of one gene after each step, float32 (steps, n)."""
    dt = np.float32(TIME_STEP)
    size = amplitude * np.sqrt(dt)
    path = np.empty_like(shocks)
    for step in range(len(shocks)):
        before = start if step == 0 else path[step - 1]
        for cell in range(shocks.shape[1]):
            gain, loss = production[step, cell], decay * before[cell]
            if noise == 0:  # two independent normal terms are one
                spread = np.sqrt(gain + loss)
            elif noise == 1:
                spread = np.sqrt(gain)
            else:
                spread = np.sqrt(gain) + np.sqrt(loss)
            after = before[cell] + dt * (gain - loss) + size * spread * shocks[step, cell]
            path[step, cell] = max(after, np.float32(0.0))
    return path
