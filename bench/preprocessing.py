"""What every method gets: transformed, scaled and shuffled data, and the way back.

Transform and scaling are fitted on training environments alone and applied to held-out ones. Variables are shuffled and
named alike, so that neither scale nor column order nor a name tells the answer. Nothing here depends on the method.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from bench.errors import InputError, InvalidEstimate, UnknownName
from bench.registry import with_sortability
from bench.scm import IntArray
from bench.seeds import generator
from bench.types import Environment, FloatArray, HeldOut, Observed, Problem, Result

Transform = Literal["none", "sqrt", "log1p", "auto"]
Scaling = Literal["none", "observational", "pooled"]

_FUNCTIONS: dict[str, Callable[[FloatArray], FloatArray]] = {"none": np.asarray, "sqrt": np.sqrt, "log1p": np.log1p}


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A problem in the method's eyes.

    Parameters
    ----------
    problem : Problem
        Transformed, scaled, shuffled; variables are called X0, X1, ...
    order : int (d,)
        Place i of the prepared problem is variable ``order[i]`` of the original.
    log_jacobian : tuple of float64 (m, d)
        Per held-out environment, log |dz/dx| of each query sample, in the original order of variables.
    transform : str
        What was applied ("auto" resolved).
    """

    problem: Problem
    order: IntArray
    log_jacobian: tuple[FloatArray, ...]
    transform: str

    def restore(self, result: Result) -> Result:
        """The result in the original order of variables, its densities in raw units.

        Raises
        ------
        InvalidEstimate
            If the densities do not fit the held-out query samples.
        """
        back = np.argsort(self.order)
        density = result.held_out_log_density
        if density is not None:
            for h, (log_density, jacobian) in enumerate(zip(density, self.log_jacobian, strict=False)):
                if log_density.shape[1:] != jacobian.shape:
                    expected = f"(S, {jacobian.shape[0]}, {jacobian.shape[1]})"
                    raise InvalidEstimate(
                        f"the density of held-out environment {h} must be {expected}, got {log_density.shape}"
                    )
            if len(density) != len(self.log_jacobian):
                raise InvalidEstimate(
                    f"expected densities of {len(self.log_jacobian)} held-out environments, got {len(density)}"
                )
            density = tuple(p[:, :, back] + j for p, j in zip(density, self.log_jacobian, strict=True))
        return dataclasses.replace(
            result,
            estimate=result.estimate.permuted(back),
            adapted={n: estimate.permuted(back) for n, estimate in result.adapted.items()},
            held_out_log_density=density,
        )


def prepare(problem: Problem, *, transform: Transform = "none", scaling: Scaling = "pooled", seed: int) -> Prepared:
    """Transform, scale and shuffle a problem.

    Parameters
    ----------
    problem : Problem
        In raw units.
    transform : {"none", "sqrt", "log1p", "auto"}
        Applied to every value. "auto" is "sqrt" where no sample is negative, as it is for counts and intensities, whose
        variance it steadies without the weight that a logarithm gives to values near zero; else "none".
    scaling : {"none", "observational", "pooled"}
        Subtract the mean and divide by the standard deviation of the observational, or of all, training samples. A constant
        column is only centred.
    seed : int
        Of the shuffle of variables.

    Returns
    -------
    Prepared
        Its diagnostics are those of the problem, with ``varsortability_raw``; the sortability of the prepared data takes long
        where there are many variables, and is left to :func:`bench.registry.with_sortability`.

    Raises
    ------
    InputError
        If a value is outside the transform's domain, or "observational" scaling finds no observational environment.

    Examples
    --------
    >>> observed = Observed((Environment(np.array([[0.0, 10.0], [2.0, 30.0]])),))
    >>> prepare(Problem(observed, None), seed=0).problem.observed.pooled()
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> prepare(Problem(observed, None), scaling="observational", seed=0)
    Traceback (most recent call last):
    bench.errors.InputError: scaling 'observational' needs an observational environment, and none is known to be; ...
    """
    for kind, value, known in (("transform", transform, Transform), ("scaling", scaling, Scaling)):
        if value not in get_args(known):
            raise UnknownName(kind, value, get_args(known))
    chosen = _choose(problem) if transform == "auto" else transform
    function = _FUNCTIONS[chosen]
    _check_domain(problem, chosen)
    location, scale = _fit_scaling(problem.observed, function, scaling)
    order = generator("variable order", seed).permutation(problem.observed.n_variables)

    def convert(X: FloatArray) -> FloatArray:
        return np.asarray(((function(X) - location) / scale)[:, order])

    prepared = Problem(
        observed=_convert_observed(problem.observed, convert, order),
        truth=None if problem.truth is None else problem.truth.permuted(order),
        held_out=tuple(
            HeldOut(convert(h.support), h.sizes, convert(h.query), h.targets[order], h.is_observational)
            for h in problem.held_out
        ),
        diagnostics=_raw_diagnostics(problem),
    )
    jacobians = tuple(_log_derivative(h.query, chosen, problem.observed) - np.log(scale) for h in problem.held_out)
    return Prepared(prepared, order, jacobians, chosen)


