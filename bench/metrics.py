"""Scores of one estimate against the truth of its problem: the numbers of one row of the results table.

Every metric is a function of one :class:`_Case`; it returns a float or raises :class:`Undefined` with the reason, which
becomes NaN and is counted, never a constant. Only off-diagonal pairs that the truth scores count; where it scores none, no
metric of the groups "graph" and "edge" has a value. Where the targets are unknown, nothing has that is scored against them,
those of held-out environments included. Of a partially directed estimate an undirected edge counts one half in both
directions wherever entries are counted (average precision, AUROC, F1, precision, recall, orientation) and is a mark of its
own in the structural Hamming distances.

Not here: intervals, tests and means over problems (``bench.statistics``), and how columns are shown (``bench.columns``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import gadjid
import numpy as np
from scipy.integrate import trapezoid
from scipy.special import logsumexp

from bench import graphs
from bench.columns import FEW_SHOT, METRICS, few_shot_column, info
from bench.errors import BenchError, InvalidEstimate
from bench.types import BoolArray, Estimate, FloatArray, GraphKind, OutputKind, Problem, Result, Truth

LOG_SCORE_CLIP = 1e-6
"""Probabilities are clipped to [this, 1 - this] before a logarithm, those of a method and of its references alike, so that
one confident mistake costs 13.8 nats and not infinity."""

CENTRAL = (0.05, 0.95)
"""Open interval of the probabilities that a pooled calibration error uses; the easy rest would drown it."""


class Undefined(BenchError):
    """A metric has no value here; the message is the reason."""


# --- the public functions -----------------------------------------------------------------------------------------------


def score(
    problem: Problem, result: Result, *, edge_output: OutputKind = "posterior", target_output: OutputKind = "posterior"
) -> dict[str, float]:
    """Every metric of ``bench.columns.METRICS``, and the few-shot columns of each size that ``result.adapted`` answers.

    Parameters
    ----------
    problem : Problem
    result : Result
        In the problem's own order of variables.
    edge_output, target_output : {"posterior", "score", "binary"}
        What ``edge_probability`` and ``target_probability`` are; calibration is scored for "posterior" only.

    Returns
    -------
    dict of str to float
        NaN where a metric is undefined; :func:`score_with_reasons` says why.

    Raises
    ------
    InvalidEstimate
        If the result does not fit the problem: numbers of variables, environments, graph samples.

    Examples
    --------
    >>> from bench.types import Environment, Observed
    >>> chain = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> observed = Observed((Environment(np.zeros((5, 3)), is_observational=True),))
    >>> problem = Problem(observed, Truth(chain, np.zeros((1, 3))))
    >>> guess = Estimate(chain.T, point_graph=chain.T, graph_kind="dag")
    >>> scores = score(problem, Result(guess), edge_output="binary")
    >>> scores["shd"], scores["shd_cpdag"], scores["edge_f1"]
    (2.0, 0.0, 0.0)
    """
    return score_with_reasons(problem, result, edge_output=edge_output, target_output=target_output)[0]


def score_with_reasons(
    problem: Problem,
    result: Result,
    *,
    edge_output: OutputKind = "posterior",
    target_output: OutputKind = "posterior",
    extra: Sequence[str] = (),
) -> tuple[dict[str, float], dict[str, str]]:
    """:func:`score`, and for each metric that is NaN the reason, e.g. "no positives" or "no posterior samples".

    ``extra`` names columns of ``bench.columns.EXTRA_METRICS`` to score as well.
    """
    _check(problem, result)
    case = _Case(problem, result, edge_output, target_output)
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}

    def fill(column: str, value_of: Callable[[], float]) -> None:
        try:
            if problem.truth is None and info(column).group != "cost":
                raise Undefined("no truth")
            if info(column).group == "graph":  # some need no truth, but are there to be read beside those that do
                case.require_scored_pairs()
            values[column] = float(value_of())
        except Undefined as reason:
            values[column], reasons[column] = float("nan"), str(reason)

    for column in (*METRICS, *extra):
        fill(column, partial(_METRIC_FUNCTIONS[column], case))
    for size in result.adapted:
        for metric in FEW_SHOT:
            fill(few_shot_column(metric, size), partial(_few_shot, case, size, metric))
    return values, reasons


def reliability_bins(
    problem: Problem, result: Result, *, edge_output: OutputKind = "posterior", target_output: OutputKind = "posterior"
) -> list[dict[str, Any]]:
    """Counts for reliability diagrams and a calibration error that are pooled over problems.

    Returns
    -------
    list of dict
        A row per quantity ("edge" or "target"), ``bin`` (0 to 9, equal widths over [0, 1]) and ``central`` (whether the
        probabilities lie in the open interval (.05, .95), which splits the first and the last bin), with ``count``,
        ``sum_probability`` and ``sum_truth``. No row where nothing falls or where calibration is not scored.
    """
    _check(problem, result)
    case = _Case(problem, result, edge_output, target_output)
    rows: list[dict[str, Any]] = []
    for quantity, predictions_of in _QUANTITIES.items():
        try:
            predictions = predictions_of(case)
            predictions.require_probabilities()
        except Undefined:
            continue
        p, truth = predictions.probability.ravel(), predictions.truth.ravel()
        central = (p > CENTRAL[0]) & (p < CENTRAL[1])
        bin_ = np.minimum((p * 10).astype(int), 9)
        for is_central, b in sorted(set(zip(central.tolist(), bin_.tolist(), strict=True)), key=lambda row: (row[1], row[0])):
            here = (bin_ == b) & (central == is_central)
            rows.append(
                {
                    "quantity": quantity,
                    "bin": b,
                    "central": is_central,
                    "count": int(here.sum()),
                    "sum_probability": float(p[here].sum()),
                    "sum_truth": float(truth[here].sum()),
                }
            )
    return rows


def edge_rows(problem: Problem, result: Result) -> list[dict[str, Any]]:
    """A row per ordered pair of variables, for heat maps and lists of edges.

    Returns
    -------
    list of dict
        ``source`` and ``target`` (variable names, in the problem's order), ``probability``, ``in_point_graph`` (an
        undirected edge is in it both ways) and ``truth``, None where it is not known.
    """
    _check(problem, result)
    names, truth = problem.variable_names, problem.truth
    i, j = np.nonzero(~np.eye(len(names), dtype=bool))
    known = np.zeros(len(i), dtype=bool) if truth is None else truth.scored[i, j]
    true = known if truth is None or truth.adjacency is None else truth.adjacency[i, j]
    graph, _ = _point_graph(result.estimate)
    columns = (i, j, result.estimate.edge_probability[i, j], graph[i, j], true, known)
    return [
        {
            "source": names[a],
            "target": names[b],
            "probability": probability,
            "in_point_graph": in_graph,
            "truth": is_true if is_known else None,
        }
        for a, b, probability, in_graph, is_true, is_known in _rows(*columns)
    ]


def target_rows(problem: Problem, result: Result) -> list[dict[str, Any]]:
    """A row per training environment and variable; none where the method estimates no targets.

    Returns
    -------
    list of dict
        ``environment`` (index), ``environment_name``, ``variable`` (name), ``probability`` (NaN where the method gives only
        a set), ``called`` and ``truth``, None where it is not known.
    """
    _check(problem, result)
    estimate, true_targets = result.estimate, None if problem.truth is None else problem.truth.targets
    if estimate.target_probability is None and estimate.targets is None:
        return []
    called = _called_targets(estimate)
    probability = np.full(called.shape, np.nan) if estimate.target_probability is None else estimate.target_probability
    e, j = np.indices(called.shape).reshape(2, -1)
    true = called if true_targets is None else true_targets
    return [
        {
            "environment": environment,
            "environment_name": problem.environment_names[environment],
            "variable": problem.variable_names[variable],
            "probability": p,
            "called": is_called,
            "truth": None if true_targets is None else is_true,
        }
        for environment, variable, p, is_called, is_true in _rows(e, j, probability[e, j], called[e, j], true[e, j])
    ]


def auroc(truth: BoolArray, score: FloatArray) -> float:
    """Area under the ROC curve with midranks: the chance that a positive outscores a negative, a tie counting half.

    Parameters
    ----------
    truth : bool, any shape
    score : float64, the same shape

    Raises
    ------
    Undefined
        If there are no positives or no negatives.

    Examples
    --------
    >>> auroc(np.array([True, False, False]), np.array([0.5, 0.5, 0.1]))
    0.75
    """
    _require_both_classes(truth)
    positives, negatives = _blocks(truth, score)
    below = np.cumsum(negatives) - negatives
    return float(positives @ (below + negatives / 2) / (positives.sum() * negatives.sum()))


def average_precision(truth: BoolArray, score: FloatArray) -> float:
    """Average precision, each block of tied scores being one threshold; never the trapezoid.

    Parameters
    ----------
    truth : bool, any shape
    score : float64, the same shape

    Raises
    ------
    Undefined
        If there are no positives.

    Examples
    --------
    >>> average_precision(np.array([True, False, False, False]), np.zeros(4))  # all tied: the prevalence
    0.25
    """
    _require_positives(truth)
    positives, negatives = (block[::-1] for block in _blocks(truth, score))
    precision = np.cumsum(positives) / np.cumsum(positives + negatives)
    return float(precision @ positives / positives.sum())


def trapezoid_auprc(truth: BoolArray, score: FloatArray) -> float:
    """Area of the trapezoids below the precision-recall points, from (recall 0, precision 1), as BaCaDI reports it.

    Never a score of ours: between the points no threshold reaches the straight line, so that ties are flattered. It is what
    ``sklearn.metrics.auc`` makes of ``precision_recall_curve``.

    Parameters
    ----------
    truth : bool, any shape
    score : float64, the same shape

    Raises
    ------
    Undefined
        If there are no positives.

    Examples
    --------
    >>> trapezoid_auprc(np.array([True, False, False, False]), np.zeros(4))  # all tied: (1 + prevalence) / 2
    0.625
    """
    _require_positives(truth)
    positives, negatives = (np.cumsum(block[::-1]) for block in _blocks(truth, score))
    recall, precision = positives / positives[-1], positives / (positives + negatives)
    return float(trapezoid(np.append(1.0, precision), np.append(0.0, recall)))


# --- one case: a problem and what a method answered ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Predictions:
    """Events that are true or not, how probable they were held, and what was called: .5 is half a call."""

    truth: BoolArray
    probability: FloatArray
    called: FloatArray
    not_calibrated: str | None = None  # why calibration is not scored

    def require_probabilities(self) -> None:
        if self.not_calibrated is not None:
            raise Undefined(self.not_calibrated)


@dataclass(frozen=True)
class _Case:
    problem: Problem
    result: Result
    edge_output: OutputKind
    target_output: OutputKind

    @property
    def estimate(self) -> Estimate:
        return self.result.estimate

    @property
    def truth(self) -> Truth:
        if self.problem.truth is None:
            raise Undefined("no truth")
        return self.problem.truth

    def require_scored_pairs(self) -> None:
        if self.truth.adjacency is None:
            raise Undefined("the true graph is unknown")
        if not self.truth.scored.any():
            raise Undefined("no scored pairs")

    @property
    def true_graph(self) -> BoolArray:
        self.require_scored_pairs()
        assert self.truth.adjacency is not None
        return self.truth.adjacency

    @property
    def true_dag(self) -> BoolArray:
        if not graphs.is_acyclic(self.true_graph):
            raise Undefined("truth is cyclic")
        return self.true_graph

    @cached_property
    def point_graph(self) -> tuple[BoolArray, GraphKind]:
        return _point_graph(self.estimate)

    @cached_property
    def edges(self) -> _Predictions:
        truth, scored = self.true_graph, self.truth.scored
        called = graphs.edge_scores_of_class(self.point_graph[0])
        probability = self.estimate.edge_probability[scored]
        return _Predictions(truth[scored], probability, called[scored], _not_calibrated(self.edge_output))

    @cached_property
    def observational(self) -> BoolArray:
        return np.array([bool(e.is_observational) for e in self.problem.observed.environments])

    def require_targets(self) -> None:
        if self.truth.targets is None:
            raise Undefined("the true targets are unknown")

    @property
    def true_targets(self) -> BoolArray:
        """Of all training environments, bool (E, d)."""
        self.require_targets()
        assert self.truth.targets is not None
        return self.truth.targets

    @cached_property
    def scored_targets(self) -> BoolArray:
        """Bool (rows, d); environments known to be observational are left out, those that may be are not."""
        rows = self.true_targets[~self.observational]
        if not len(rows):
            raise Undefined("no interventional environments")
        return rows

    @cached_property
    def targets(self) -> _Predictions:
        return _target_predictions(self.scored_targets, self.estimate, ~self.observational, self.target_output)

    @property
    def samples(self) -> BoolArray:
        if self.estimate.graph_samples is None:
            raise Undefined("no posterior samples")
        return self.estimate.graph_samples


def _check(problem: Problem, result: Result) -> None:
    observed, n_held_out = problem.observed, len(problem.held_out)
    result.estimate.check(observed.n_environments, observed.n_variables)
    for adapted in result.adapted.values():
        adapted.check(n_held_out, observed.n_variables)
    density = result.held_out_log_density
    if density is None:
        return
    n_graphs = 1 if result.estimate.graph_samples is None else len(result.estimate.graph_samples)
    expected = [(n_graphs, *environment.query.shape) for environment in problem.held_out]
    if [values.shape for values in density] != expected:
        raise InvalidEstimate(
            f"held_out_log_density must have the shapes {expected} (graph samples, query samples, variables), "
            f"got {[values.shape for values in density]}"
        )


def _point_graph(estimate: Estimate) -> tuple[BoolArray, GraphKind]:
    if estimate.point_graph is None or estimate.graph_kind is None:
        return graphs.point_graph(estimate.edge_probability), "dag"
    return estimate.point_graph, estimate.graph_kind


def _called_targets(estimate: Estimate) -> BoolArray:
    if estimate.targets is not None:
        return estimate.targets
    if estimate.target_probability is None:
        raise Undefined("no targets estimated")
    return np.asarray(estimate.target_probability > 0.5)


def _not_calibrated(output: OutputKind) -> str | None:
    return None if output == "posterior" else f"{output} output"


def _target_predictions(truth: BoolArray, estimate: Estimate, rows: BoolArray, output: OutputKind) -> _Predictions:
    """A method that gives a set and no probabilities is scored by that set, as a binary output."""
    called = _called_targets(estimate)[rows].astype(np.float64)
    probability = called if estimate.target_probability is None else estimate.target_probability[rows]
    is_binary = np.isin(probability, (0.0, 1.0)).all()
    return _Predictions(truth, probability, called, _not_calibrated("binary" if is_binary else output))


def _rows(*columns: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.tolist() for column in columns), strict=True)


# --- the graph as a whole -----------------------------------------------------------------------------------------------


def _shd(case: _Case) -> float:
    return graphs.shd(case.point_graph[0], case.true_graph, case.truth.scored)


_WRONG_MARKS = {
    # (true mark, estimated mark) of ``bench.graphs.marks``; of a true two-cycle (3) with one edge found, the other is missing.
    "missing_edges": [(1, 0), (2, 0), (3, 0), (3, 1), (3, 2)],
    "extra_edges": [(0, 1), (0, 2), (0, 3)],
    "reversed_edges": [(1, 2), (2, 1)],
    "undirected_edges": [(1, 3), (2, 3)],
}


def _count_wrong(case: _Case, kind: str) -> float:
    """Pairs that are wrong in one way; over all ways they add up to the SHD."""
    true, guess = graphs.marks(case.true_graph), graphs.marks(case.point_graph[0])
    found = np.isin(4 * true + guess, [4 * a + b for a, b in _WRONG_MARKS[kind]])
    return float((found & (graphs.marks(case.truth.scored) > 0)).sum())


def _errors_at_targets(case: _Case) -> float:
    """Wrong pairs of which one variable, or both, is a target of some training environment."""
    hit = np.asarray(case.true_targets.any(axis=0))
    near = case.truth.scored & np.logical_or.outer(hit, hit)
    return graphs.shd(case.point_graph[0], case.true_graph, near)


def _shd_cpdag(case: _Case) -> float:
    """An interventional essential graph stands for a DAG in it, whose CPDAG is the same for all of them."""
    truth = graphs.cpdag(case.true_dag)
    guess, kind = case.point_graph
    if kind == "i-essential":
        guess = _extension(guess)
    return graphs.shd(guess if kind == "cpdag" else graphs.cpdag(guess), truth, case.truth.scored)


def _shd_interventional(case: _Case) -> float:
    """A DAG is judged by its class under the true targets; a method that answers with a class claims just that."""
    targets = [np.flatnonzero(row).tolist() for row in case.true_targets]
    truth = graphs.interventional_essential_graph(case.true_dag, targets)
    guess, kind = case.point_graph
    if kind == "dag":
        guess = graphs.interventional_essential_graph(guess, targets)
    return graphs.shd(guess, truth, case.truth.scored)


def _extension(graph: BoolArray) -> BoolArray:
    dag = graphs.consistent_extension(graph)
    if dag is None:
        raise Undefined("point graph has no consistent extension")
    return dag


def _expected_shd(case: _Case) -> float:
    """Cyclic samples are kept; a pair with both directions set is an undirected mark."""
    scored = graphs.marks(case.truth.scored) > 0
    differs = graphs.marks(case.samples)[:, scored] != graphs.marks(case.true_graph)[scored]
    return float(case.estimate.weights() @ differs.sum(axis=1))


def _fraction_cyclic(case: _Case) -> float:
    return float(case.estimate.weights() @ ~graphs.are_acyclic(case.samples))


def _adjustment_distance(distance: Callable[..., tuple[float, int]]) -> Callable[[_Case], float]:
    """Wrong ordered pairs by gadjid, which needs a DAG or a valid CPDAG and dies of anything else."""

    def metric(case: _Case) -> float:
        truth = case.true_dag
        guess, _ = case.point_graph
        if len(truth) < 2:
            raise Undefined("fewer than two variables")
        if case.truth.scored.sum() < truth.size - len(truth):
            raise Undefined("some pairs are not scored")
        if not graphs.is_acyclic(guess):
            dag = graphs.consistent_extension(guess)
            if dag is None or not np.array_equal(graphs.cpdag(dag), guess):
                raise Undefined("point graph is neither a DAG nor a CPDAG")
        coded = guess.astype(np.int8) * np.where(guess & guess.T, 2, 1).astype(np.int8)
        return float(distance(truth.astype(np.int8), coded, edge_direction="from row to column")[1])

    return metric


def _n_edges(case: _Case) -> float:
    return float((graphs.skeleton(case.point_graph[0]) & case.truth.scored).sum() // 2)


def _orientation_accuracy(case: _Case) -> float:
    right = case.edges.called @ case.edges.truth
    shared = graphs.skeleton(case.point_graph[0]) & graphs.skeleton(case.true_graph) & case.truth.scored
    if not shared.any():
        raise Undefined("no true edge in the estimated skeleton")
    return float(right / (shared.sum() / 2))


def _trapezoid_auprc_bacadi(case: _Case) -> float:
    """Over all entries of the adjacency, the diagonal among them."""
    if case.truth.scored.sum() < case.true_graph.size - len(case.true_graph):
        raise Undefined("some pairs are not scored")
    return trapezoid_auprc(case.true_graph, case.estimate.edge_probability)


# --- events: edges and targets ------------------------------------------------------------------------------------------


def _blocks(truth: BoolArray, score: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Positives and negatives at each distinct score, rising; float64 (K,) each."""
    truth = np.asarray(truth, dtype=bool).ravel()
    _, block = np.unique(np.asarray(score, dtype=np.float64).ravel(), return_inverse=True)
    block = block.ravel()
    return np.bincount(block, truth).astype(np.float64), np.bincount(block, ~truth).astype(np.float64)


