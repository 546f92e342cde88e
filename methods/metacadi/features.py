"""Features of parents: what a mechanism is linear in.

A basis has columns of its own for each variable and for each pair of variables, and a parent set takes those of its members:
Gram matrices of all columns then serve every parent set, and no score reads a sample again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.types import Environment, FloatArray
from methods.metacadi.model import IntArray

Function = Callable[[FloatArray], FloatArray]

_BYTES_AT_ONCE = 1 << 27
"""Of Gram matrices that are brought into their order together."""


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Functions of each variable, and products of them for each pair.

    The first d columns are the variables themselves, the last is the intercept.

    Parameters
    ----------
    n_variables : int
    functions : sequence of callable
        Further functions of one variable, elementwise.
    products : sequence of (int, int)
        Functions that make the features of a pair, 0 the variable itself; with (a, b) comes (b, a).
    relative_precision : sequence of float
        Of the functions, and of the products after them, as multiples of a slope's.
    """

    n_variables: int
    functions: Sequence[Function] = ()
    products: Sequence[tuple[int, int]] = ()
    relative_precision: Sequence[float] = ()
    own: IntArray = field(init=False)
    pairs: IntArray = field(init=False)
    relative: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        d, n_functions = self.n_variables, len(self.functions)
        own = np.arange(d * (1 + n_functions)).reshape(1 + n_functions, d).T
        firsts, seconds = np.triu_indices(d, 1)
        pairs = np.zeros((d, d, len(self.products)), dtype=np.intp)
        first = own.size + np.arange(len(self.products) * len(firsts)).reshape(len(self.products), len(firsts))
        pairs[firsts, seconds] = pairs[seconds, firsts] = first.T
        of_function, of_product = np.split(np.asarray(self.relative_precision, dtype=np.float64), [n_functions])
        relative = np.concatenate([np.ones(d), np.repeat(of_function, d), np.repeat(of_product, len(firsts)), [1.0]])
        for name, value in (("own", np.ascontiguousarray(own)), ("pairs", pairs), ("relative", relative)):
            object.__setattr__(self, name, value)

    def expand(self, X: FloatArray) -> FloatArray:
        """Samples of all features and the intercept, float64 (n, F + 1)."""
        values = np.stack([X, *(f(X) for f in self.functions)])
        firsts, seconds = np.triu_indices(self.n_variables, 1)
        products = [values[a][:, firsts] * values[b][:, seconds] for a, b in self.products]
        return np.concatenate([*values, *products, np.ones((len(X), 1))], axis=1)

    def columns(self, parents: IntArray) -> IntArray:
        """Features of a parent set, int (m - 1,)."""
        if not self.products:
            return self.own[parents].ravel()
        chosen = [np.append(self.own[j], self.pairs[j, parents[:a]].ravel()) for a, j in enumerate(parents)]
        return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.intp)

    def summary(self, environments: Sequence[Environment]) -> Statistics:
        """What the model needs of environments."""
        return Statistics.of(environments, self)

    def design(self, i: int, parents: IntArray, X: FloatArray) -> FloatArray:
        """Samples of (intercept, features) of the parents of variable i, float64 (n, m)."""
        columns = self.expand(X)
        return columns[:, np.append(columns.shape[1] - 1, self.columns(parents))]


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """All that the model needs of E environments, whatever the number of samples.

    Parameters
    ----------
    paired_gram : float64 ((F + 1) (F + 2) / 2, E + E mod 2)
        Sums over samples of products of two columns a >= b of the basis, at row a (a + 1) / 2 + b. Environments are contiguous,
        since a score reads all of them for few pairs of columns; before an odd number of them stands one without samples.
    n_samples : float64 (E,)
    basis : Basis
    """

    paired_gram: FloatArray
    n_samples: FloatArray
    basis: Basis

    @classmethod
    def of(cls, environments: Sequence[Environment], basis: Basis) -> Statistics:
        """One pass over the samples."""
        lower = np.flatnonzero(np.tri(len(basis.relative), dtype=np.bool_))
        padding = len(environments) % 2
        gram = np.zeros((len(lower), padding + len(environments)))
        # Several environments at a time, since their entries stand side by side.
        at_once = np.empty((max(1, min(len(environments), _BYTES_AT_ONCE // (8 * len(lower)))), len(lower)))
        for first in range(0, len(environments), len(at_once)):
            some = environments[first : first + len(at_once)]
            for row, environment in zip(at_once, some, strict=False):
                columns = basis.expand(environment.X)
                np.take(columns.T @ columns, lower, out=row, mode="clip")  # buffers unless indices are clipped
            gram[:, padding + first : padding + first + len(some)] = at_once[: len(some)].T
        return cls(gram, np.array([e.n_samples for e in environments], dtype=np.float64), basis)

    @property
    def n_environments(self) -> int:
        return len(self.n_samples)

    def products(self, a: IntArray, b: IntArray) -> FloatArray:
        """Sums over samples of products of columns a and b, which are broadcast, float64 (..., E)."""
        high, low = np.maximum(a, b), np.minimum(a, b)
        return self.paired_gram[high * (high + 1) // 2 + low, self.paired_gram.shape[1] - self.n_environments :]

    def regression(self, i: int, parents: IntArray) -> FloatArray:
        """Gram matrices of (intercept, features, variable i), float64 (E, m + 1, m + 1)."""
        columns = np.concatenate([[len(self.basis.relative) - 1], self.basis.columns(parents), [i]])
        return np.ascontiguousarray(self.products(columns[:, None], columns).transpose(2, 0, 1))

    def relative_precision(self, parents: IntArray) -> FloatArray:
        """Of (intercept, features), float64 (m,)."""
        return np.asarray(self.basis.relative[np.append(len(self.basis.relative) - 1, self.basis.columns(parents))])


def smooth_bases(n_variables: int, n_environments: int) -> list[tuple[float, Basis]]:
    """A bell and a step of each parent, and products for each pair, once for strong and once for weak effects.

    Parameters
    ----------
    n_variables, n_environments : int
        With so many that Gram matrices would need more than ``MAX_BYTES``, products are left out.

    Returns
    -------
    list of (amplitude, Basis)
        Precision of the parents themselves as a multiple of that of the priors, and what mechanisms are linear in.

    Notes
    -----
    Products of a variable with itself, its bell and its step bend the surface where two parents meet; sums of functions of one
    parent alone find far fewer edges. The two amplitudes matter: noise may be a hundredth of a variable or most of it.
    """
    n_columns = (1 + len(_FUNCTIONS)) * n_variables + len(_PRODUCTS) * n_variables * (n_variables - 1) // 2
    products = _PRODUCTS if 8 * n_columns**2 * n_environments <= MAX_BYTES else ()
    relative = np.array([1.0] * len(_FUNCTIONS) + [2.0 if pair != (0, 0) else 1.0 for pair in products])
    return [
        (amplitude, Basis(n_variables, _FUNCTIONS, products, tuple(wiggle * relative)))
        for amplitude, wiggle in ((0.1, 1.0), (1.0, 8.0))
    ]


MAX_BYTES = 1_000_000_000


def _bell(x: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * x**2))


def _step(x: FloatArray) -> FloatArray:
    return np.asarray(np.tanh(2.0 * x))


_FUNCTIONS = (_bell, _step)
_PRODUCTS = ((0, 0), (0, 2), (2, 0), (0, 1), (1, 0))
