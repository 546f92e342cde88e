"""What breaks the assumptions of every method: a hidden cause, noise that depends on the parents, non-targets that drift.

Each takes a model or its interventions and a strength; at strength 0 nobody calls it. All draws come from streams of their own,
so that graph, mechanisms, targets and noise are the same at every strength. What goes wrong in an experiment whatever its
model, such as measurement error, is in ``bench.flaws``.

References
----------
Engle, "Autoregressive Conditional Heteroscedasticity", Econometrica 50 (1982): a variance that is a constant plus a multiple
of a square, here of what the parents contribute.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from bench.draws import Spec
from bench.experiments import Changes
from bench.flaws import N_PILOT
from bench.scm import AnyModel, IntArray, Mechanism, Node, StructuralModel
from bench.types import FloatArray


def with_hidden_cause(model: AnyModel, correlation: float, rng: np.random.Generator) -> AnyModel:
    """Give half of the variables (two at least) a hidden common cause.

    The noises of any two of them correlate by ±``correlation``; their variances stay. An intervention that cuts a variable's
    parents cuts it from the hidden cause as well.
    """
    d = model.n_variables
    own = rng.spawn(1)[0]
    loading = np.zeros(d)
    chosen = own.permutation(d)[: max(2, -(-d // 2))]
    loading[chosen] = np.sqrt(correlation) * own.choice([-1.0, 1.0], len(chosen))
    nodes = (dataclasses.replace(node, hidden_loading=float(x)) for node, x in zip(model.nodes, loading, strict=True))
    return type(model)(tuple(nodes), model.order)


@dataclass(frozen=True, slots=True, eq=False)
class Heteroscedastic:
    """A mechanism whose noise is loud where its signal is far from its mean.

    With s the signal (the mechanism without noise) and z = (s - centre) / spread, the variance of the noise is multiplied by
    1 - share + share·z², which is 1 in the mean over unperturbed samples.
    """

    mechanism: Mechanism
    share: float
    centre: float
    spread: float

    @property
    def default_perturbation(self) -> Spec:
        return self.mechanism.default_perturbation

    def __call__(self, parents: FloatArray, noise: FloatArray) -> FloatArray:
        z = (self.mechanism(parents, np.zeros(len(noise))) - self.centre) / self.spread
        return self.mechanism(parents, noise * np.sqrt(1 - self.share + self.share * z**2))

    def redrawn(self, rng: np.random.Generator) -> Mechanism:
        return dataclasses.replace(self, mechanism=self.mechanism.redrawn(rng))

    def perturbed(self, size: Spec, rng: np.random.Generator) -> Mechanism:
        return dataclasses.replace(self, mechanism=self.mechanism.perturbed(size, rng))


def with_heteroscedastic_noise(model: StructuralModel, share: float, rng: np.random.Generator) -> StructuralModel:
    """Let ``share`` of every noise variance be proportional to the square of what the parents contribute; sources stay.

    The result is no linear model, whatever its mechanisms are.
    """
    X = model.sample(N_PILOT, rng.spawn(1)[0])

    def changed(node: Node) -> Node:
        signal = node.mechanism(X[:, node.parents], np.zeros(len(X)))
        if not signal.std():
            return node
        loud = Heteroscedastic(node.mechanism, share, float(signal.mean()), float(signal.std()))
        return dataclasses.replace(node, mechanism=loud)

    return StructuralModel(tuple(changed(node) for node in model.nodes), model.order)


@dataclass(frozen=True, slots=True)
class Drifting:
    """Interventions beside which nothing else stays quite as it was.

    In every environment with an intervention, the noise of each variable that is no target is shifted by size·z standard
    deviations and scaled by exp(size·z'), z and z' standard normal and drawn anew. They are still no targets.
    """

    interventions: Changes
    size: float

    def draw(self, model: StructuralModel, targets: IntArray, rng: np.random.Generator) -> dict[int, Node]:
        changes: dict[int, Node] = self.interventions.draw(model, targets, rng)
        shift, growth = self.size * rng.spawn(1)[0].standard_normal((2, model.n_variables))
        drifted = {
            j: dataclasses.replace(
                node,
                offset=node.offset + node.scale * np.sqrt(node.noise_variance) * shift[j],
                noise_variance=node.noise_variance * np.exp(2 * growth[j]),
            )
            for j, node in enumerate(model.nodes)
        }
        return drifted | changes