def _require_positives(truth: BoolArray) -> None:
    if not np.any(truth):
        raise Undefined("no positives")


def _require_both_classes(truth: BoolArray) -> None:
    _require_positives(truth)
    if np.all(truth):
        raise Undefined("no negatives")


def _hits(p: _Predictions) -> float:
    return float((p.called * p.truth).sum())


def _precision(p: _Predictions) -> float:
    if not p.called.any():
        raise Undefined("nothing called")
    return _hits(p) / float(p.called.sum())


def _recall(p: _Predictions) -> float:
    _require_positives(p.truth)
    return _hits(p) / float(p.truth.sum())


def _f1(p: _Predictions) -> float:
    """Nothing called scores 0; without positives there is nothing to find, and no score."""
    _require_positives(p.truth)
    return 2 * _hits(p) / float(p.called.sum() + p.truth.sum())


def _f1_macro(p: _Predictions) -> float:
    """Mean over the environments that have a target."""
    _require_positives(p.truth)
    rows = p.truth.any(axis=1)
    truth, called = p.truth[rows], p.called[rows]
    return float(np.mean(2 * (truth * called).sum(axis=1) / (truth.sum(axis=1) + called.sum(axis=1))))


def _exact_match(p: _Predictions) -> float:
    return float((p.called == p.truth).all(axis=1).mean())