def _choose(problem: Problem) -> str:
    return "none" if any((X < 0).any() for X in _all_samples(problem)) else "sqrt"


def _all_samples(problem: Problem) -> list[FloatArray]:
    return [*(e.X for e in problem.observed.environments), *(X for h in problem.held_out for X in (h.support, h.query))]


def _check_domain(problem: Problem, transform: str) -> None:
    """Negative values have no square root; log1p is refused them as well: above -1 it exists, but means nothing for data."""
    if transform == "none":
        return
    for X in _all_samples(problem):
        if (X < 0).any():
            i, j = (int(k) for k in np.argwhere(X < 0)[0])
            raise InputError(
                f"transform '{transform}' needs values of at least 0, got {X[i, j]:.3g} in variable "
                f"'{problem.variable_names[j]}'; use transform 'none'"
            )


def _fit_scaling(
    observed: Observed, function: Callable[[FloatArray], FloatArray], scaling: Scaling
) -> tuple[FloatArray, FloatArray]:
    """Location and scale of the transformed training samples, each float64 (d,)."""
    d = observed.n_variables
    if scaling == "none":
        return np.zeros(d), np.ones(d)
    X = observed.pooled() if scaling == "pooled" else observed.observational()
    if X is None:
        raise InputError(
            "scaling 'observational' needs an observational environment, and none is known to be; use scaling 'pooled'"
        )
    Z, pooled = function(X), function(observed.pooled())
    # Equal to the bit is constant; a tiny spread is a matter of units. What does not vary in the observational samples may
    # do so elsewhere, and then its unit is found there.
    constant, constant_everywhere = np.ptp(Z, axis=0) == 0, np.ptp(pooled, axis=0) == 0
    spread = np.where(constant, pooled.std(axis=0), Z.std(axis=0))
    return np.where(constant, Z[0], Z.mean(axis=0)), np.where(constant_everywhere, 1.0, spread)


def _convert_observed(observed: Observed, convert: Callable[[FloatArray], FloatArray], order: IntArray) -> Observed:
    told = observed.permuted(order)
    environments = (
        Environment(convert(e.X), e.is_observational, shuffled.targets)
        for e, shuffled in zip(observed.environments, told.environments, strict=True)
    )
    return Observed(tuple(environments), told.graph)


def _log_derivative(X: FloatArray, transform: str, observed: Observed) -> FloatArray:
    """log |df/dx| of the transform before scaling, float64 (m, d)."""
    if transform == "sqrt":
        # Unbounded at 0, where no density survives the square root: there, and the same for every method, it is that of the
        # smallest positive training value.
        training = observed.pooled()
        smallest = np.where(training > 0, training, np.inf).min(axis=0)
        return np.asarray(-np.log(2.0) - 0.5 * np.log(np.where(X > 0, X, np.where(np.isfinite(smallest), smallest, 1.0))))
    return np.asarray(-np.log1p(X)) if transform == "log1p" else np.zeros_like(X)


def _raw_diagnostics(problem: Problem) -> dict[str, float]:
    """Diagnostics of the raw problem, its var-sortability under a name of its own."""
    known = "varsortability" in problem.diagnostics
    diagnostics = dict((problem if known else with_sortability(problem)).diagnostics)
    if "varsortability" in diagnostics:
        diagnostics["varsortability_raw"] = diagnostics.pop("varsortability")
        diagnostics.pop("r2_sortability", None)  # a transform changes it
    return diagnostics
