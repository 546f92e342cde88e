"""The core types: what a method sees, what it answers, and what the runner keeps.

Frozen and slotted; every array is read-only, also after pickling (numpy forgets the flag, so unpickling goes through the
constructor again). Adjacency convention everywhere: ``A[i, j] = 1`` means i -> j; both set means undirected, and only in
a ``point_graph`` of an equivalence class.

Not here: how estimates are scored (``bench.metrics``) and how problems are made (``datasets``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bench.errors import InputError, InvalidEstimate

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

GraphKind = Literal["dag", "cpdag", "i-essential"]
OutputKind = Literal["posterior", "score", "binary"]
Need = Literal["required", "optional", "ignored"]


def _set(instance: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _rebuild(cls: type, values: dict[str, Any]) -> Any:
    return cls(**values)


class _Frozen:
    """Pickle through the constructor, so that arrays come back read-only and checked."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # every class that this is mixed into is a dataclass

    def __reduce__(self) -> tuple[Any, tuple[type, dict[str, Any]]]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        values = {k: dict(v) if isinstance(v, MappingProxyType) else v for k, v in values.items()}
        return _rebuild, (type(self), values)


def _frozen_array(
    value: Any, dtype: type, shape: tuple[int | None, ...], name: str, error: type[InputError] = InputError
) -> Any:
    """Return ``value`` as a read-only C-ordered array of ``dtype``; None in ``shape`` allows any length."""
    try:
        array: npt.NDArray[Any] = np.array(value, dtype=dtype, order="C", copy=True)
    except (TypeError, ValueError) as reason:
        raise error(f"{name} must be an array of {np.dtype(dtype).name}, got {type(value).__name__}: {reason}") from None
    fits = array.ndim == len(shape) and all(w is None or w == n for w, n in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = "(" + ", ".join("any" if w is None else str(w) for w in shape) + ")"
        raise error(f"{name} must have shape {wanted}, got {array.shape}")
    array.setflags(write=False)
    return array


def _permuted_square(value: Any, order: npt.NDArray[np.intp]) -> Any:
    """The last two axes of an array, (..., d, d), in another order of the variables; None stays None."""
    return None if value is None else value[..., order, :][..., :, order]


def _permuted_columns(value: Any, order: npt.NDArray[np.intp]) -> Any:
    """The columns of an array, (n, d), in another order of the variables; None stays None."""
    return None if value is None else value[:, order]


def _index(target: Any) -> int:
    if isinstance(target, bool | np.bool_) or not isinstance(target, int | np.integer):
        raise InputError(f"targets must be numbers of variables, as np.flatnonzero gives them, got {target!r}")
    return int(target)


@dataclass(frozen=True, slots=True, eq=False)
class Environment(_Frozen):
    """Samples of one environment.

    Parameters
    ----------
    X : float64 (n, d)
        Samples, n >= 1, finite.
    is_observational : bool or None
        None where it is not known.
    targets : frozenset of int or None
        Intervened variables, only where a suite grants them (oracle track); None is "not told".

    Raises
    ------
    InputError
        If X is not a finite (n, d) array with n, d >= 1, or a target is not the number of a variable (a mask is refused: its
        places would be taken for variables 0 and 1).

    Examples
    --------
    >>> Environment(np.zeros((3, 2)), is_observational=True).n_samples
    3
    >>> Environment(np.zeros(3))
    Traceback (most recent call last):
    bench.errors.InputError: X must have shape (any, any), got (3,)
    """

    X: FloatArray
    is_observational: bool | None = None
    targets: frozenset[int] | None = None

    def __post_init__(self) -> None:
        X = _frozen_array(self.X, np.float64, (None, None), "X")
        if 0 in X.shape:
            raise InputError(f"X must have at least one sample and one variable, got shape {X.shape}")
        if not np.isfinite(X).all():
            where = ", ".join(str(c) for c in np.flatnonzero(~np.isfinite(X).all(axis=0))[:5])
            raise InputError(f"X must be finite, got NaN or infinity in column(s) {where}")
        targets = None if self.targets is None else frozenset(map(_index, self.targets))
        if targets is not None and any(not 0 <= t < X.shape[1] for t in targets):
            raise InputError(f"targets must be variables 0 to {X.shape[1] - 1}, got {sorted(targets)}")
        _set(self, X=X, targets=targets)

    @property
    def n_samples(self) -> int:
        return int(self.X.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Observed(_Frozen):
    """All that a method sees: environments, without names, truth or dataset id.

    Parameters
    ----------
    environments : tuple of Environment
        At least one; all over the same d variables.
    graph : bool (d, d) or None
        The true graph, a DAG with ``graph[i, j]`` for i -> j, only where a suite grants it (graph track); None is "not told".

    Raises
    ------
    InputError
        If there is no environment, their numbers of variables differ, or the graph is no DAG over those variables.

    Examples
    --------
    >>> Observed((Environment(np.zeros((3, 2))),), graph=[[0, 1], [1, 0]])
    Traceback (most recent call last):
    bench.errors.InputError: graph must be acyclic, got a cycle through the variables 0, 1
    """

    environments: tuple[Environment, ...]
    graph: BoolArray | None = None

    def __post_init__(self) -> None:
        environments = tuple(self.environments)
        if not environments:
            raise InputError("Observed needs at least one environment, got none")
        widths = {e.X.shape[1] for e in environments}
        if len(widths) > 1:
            raise InputError(f"environments must share their variables, got {sorted(widths)} columns")
        graph = None if self.graph is None else _frozen_dag(self.graph, widths.pop())
        _set(self, environments=environments, graph=graph)

    @property
    def n_variables(self) -> int:
        return int(self.environments[0].X.shape[1])

    @property
    def n_environments(self) -> int:
        return len(self.environments)

    @property
    def n_samples(self) -> int:
        return sum(e.n_samples for e in self.environments)

    @property
    def targets_given(self) -> bool:
        """True where every environment tells its targets."""
        return all(e.targets is not None for e in self.environments)

    def pooled(self) -> FloatArray:
        """All samples below each other, float64 (n, d)."""
        return np.concatenate([e.X for e in self.environments])

    def observational(self) -> FloatArray | None:
        """Samples of the environments known to be observational, float64 (n, d), or None where there are none."""
        found = [e.X for e in self.environments if e.is_observational]
        return np.concatenate(found) if found else None

    def without_targets(self) -> Observed:
        """The same samples with no target told; the graph stays as it is."""
        return dataclasses.replace(self, environments=tuple(dataclasses.replace(e, targets=None) for e in self.environments))

    def without_graph(self) -> Observed:
        """The same samples with no graph told; the targets stay as they are."""
        return dataclasses.replace(self, graph=None)

    def permuted(self, order: npt.NDArray[np.intp]) -> Observed:
        """The same samples with variable ``order[i]`` in place i, ``order`` int (d,); what is told moves along."""
        place = np.argsort(order)
        environments = tuple(
            dataclasses.replace(
                e, X=e.X[:, order], targets=None if e.targets is None else frozenset(int(place[t]) for t in e.targets)
            )
            for e in self.environments
        )
        return Observed(environments, _permuted_square(self.graph, order))


def _every_pair() -> BoolArray:
    """Stands for all pairs of variables, however many these are."""
    return np.empty((0, 0), dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Truth(_Frozen):
    """What the scorer knows: the graph, the targets, or both.

    Parameters
    ----------
    adjacency : bool (d, d) or None
        ``A[i, j]`` is i -> j. A real reference graph may be cyclic. None where the graph is unknown.
    targets : bool (E, d) or None
        Rows follow the training environments. None where the targets are unknown; those of held-out environments then count
        as unknown, too.
    scored : bool (d, d), optional
        Pairs that count, symmetric; by default all but the diagonal, and none where the graph is unknown.
    told_targets : bool (E, d), optional
        What the oracle track tells in place of ``targets``, where labels are wrong on purpose; never what is scored.

    Raises
    ------
    InputError
        If neither is known, a shape is wrong, a variable causes itself, or a pair of an unknown graph is to be scored.

    Examples
    --------
    >>> Truth(None, np.eye(2)).scored.tolist()
    [[False, False], [False, False]]
    """

    adjacency: BoolArray | None
    targets: BoolArray | None
    scored: BoolArray = field(default_factory=_every_pair)
    told_targets: BoolArray | None = None

    def __post_init__(self) -> None:
        adjacency, targets, scored, d = self.adjacency, self.targets, self.scored, None
        if adjacency is None and targets is None:
            raise InputError("a truth needs the graph or the targets, got neither; where nothing is known it is None")
        if adjacency is not None:
            d = _frozen_array(adjacency, np.bool_, (None, None), "adjacency").shape[0]
            adjacency = _frozen_array(adjacency, np.bool_, (d, d), "adjacency")
            if adjacency.diagonal().any():
                raise InputError(
                    f"adjacency must have a zero diagonal, got a self-loop at {int(adjacency.diagonal().argmax())}"
                )
        if targets is not None:
            targets = _frozen_array(targets, np.bool_, (None, d), "targets")
            d = targets.shape[1]
        assert d is not None  # one of the two is known
        scored = np.full((d, d), adjacency is not None) if np.size(scored) == 0 else scored
        scored = _frozen_array(scored, np.bool_, (d, d), "scored")
        if adjacency is None and scored.any():
            raise InputError("scored pairs need an adjacency, got None")
        scored = _frozen_array(scored & scored.T & ~np.eye(len(scored), dtype=bool), np.bool_, (d, d), "scored")
        told = self.told_targets
        if told is not None:
            if targets is None:
                raise InputError("told_targets need true targets beside them, got None")
            told = _frozen_array(told, np.bool_, targets.shape, "told_targets")
        _set(self, adjacency=adjacency, targets=targets, scored=scored, told_targets=told)

    @property
    def n_variables(self) -> int:
        return len(self.scored)

    def permuted(self, order: npt.NDArray[np.intp]) -> Truth:
        """The same truth with variable ``order[i]`` in place i, ``order`` int (d,)."""
        return Truth(
            _permuted_square(self.adjacency, order),
            _permuted_columns(self.targets, order),
            _permuted_square(self.scored, order),
            _permuted_columns(self.told_targets, order),
        )


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut(_Frozen):
    """One environment that ``fit`` never sees.

    Parameters
    ----------
    support : float64 (n_max, d)
        Samples to adapt to; size n of the few-shot curve uses the first n rows, so that sizes are nested and paired.
    sizes : tuple of int
        Few-shot sizes, increasing, at most n_max.
    query : float64 (m, d)
        Fresh samples of the same environment that adaptation never sees, for the held-out density; m may be 0.
    targets : bool (d,)
        True targets.
    is_observational : bool or None
        What methods are told, as of training environments; see :class:`Environment`.
    """

    support: FloatArray
    sizes: tuple[int, ...]
    query: FloatArray
    targets: BoolArray
    is_observational: bool | None = None

    def __post_init__(self) -> None:
        support = _frozen_array(self.support, np.float64, (None, None), "support")
        sizes = tuple(sorted({int(n) for n in self.sizes}))
        if not sizes or sizes[0] < 1 or sizes[-1] > support.shape[0]:
            raise InputError(f"sizes must lie between 1 and {support.shape[0]}, the rows of support, got {self.sizes}")
        query = _frozen_array(self.query, np.float64, (None, support.shape[1]), "query")
        targets = _frozen_array(self.targets, np.bool_, (support.shape[1],), "targets")
        _set(self, support=support, sizes=sizes, query=query, targets=targets)

    def environment(self, size: int) -> Environment:
        """The first ``size`` samples, as a method sees them."""
        return Environment(self.support[:size], is_observational=self.is_observational)


@dataclass(frozen=True, slots=True, eq=False)
class Problem(_Frozen):
    """One draw of a dataset, for the runner only.

    Parameters
    ----------
    observed : Observed
        Training environments.
    truth : Truth or None
        None where nothing is known: "no score, but estimates".
    held_out : tuple of HeldOut
        Environments for few-shot adaptation and the held-out density.
    variable_names : tuple of str
        d names, never shown to a method.
    diagnostics : mapping of str to float
        E.g. ``varsortability``.
    environment_names : tuple of str
        Of the training environments, never shown to a method; their numbers by default.
    fingerprint : str
        Hash of every array; computed, never passed.

    Raises
    ------
    InputError
        If the parts disagree about d or the number of environments.
    """

    observed: Observed
    truth: Truth | None
    held_out: tuple[HeldOut, ...] = ()
    variable_names: tuple[str, ...] = ()
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    environment_names: tuple[str, ...] = ()
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        d, n_environments = self.observed.n_variables, self.observed.n_environments
        names = tuple(str(v) for v in self.variable_names) or tuple(f"X{i}" for i in range(d))
        labels = tuple(str(e) for e in self.environment_names) or tuple(str(e) for e in range(n_environments))
        for what, given, wanted in (("variable_names", names, d), ("environment_names", labels, n_environments)):
            if len(given) != wanted:
                raise InputError(f"{what} must have {wanted} entries, got {len(given)}")
        if self.truth is not None and self.truth.n_variables != d:
            raise InputError(f"truth must have {d} variables, got {self.truth.n_variables}")
        targets = None if self.truth is None else self.truth.targets
        if targets is not None and targets.shape != (n_environments, d):
            raise InputError(f"truth.targets must have shape {(n_environments, d)}, got {targets.shape}")
        if any(h.support.shape[1] != d for h in self.held_out):
            raise InputError(f"held-out environments must have {d} variables")
        _set(
            self,
            held_out=tuple(self.held_out),
            variable_names=names,
            environment_names=labels,
            diagnostics=MappingProxyType({k: float(v) for k, v in self.diagnostics.items()}),
        )
        _set(self, fingerprint=self._fingerprint())

    def checksum(self) -> float:
        """One number for all arrays: equal data give it again on any machine up to rounding, other data another one.

        Their entries, each weighed by the cosine of its place, added up and divided by the root of their number.
        """
        truth = () if self.truth is None else (self.truth.adjacency, self.truth.targets)
        held_out = [array for h in self.held_out for array in (h.support, h.query, h.targets)]
        arrays = [*(e.X for e in self.observed.environments), *(array for array in truth if array is not None), *held_out]
        values = np.concatenate([np.asarray(array, dtype=np.float64).ravel() for array in arrays])
        return float(np.cos(np.arange(len(values))) @ values / np.sqrt(len(values)))

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)

        def add(*arrays: Any) -> None:
            for array in arrays:
                if array is None:
                    digest.update(b"unknown")
                    continue
                digest.update(repr((array.shape, array.dtype.str)).encode())
                digest.update(np.ascontiguousarray(array).tobytes())

        for e in self.observed.environments:
            add(e.X)
            digest.update(repr((e.is_observational, e.targets and sorted(e.targets))).encode())
        if self.observed.graph is not None:
            add(self.observed.graph)
        if self.truth is not None:
            add(self.truth.adjacency, self.truth.targets, self.truth.scored)
            if self.truth.told_targets is not None:
                add(self.truth.told_targets)
        for h in self.held_out:
            add(h.support, h.query, h.targets)
            digest.update(repr(h.sizes if h.is_observational is None else (h.sizes, h.is_observational)).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Estimate(_Frozen):
    """What a method answers.

    Parameters
    ----------
    edge_probability : float64 (d, d)
        In [0, 1], zero diagonal; entry (i, j) is the probability (or score) of i -> j. For an equivalence class an
        undirected edge is .5 in both directions.
    target_probability : float64 (E, d) or None
        In [0, 1]; rows follow the environments given to ``fit`` or ``adapt``.
    graph_samples : bool (S, d, d) or None
        Posterior samples of the graph; cyclic ones are allowed and counted.
    log_weights : float64 (S,) or None
        Unnormalised log weights of the samples; None is uniform.
    point_graph : bool (d, d) or None
        The method's own best graph; both directions set is an undirected edge.
    graph_kind : {"dag", "cpdag", "i-essential"} or None
        What ``point_graph`` is; required where it is given.
    targets : bool (E, d) or None
        The method's own target set, where it is not ``target_probability > .5``.

    Raises
    ------
    InvalidEstimate
        If an array has the wrong shape, leaves its range, or a "dag" has a cycle or an undirected edge.

    Examples
    --------
    >>> Estimate(np.full((2, 2), 2.0))
    Traceback (most recent call last):
    bench.errors.InvalidEstimate: edge_probability must lie in [0, 1], got values from 2 to 2
    """

    edge_probability: FloatArray
    target_probability: FloatArray | None = None
    graph_samples: BoolArray | None = None
    log_weights: FloatArray | None = None
    point_graph: BoolArray | None = None
    graph_kind: GraphKind | None = None
    targets: BoolArray | None = None

    def __post_init__(self) -> None:
        def array(value: Any, dtype: type, shape: tuple[int | None, ...], name: str) -> Any:
            return None if value is None else _frozen_array(value, dtype, shape, name, InvalidEstimate)

        if self.edge_probability is None:
            raise InvalidEstimate("edge_probability must be a (d, d) array, got None")
        edges = array(self.edge_probability, np.float64, (None, None), "edge_probability")
        d = edges.shape[0]
        edges = array(edges, np.float64, (d, d), "edge_probability")
        _check_probabilities(edges, "edge_probability")
        if edges.diagonal().any():
            raise InvalidEstimate("edge_probability must have a zero diagonal")
        target_probability = array(self.target_probability, np.float64, (None, d), "target_probability")
        if target_probability is not None:
            _check_probabilities(target_probability, "target_probability")
        n_rows = None if target_probability is None else target_probability.shape[0]
        targets = array(self.targets, np.bool_, (n_rows, d), "targets")
        samples = array(self.graph_samples, np.bool_, (None, d, d), "graph_samples")
        if samples is not None and (not len(samples) or np.einsum("sii->", samples)):
            raise InvalidEstimate("graph_samples must hold at least one graph, each with a zero diagonal")
        weights = array(self.log_weights, np.float64, (None if samples is None else len(samples),), "log_weights")
        if weights is not None and (samples is None or np.isnan(weights).any() or not np.isfinite(weights.max())):
            raise InvalidEstimate("log_weights must be one number below infinity for each of graph_samples")
        graph = array(self.point_graph, np.bool_, (d, d), "point_graph")
        if (graph is None) != (self.graph_kind is None):
            raise InvalidEstimate("point_graph and graph_kind must be given together")
        if graph is not None:
            _check_graph(graph, self.graph_kind)
        _set(
            self,
            edge_probability=edges,
            target_probability=target_probability,
            graph_samples=samples,
            log_weights=weights,
            point_graph=graph,
            targets=targets,
        )

    def check(self, n_environments: int, n_variables: int) -> None:
        """Raise InvalidEstimate unless this answers ``n_environments`` environments of ``n_variables`` variables."""
        if self.edge_probability.shape[0] != n_variables:
            raise InvalidEstimate(
                f"edge_probability must have shape {(n_variables, n_variables)}, got {self.edge_probability.shape}"
            )
        for name in ("target_probability", "targets"):
            value = getattr(self, name)
            if value is not None and value.shape != (n_environments, n_variables):
                raise InvalidEstimate(f"{name} must have shape {(n_environments, n_variables)}, got {value.shape}")

    def weights(self) -> FloatArray:
        """Normalised sample weights, float64 (S,); empty where there are no samples."""
        if self.graph_samples is None:
            return np.zeros(0)
        if self.log_weights is None:
            return np.full(len(self.graph_samples), 1.0 / len(self.graph_samples))
        shifted = np.exp(self.log_weights - self.log_weights.max())
        return np.asarray(shifted / shifted.sum())

    def permuted(self, order: npt.NDArray[np.intp]) -> Estimate:
        """The same answer with variable ``order[i]`` in place i, ``order`` int (d,)."""

        return dataclasses.replace(
            self,
            edge_probability=_permuted_square(self.edge_probability, order),
            target_probability=_permuted_columns(self.target_probability, order),
            graph_samples=_permuted_square(self.graph_samples, order),
            point_graph=_permuted_square(self.point_graph, order),
            targets=_permuted_columns(self.targets, order),
        )


ROUNDING = 1e-3
"""A probability that leaves [0, 1] by less is likely a rounding error, and shown with three digits no error at all."""


def _check_probabilities(values: FloatArray, name: str) -> None:
    if np.isnan(values).any():
        raise InvalidEstimate(f"{name} must lie in [0, 1], got NaN")
    if values.size and (values.min() < 0 or values.max() > 1):
        excess = max(-values.min(), values.max() - 1)
        hint = f", {excess:.2g} outside: rounding? np.clip(…, 0, 1)" if excess < ROUNDING else ""
        raise InvalidEstimate(f"{name} must lie in [0, 1], got values from {values.min():.3g} to {values.max():.3g}{hint}")


def _check_graph(graph: BoolArray, kind: str | None) -> None:
    if kind not in ("dag", "cpdag", "i-essential"):
        raise InvalidEstimate(f"graph_kind must be 'dag', 'cpdag' or 'i-essential', got {kind!r}")
    if graph.diagonal().any():
        raise InvalidEstimate("point_graph must have a zero diagonal")
    if kind == "dag" and _has_cycle(graph):
        raise InvalidEstimate("point_graph of kind 'dag' must be acyclic and without undirected edges")


def _has_cycle(graph: BoolArray) -> bool:
    return bool(_behind_cycles(graph).any())


def _behind_cycles(graph: BoolArray) -> BoolArray:
    """Variables on a cycle or below one, bool (d,); Kahn's algorithm: strip sources while there is one."""
    alive = np.ones(len(graph), dtype=bool)
    while (sources := alive & ~graph[alive].any(axis=0)).any():
        alive &= ~sources
    return alive


def _frozen_dag(value: Any, d: int) -> BoolArray:
    """A told graph, read-only.

    Raises
    ------
    InputError
        If it has another shape, or a cycle (a self-loop, an undirected edge).
    """
    graph: BoolArray = _frozen_array(value, np.bool_, (d, d), "graph")
    if graph.diagonal().any():
        raise InputError(f"graph must have a zero diagonal, got a self-loop at {int(graph.diagonal().argmax())}")
    # What lies below a cycle is stripped from the other end, so that the message names the variables between cycles only.
    cyclic = _behind_cycles(graph) & _behind_cycles(graph.T)
    if cyclic.any():
        raise InputError(
            f"graph must be acyclic, got a cycle through the variables {', '.join(map(str, np.flatnonzero(cyclic)[:5]))}"
        )
    return graph


@dataclass(frozen=True, slots=True, eq=False)
class Result(_Frozen):
    """What a cell stores of one fit, in the problem's own order of variables.

    Parameters
    ----------
    estimate : Estimate
        Of ``fit``.
    adapted : mapping of int to Estimate
        By few-shot size; row h of ``target_probability`` is held-out environment h.
    held_out_log_density : tuple of float64 (S, m, d), or None
        Per held-out environment: log density of each query sample's variable given its parents in graph sample s under
        the shared mechanism, in raw units. The scorer masks true targets.
    fit_seconds, adapt_seconds : float
        Wall-clock; ``adapt_seconds`` is NaN where there was nothing to adapt to, and is that of the refits for a method
        that does not adapt.
    peak_rss_mb : float
        Peak resident memory of the process tree, MiB.
    cut_short : bool
        The method ran out of its budget and answered with the best so far.
    converged : bool or None
        Whether every fit converged; None where the method does not say.
    """

    estimate: Estimate
    adapted: Mapping[int, Estimate] = field(default_factory=dict)
    held_out_log_density: tuple[FloatArray, ...] | None = None
    fit_seconds: float = float("nan")
    adapt_seconds: float = float("nan")
    peak_rss_mb: float = float("nan")
    cut_short: bool = False
    converged: bool | None = None

    def __post_init__(self) -> None:
        density = self.held_out_log_density
        if density is not None:
            density = tuple(
                _frozen_array(x, np.float64, (None, None, None), "held_out_log_density", InvalidEstimate) for x in density
            )
        adapted = {int(k): v for k, v in sorted(self.adapted.items())}
        _set(self, adapted=MappingProxyType(adapted), held_out_log_density=density)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a method needs and offers; the runner resolves impossible combinations from it.

    Parameters
    ----------
    targets : {"required", "optional", "ignored"}
        Whether ``fit`` uses told targets. "required" runs only where a suite grants them.
    graph : {"required", "optional", "ignored"}
        Whether ``fit`` uses a told graph (``Observed.graph``); ``edge_probability`` then repeats it. "required" runs only
        where a suite grants it; on that track a method that ignores it is skipped.
    estimates_targets : bool
        ``Estimate.target_probability`` is given.
    edge_output : {"posterior", "score", "binary"}
        What ``edge_probability`` is. Calibration is scored for "posterior" only.
    target_output : {"posterior", "score", "binary"}
        What ``target_probability`` is, of new environments too; calibration as for edges.
    adapts : bool
        ``Fitted.adapt`` exists.
    density : bool
        ``Fitted.log_density`` exists.
    deterministic : bool
        The answer does not depend on the generator.
    extra : str or None
        The optional dependency group that it needs, named after the module that it installs.
    needs_observational : bool
        There is no answer unless an environment is known to be observational.
    min_environments : int
        Fewest environments that it can answer.
    max_variables : int or None
        Most variables that it can answer; None for no limit. What is merely slow belongs to ``Meta.n_variables``.
    needs_more_samples_than_variables : bool
        There is no answer unless all environments together hold more samples than there are variables.
    """

    targets: Need = "ignored"
    graph: Need = "ignored"
    estimates_targets: bool = False
    edge_output: OutputKind = "binary"
    target_output: OutputKind = "posterior"
    adapts: bool = False
    density: bool = False
    deterministic: bool = False
    extra: str | None = None
    needs_observational: bool = False
    min_environments: int = 1
    max_variables: int | None = None
    needs_more_samples_than_variables: bool = False


@dataclass(frozen=True, slots=True)
class Meta:
    """Where a plugin comes from, what it takes for granted and what it costs; all but the summary may be left unsaid.

    What makes an answer impossible stands in :class:`Capabilities`; what is said here stops nothing.

    Parameters
    ----------
    summary : str
        One line on what it is.
    reference : str
        The paper.
    licence : str
        Of the plugin's own code, or of the data.
    wraps : str
        The package whose code does the work, and its licence; empty where there is none.
    mechanisms : str
        Of a method: the mechanisms that it models, e.g. "linear"; "any" where it assumes nothing.
    noise : str
        The noise that it models, e.g. "Gaussian" or "additive"; "any" where it assumes nothing.
    interventions : tuple of str or None
        The kinds that it models, in the words of ``bench.interventions``; ("any",) where each change of a variable given its
        parents counts, () where it knows no environments, None where it does not say.
    complexity : str
        What its time grows with: d variables, n samples, E environments.
    n_variables : (int, int or None) or None
        Numbers of variables, least and most, for which it is recommended; a most of None is no limit.
    source : str
        Of a dataset: where its samples come from, e.g. "simulated here" or the address of the files.
    known : str
        Of a dataset: what is known of its truth, and by what right.
    not_known : str
        Of a dataset: what its truth leaves open, or holds for true though it may be false.

    Raises
    ------
    InputError
        If ``interventions`` is one text in place of a tuple, or the range is none.

    Examples
    --------
    >>> Meta("A method.", n_variables=(50, 2))
    Traceback (most recent call last):
    bench.errors.InputError: n_variables must be (least, most) with 1 <= least <= most, or a most of None, got (50, 2)
    """

    summary: str
    reference: str = ""
    licence: str = "MIT"
    wraps: str = ""
    mechanisms: str = ""
    noise: str = ""
    interventions: tuple[str, ...] | None = None
    complexity: str = ""
    n_variables: tuple[int, int | None] | None = None
    source: str = ""
    known: str = ""
    not_known: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.interventions, str):
            raise InputError(f"interventions must be a tuple of kinds, got the text {self.interventions!r}")
        if self.n_variables is not None:
            least, most = self.n_variables
            if least < 1 or (most is not None and most < least):
                raise InputError(
                    f"n_variables must be (least, most) with 1 <= least <= most, or a most of None, got {self.n_variables}"
                )


class Budget:
    """Soft limit that a method may honour: it returns its best so far and says ``cut_short``.

    Parameters
    ----------
    seconds : float or None
        Wall-clock seconds from now; None is unlimited.
    progress : callable (fraction in [0, 1], note) or None
        Called by a method that wants to be seen working.

    Examples
    --------
    >>> Budget(seconds=0.0).expired
    True
    >>> Budget().expired
    False
    """

    __slots__ = ("_deadline", "_progress", "seconds")

    def __init__(self, seconds: float | None = None, progress: Callable[[float, str], None] | None = None) -> None:
        self.seconds = seconds
        self._progress = progress
        self._deadline = None if seconds is None else time.monotonic() + seconds

    @property
    def expired(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def progress(self, fraction: float, note: str = "") -> None:
        if self._progress is not None:
            self._progress(min(1.0, max(0.0, float(fraction))), note)


class Fitted:
    """What ``fit`` returns: an estimate, and optionally ``adapt`` and ``log_density``.

    Parameters
    ----------
    estimate : Estimate
    cut_short : bool
        The budget ran out; the estimate is the best so far.
    converged : bool or None
        Whether the optimisation met its own stopping rule; None where there is none to meet.

    Subclasses that adapt define ``adapt(new: Observed, *, rng) -> Estimate`` and leave themselves as they were; those
    with a density define ``log_density(X (n, d)) -> (S, n, d)``.
    """

    estimate: Estimate
    cut_short: bool
    converged: bool | None

    def __init__(self, estimate: Estimate, *, cut_short: bool = False, converged: bool | None = None) -> None:
        self.estimate = estimate
        self.cut_short = cut_short
        self.converged = converged


def all_converged(parts: Iterable[bool | None]) -> bool | None:
    """Whether every part of a fit converged; None where no part says.

    Examples
    --------
    >>> all_converged([True, None]), all_converged([True, False]), all_converged([None])
    (True, False, None)
    """
    said = [part for part in parts if part is not None]
    return all(said) if said else None


class Method(ABC):
    """Base of every method. ``__init__`` stores its keyword parameters under their own names and does nothing else.

    Annotations of ``__init__`` are checked by the registry (``Annotated[float, Gt(0)]`` and ``Literal`` included), so a
    wrong value stops a run before any work.
    """

    capabilities: ClassVar[Capabilities]
    meta: ClassVar[Meta]
    name: ClassVar[str]
    expected_failures: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Conformance checks (``bench.testing``) that the method fails on purpose, with the reason of each; strict."""
    search_space: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType({})
    """Hyperparameters that ``tune`` may vary, each with the values to try, its default among them."""

    @abstractmethod
    def fit(self, observed: Observed, *, rng: np.random.Generator, budget: Budget | None = None) -> Fitted:
        """Learn from the training environments; ``rng`` is the only source of randomness."""

    def warm_up(self) -> None:  # noqa: B027  (optional hook)
        """Compile and import; called once per process, before the clock."""

    def effective_capabilities(self) -> Capabilities:
        """Capabilities under these parameters, where they differ from those of the class (a bootstrap, say)."""
        return self.capabilities

    def parameters(self) -> dict[str, Any]:
        """The constructor's parameters and their values.

        Raises
        ------
        InputError
            If the constructor does not store a parameter under its own name.
        """
        parameters = list(inspect.signature(type(self).__init__).parameters.values())[1:]
        named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        missing = [name for name in named if not hasattr(self, name)]
        if missing:
            name = missing[0]
            raise InputError(f"method '{self.name}' must keep its parameter '{name}' as self.{name}, found no such attribute")
        return {name: getattr(self, name) for name in named}

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self.parameters().items())
        return f"{type(self).__name__}({given})"