def _observational_false_alarms(case: _Case) -> float:
    called = _called_targets(case.estimate)[case.observational]
    if not len(called):
        raise Undefined("no observational environments")
    return float(called.sum() / len(called))


# --- calibration --------------------------------------------------------------------------------------------------------

Loss = Callable[[BoolArray, FloatArray], float]


def _brier(truth: BoolArray, probability: FloatArray) -> float:
    return float(np.mean((probability - truth) ** 2))


def _log_score(truth: BoolArray, probability: FloatArray) -> float:
    p = np.clip(probability, LOG_SCORE_CLIP, 1 - LOG_SCORE_CLIP)
    return float(-np.mean(np.log(np.where(truth, p, 1 - p))))


def _loss(loss: Loss) -> Callable[[_Predictions], float]:
    def metric(p: _Predictions) -> float:
        p.require_probabilities()
        return loss(p.truth, p.probability)

    return metric


def _skill_base_rate(loss: Loss) -> Callable[[_Predictions], float]:
    """1 - loss / loss of the problem's own prevalence, said of every event."""

    def metric(p: _Predictions) -> float:
        p.require_probabilities()
        _require_both_classes(p.truth)
        return 1 - loss(p.truth, p.probability) / loss(p.truth, np.full(p.truth.shape, p.truth.mean()))

    return metric


def _skill_thresholded(loss: Loss) -> Callable[[_Predictions], float]:
    """1 - loss / loss of the method's own point answer, clipped alike; one without a mistake leaves nothing to gain."""

    def metric(p: _Predictions) -> float:
        p.require_probabilities()
        if np.array_equal(p.called, p.truth):
            raise Undefined("own thresholded output is exact")
        return 1 - loss(p.truth, p.probability) / loss(p.truth, p.called)

    return metric


# --- environments that fit never saw ------------------------------------------------------------------------------------


def _few_shot(case: _Case, size: int, metric: str) -> float:
    """A target metric over the held-out environments that come in this size."""
    case.require_targets()
    held_out = case.problem.held_out
    rows = np.array([size in environment.sizes for environment in held_out], dtype=bool)
    if not rows.any():
        raise Undefined("no held-out environments of this size")
    truth = np.array([environment.targets for environment in held_out])[rows]
    if metric == "target_prevalence":
        return float(truth.mean())
    return _TARGET_FUNCTIONS[metric](_target_predictions(truth, case.result.adapted[size], rows, case.target_output))


def _interventional_nll(case: _Case) -> float:
    """Mean negative log density per (sample, variable), in nats, mixed over acyclic graph samples for each sample.

    True targets are left out of the density and of the count, for every method alike. A sample of density zero costs
    infinity.
    """
    case.require_targets()
    if not case.problem.held_out:
        raise Undefined("no held-out environments")
    if case.result.held_out_log_density is None:
        raise Undefined("no held-out density")
    weights = np.ones(1)
    if case.estimate.graph_samples is not None:
        weights = case.estimate.weights() * graphs.are_acyclic(case.estimate.graph_samples)
    used = weights > 0
    if not used.any():
        raise Undefined("no acyclic graph samples")
    log_weights = np.log(weights[used] / weights[used].sum())[:, None]
    total, n_pairs = 0.0, 0
    for environment, log_density in zip(case.problem.held_out, case.result.held_out_log_density, strict=True):
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, and said so below
            per_graph = log_density[used][:, :, ~environment.targets].sum(axis=2)
        total -= float(logsumexp(per_graph + log_weights, axis=0).sum())
        n_pairs += per_graph.shape[1] * int((~environment.targets).sum())
    if not n_pairs:
        raise Undefined("no held-out samples to score")
    if np.isnan(total):
        raise Undefined("held-out density is NaN")
    return total / n_pairs


# --- the columns --------------------------------------------------------------------------------------------------------


def _cost(attribute: str, reason: str) -> Callable[[_Case], float]:
    def metric(case: _Case) -> float:
        value = float(getattr(case.result, attribute))
        if np.isnan(value):
            raise Undefined(reason)
        return value

    return metric


_EVENT_FUNCTIONS: dict[str, Callable[[_Predictions], float]] = {
    "auroc": lambda p: auroc(p.truth, p.probability),
    "average_precision": lambda p: average_precision(p.truth, p.probability),
    "f1": _f1,
    "precision": _precision,
    "recall": _recall,
    "brier": _loss(_brier),
    "brier_skill_base_rate": _skill_base_rate(_brier),
    "brier_skill_thresholded": _skill_thresholded(_brier),
    "log_score": _loss(_log_score),
    "log_skill_base_rate": _skill_base_rate(_log_score),
    "log_skill_thresholded": _skill_thresholded(_log_score),
}

_TARGET_FUNCTIONS: dict[str, Callable[[_Predictions], float]] = {
    **{f"target_{name}": function for name, function in _EVENT_FUNCTIONS.items()},
    "target_f1_macro": _f1_macro,
    "target_exact_match": _exact_match,
}

_QUANTITIES: dict[str, Callable[[_Case], _Predictions]] = {
    "edge": lambda case: case.edges,
    "target": lambda case: case.targets,
}


def _of(quantity: str, function: Callable[[_Predictions], float]) -> Callable[[_Case], float]:
    predictions_of = _QUANTITIES[quantity]
    return lambda case: function(predictions_of(case))


_METRIC_FUNCTIONS: dict[str, Callable[[_Case], float]] = {
    "shd": _shd,
    "shd_cpdag": _shd_cpdag,
    "shd_interventional": _shd_interventional,
    "expected_shd": _expected_shd,
    "fraction_cyclic": _fraction_cyclic,
    # On two DAGs the parent adjustment distance is the SID; unlike gadjid's `sid` it also takes a CPDAG, where every
    # ordered pair whose effect the class does not identify counts as wrong.
    "sid": _adjustment_distance(gadjid.parent_aid),
    "ancestor_aid": _adjustment_distance(gadjid.ancestor_aid),
    "n_edges": _n_edges,
    **{kind: partial(_count_wrong, kind=kind) for kind in _WRONG_MARKS},
    "errors_at_targets": _errors_at_targets,
    "edge_prevalence": lambda case: float(case.edges.truth.mean()),
    "orientation_accuracy": _orientation_accuracy,
    **{f"edge_{name}": _of("edge", function) for name, function in _EVENT_FUNCTIONS.items()},
    "target_prevalence": lambda case: float(case.scored_targets.mean()),
    "observational_false_alarms": _observational_false_alarms,
    **{name: _of("target", function) for name, function in _TARGET_FUNCTIONS.items()},
    "interventional_nll": _interventional_nll,
    "trapezoid_auprc_bacadi": _trapezoid_auprc_bacadi,
    "trapezoid_target_auprc_bacadi": lambda case: trapezoid_auprc(case.targets.truth, case.targets.probability),
    "fit_seconds": _cost("fit_seconds", "not measured"),
    "adapt_seconds": _cost("adapt_seconds", "nothing to adapt to"),
    "peak_rss_mb": _cost("peak_rss_mb", "not measured"),
}
