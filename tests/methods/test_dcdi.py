"""DCDI: its parts against slow loops and closed forms, then what it recovers."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.linalg import expm

from bench import registry
from bench.errors import InputError, MissingDependency
from bench.graphs import is_acyclic
from bench.preprocessing import prepare
from bench.types import Budget, Environment, Observed
from methods.dcdi import neural
from methods.dcdi.acyclicity import cyclicity, follows, strongest_order
from methods.dcdi.densities import FLOW_PARAMETERS, gaussian, sigmoidal_flow
from methods.dcdi.gates import Gates, GivenParents
from methods.dcdi.linear import LinearConditionals
from methods.dcdi.method import NEURAL as NEURAL_SCHEDULE
from methods.dcdi.method import PACES
from methods.dcdi.neural import NeuralConditionals
from methods.dcdi.refinement import LEAST_GAIN, Refinement, best_changes, preference, scores
from methods.dcdi.samples import Samples
from methods.dcdi.training import Outcome, Sparsity, Training, losses_at_rest

# 0 -> 1 -> 2 <- 3
DAG = np.zeros((4, 4), dtype=bool)
DAG[[0, 1, 3], [1, 2, 2]] = True


def sample(rng, n, targets=(), kind="hard", nonlinear=False):
    """Weights 1.2, noise N(0, 1). A hard target is N(2, 1), another keeps half of its slope and gains 2."""
    X = np.zeros((n, 4))
    for j in (0, 3, 1, 2):
        parents = X[:, DAG[:, j]]
        cause = 1.2 * (np.tanh(2 * parents) if nonlinear else parents).sum(axis=1)
        noise = rng.normal(size=n)
        if j not in targets:
            X[:, j] = cause + noise
        else:
            X[:, j] = 2 + rng.normal(size=n) if kind == "hard" else 0.5 * cause + 2 + noise
    return X


def problem(targets, n=300, seed=0, told=False, **kind):
    rng = np.random.default_rng(seed)
    return Observed(
        tuple(
            Environment(sample(rng, n, t, **kind), is_observational=not t, targets=frozenset(t) if told else None)
            for t in targets
        )
    )


LINEAR = "dcdi[conditionals=linear]"
NEURAL = "dcdi[conditionals=neural,edge_sparsity=0.1]"

SINGLE = [set(), {0}, {1}, {2}, {3}]

FREE = Sparsity(edge=0.0, target=0.0)


def fit(observed, spec, seed=0, budget=None):
    return registry.make_method(spec).fit(observed, rng=np.random.default_rng(seed), budget=budget)


def matrix(targets):
    return np.array([[j in t for j in range(4)] for t in targets])


def a_gates(observed, edge_probability=None, target_probability=None, precision="float64"):
    """Gates of given probabilities, (d, d) and (E, d)."""
    samples = Samples.of(observed)
    gates = Gates(samples.told, samples.estimated, precision)
    for logits, probability in ((gates.edge_logits, edge_probability), (gates.target_logits, target_probability)):
        if probability is not None:
            logits.data[:] = torch.tensor(probability).logit()
    return gates


# Parts --------------------------------------------------------------------------------------------------------------------


def test_cyclicity_and_its_gradient_are_those_of_the_matrix_exponential():
    P = np.random.default_rng(0).random((6, 6))
    P[np.diag_indices(6)] = 0
    tensor = torch.tensor(P, requires_grad=True)
    value = cyclicity(tensor)
    value.backward()
    assert value.item() == pytest.approx(np.trace(expm(P)) - 6)
    np.testing.assert_allclose(tensor.grad, expm(P).T)
    # And by differences, which do not know the formula.
    step = np.zeros((6, 6))
    step[1, 4] = 1e-5
    by_differences = (np.trace(expm(P + step)) - np.trace(expm(P - step))) / 2e-5
    assert tensor.grad[1, 4].item() == pytest.approx(by_differences, rel=1e-6)


def test_cyclicity_is_zero_for_a_dag_alone():
    assert cyclicity(torch.tensor(DAG, dtype=torch.float64)).item() == pytest.approx(0, abs=1e-12)
    assert cyclicity(torch.tensor(DAG | DAG.T, dtype=torch.float64)).item() > 1


def test_the_order_goes_against_the_weakest_gates_alone():
    """By all orders of five variables: none has a weaker strongest gate against it."""
    for seed in range(20):
        P = np.random.default_rng(seed).random((5, 5))
        P[np.diag_indices(5)] = 0
        against = [P[~follows(np.array(order))].max() for order in itertools.permutations(range(5))]
        assert P[~follows(strongest_order(P))].max() == min(against)


def test_an_acyclic_graph_follows_the_order_of_its_gates():
    P = np.where(DAG, 0.9, 0.2)
    assert follows(strongest_order(P))[DAG].all()


def test_gates_against_a_given_order_stay_closed_however_the_others_start():
    gates = a_gates(problem(SINGLE, n=5), np.where(DAG, 0.9, 0.2), np.full((5, 4), 0.9))
    order = np.array([2, 0, 3, 1])
    gates.keep_to(order)
    P = gates.edge_probability().detach().numpy()
    np.testing.assert_array_equal(P > 0, follows(order))
    assert (P[DAG & follows(order)] > 0.8).all()
    gates.start(2.0, -3.0)
    P = gates.edge_probability().detach().numpy()
    np.testing.assert_array_equal(P > 0.5, follows(order))
    np.testing.assert_array_equal(P > 0, follows(order))
    assert (gates.target_probability() < 0.5).all()


def test_gates_are_open_as_often_as_their_probability_and_have_the_gradient_of_the_gumbel_sigmoid():
    observed = problem(SINGLE, n=5)
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.05, 0.95, size=(4, 4))
    gates = a_gates(observed, probability)
    n = 20_000
    drawn = gates.sample_parents(n, torch.Generator().manual_seed(0))
    assert set(np.unique(drawn.detach().numpy().round(12))) == {0.0, 1.0}
    off = ~np.eye(4, dtype=bool)
    frequency = drawn.mean(dim=1).T.detach().numpy()
    np.testing.assert_allclose(frequency[off], probability[off], atol=4 * 0.5 / math.sqrt(n))  # 4 standard errors
    assert not frequency[~off].any()
    drawn.mean(dim=1).sum().backward()
    logits = gates.edge_logits.detach().numpy()
    for i, j in ((0, 1), (3, 2)):  # the mean slope of the relaxed gate, by quadrature

        def slope(u, logit=logits[i, j]):
            soft = 1 / (1 + np.exp(-(logit + np.log(u / (1 - u)))))
            return soft * (1 - soft)

        assert gates.edge_logits.grad[i, j].item() == pytest.approx(integrate.quad(slope, 0, 1)[0], abs=4 * 0.13 / math.sqrt(n))


def test_told_targets_have_no_gate():
    samples = Samples.of(problem(SINGLE, told=True, n=5))
    gates = Gates(samples.told, samples.estimated, "float32")
    np.testing.assert_array_equal(gates.target_probability().detach().numpy(), matrix(SINGLE))
    estimated = Samples.of(problem(SINGLE, n=5)).estimated
    np.testing.assert_array_equal(estimated.all(axis=1), [False, True, True, True, True])
    np.testing.assert_array_equal(estimated.any(axis=1), [False, True, True, True, True])


def test_the_gaussian_density_is_that_of_scipy():
    x, mean, scale = np.random.default_rng(0).normal(size=(3, 20))
    ours = gaussian(torch.tensor(x), torch.tensor(mean), torch.tensor(np.abs(scale)).log())
    np.testing.assert_allclose(ours, -stats.norm(mean, np.maximum(np.abs(scale), 1e-2)).logpdf(x), rtol=1e-10)


def test_the_flow_integrates_to_one():
    generator = torch.Generator().manual_seed(0)
    parameters = 0.5 * torch.randn(3, 1, FLOW_PARAMETERS, generator=generator, dtype=torch.float64)
    grid = torch.linspace(-100, 100, 20_001, dtype=torch.float64)
    mass = torch.trapezoid((-sigmoidal_flow(grid, parameters)).exp(), grid)
    np.testing.assert_allclose(mass, 1, atol=1e-4)  # tails and trapezoids


def _neural(observed, output="gaussian", imperfect=False):
    samples = Samples.of(observed)
    conditionals = NeuralConditionals(
        samples, output=output, imperfect=imperfect, batch_size=8, generator=torch.Generator().manual_seed(1)
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in conditionals.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return samples, conditionals


@pytest.mark.parametrize("imperfect", [False, True])
@pytest.mark.parametrize("output", ["gaussian", "flow"])
def test_the_batched_networks_equal_a_loop_over_variables_and_samples(output, imperfect):
    samples, conditionals = _neural(problem(SINGLE, n=6), output, imperfect)
    rows = [0, 7, 13, 29]
    parents = torch.rand((4, len(rows), 4), generator=torch.Generator().manual_seed(3)) < 0.6
    shared, own = conditionals.of(torch.tensor(rows), parents.float())
    for j in range(4):
        for s, row in enumerate(rows):
            x, e = conditionals.X[row], int(samples.environment[row])
            hidden = torch.where(parents[j, s], x, 0.0)
            for weight, bias in zip(conditionals.weights[:2], conditionals.biases[:2], strict=True):
                z = weight[j].T @ hidden + bias[j, 0]
                hidden = torch.where(z > 0, z, 0.01 * z)
            outputs = conditionals.weights[2][j].T @ hidden + conditionals.biases[2][j, 0]

            def density(outputs, log_scale, target=x[j]):
                return sigmoidal_flow(target, outputs) if output == "flow" else gaussian(target, outputs[0], log_scale)

            assert shared[j, s].item() == pytest.approx(density(outputs, conditionals.log_scale[j]).item(), abs=1e-4)
            if imperfect:
                changed = conditionals.weights[2][j].T @ (hidden * conditionals.own["factors"][e, j])
                changed = density(changed + conditionals.own["bias"][e, j], conditionals.own["log_scale"][e, j])
            elif output == "flow":
                changed = sigmoidal_flow(x[j], conditionals.own["bias"][e, j])
            else:
                of_environment = samples.X[samples.environment == e, j]
                changed = torch.tensor(-stats.norm(of_environment.mean(), of_environment.std()).logpdf(float(x[j])))
            assert own[j, s].item() == pytest.approx(changed.item(), abs=1e-4)


def test_a_target_counts_by_its_own_density_and_any_other_by_the_shared_one():
    observed = problem(SINGLE, n=6)
    samples, conditionals = _neural(observed)
    conditionals.batch_size = len(samples.X)
    sure = DAG.astype(float)
    for target in (np.zeros((5, 4)), matrix(SINGLE).astype(float)):
        gates = a_gates(observed, sure, target, "float32")
        value = conditionals.negative_log_likelihood(gates).item()
        shared, own = conditionals.of(torch.arange(len(samples.X)), torch.tensor(DAG.T[:, None, :]).float())
        is_target = (target > 0.5)[samples.environment].T
        wanted = np.where(is_target, own.detach().numpy(), shared.detach().numpy()).sum(axis=0).mean()
        assert value == pytest.approx(wanted, abs=1e-4)


def test_at_rest_all_samples_count_and_likely_gates_are_open(monkeypatch):
    monkeypatch.setattr(neural, "JUDGED_AT_ONCE", 4)
    observed = problem(SINGLE, n=6)
    samples, conditionals = _neural(observed)
    target = np.random.default_rng(0).uniform(size=(5, 4)) * matrix(SINGLE).any(axis=1, keepdims=True)
    gates = a_gates(observed, np.where(DAG, 0.6, 0.4), target, "float32")
    shared, own = conditionals.of(torch.arange(len(samples.X)), torch.tensor(DAG.T[:, None, :]).float())
    is_target = (target > 0.5)[samples.environment].T
    wanted = np.where(is_target, own.detach().numpy(), shared.detach().numpy()).mean(axis=1)
    np.testing.assert_allclose(losses_at_rest(conditionals, gates, FREE), wanted, atol=1e-4)


def test_samples_that_are_held_out_are_not_learned_from_and_judge_alone():
    observed = problem(SINGLE, n=12)
    samples = Samples.of(observed)
    assert np.bincount(samples.environment[samples.held_out]).tolist() == [2] * 5
    generator = torch.Generator().manual_seed(1)
    networks = NeuralConditionals(samples, output="gaussian", imperfect=False, batch_size=7, generator=generator, hold_out=True)
    seen = np.concatenate([networks._next_batch().numpy() for _ in range(40)])
    np.testing.assert_array_equal(np.unique(seen), np.flatnonzero(~samples.held_out))
    gates = GivenParents(DAG.T, samples.told, samples.estimated, "float32")
    shared, own = networks.of(torch.tensor(np.flatnonzero(samples.held_out)), torch.tensor(DAG.T[:, None, :]).float())
    for found, nats in zip(networks.by_environment(gates), (shared, own), strict=True):
        rows = samples.environment[samples.held_out]
        wanted = [nats.detach().numpy()[:, rows == e].sum(axis=1) / len(rows) for e in range(5)]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_where_no_environment_has_enough_samples_to_hold_one_out_those_that_are_learned_from_judge():
    observed = problem(SINGLE, n=4)
    samples = Samples.of(observed)
    assert not samples.held_out.any()
    answers = []
    for hold_out in (False, True):
        generator = torch.Generator().manual_seed(1)
        networks = NeuralConditionals(
            samples, output="gaussian", imperfect=False, batch_size=7, generator=generator, hold_out=hold_out
        )
        answers.append(losses_at_rest(networks, GivenParents(DAG.T, samples.told, samples.estimated, "float32"), FREE))
    np.testing.assert_array_equal(*answers)
    assert np.isfinite(answers[0]).all()


@pytest.mark.parametrize("imperfect", [False, True])
def test_linear_conditionals_at_rest_have_likely_gates_open_for_certain(imperfect):
    observed = problem(SINGLE, n=30)
    conditionals = LinearConditionals(Samples.of(observed), imperfect=imperfect)
    likely = a_gates(observed, np.where(DAG, 0.6, 0.4), np.where(matrix(SINGLE), 0.7, 0.1))
    sure = a_gates(observed, np.where(DAG, 1 - 1e-13, 1e-13), np.where(matrix(SINGLE), 1 - 1e-13, 1e-13))
    value = losses_at_rest(conditionals, likely, FREE).sum()
    assert value == pytest.approx(conditionals.negative_log_likelihood(sure).item(), rel=1e-6)
    assert value != pytest.approx(conditionals.negative_log_likelihood(likely).item(), rel=1e-3)


def _linear(imperfect):
    def make(observed):
        samples = Samples.of(observed)
        return samples, LinearConditionals(samples, imperfect=imperfect)

    return make


@pytest.mark.parametrize(
    "make",
    [
        _linear(False),
        _linear(True),
        lambda observed: _neural(observed),
        lambda observed: _neural(observed, "gaussian", True),
        lambda observed: _neural(observed, "flow", False),
    ],
    ids=["linear", "linear, imperfect", "networks", "networks, imperfect", "flow"],
)
def test_copies_answer_as_the_conditionals_they_were_copied_from_until_those_are_replaced(make):
    observed = problem(SINGLE, n=6)
    _, conditionals = make(observed)
    rows, parents = np.array([2, 0, 2]), DAG.T

    def nats(of, rows):
        gates = GivenParents(parents[rows], matrix(SINGLE)[:, rows], np.zeros((5, len(rows)), bool), of.precision)
        return losses_at_rest(of, gates, FREE)

    before = nats(conditionals, np.arange(4))
    copies = conditionals.copied(rows)
    np.testing.assert_allclose(nats(copies, rows), before[rows], rtol=1e-6)
    copies.restart(parents[rows])
    for parameter in copies.parameters():
        parameter.data += 0.1
    np.testing.assert_array_equal(nats(conditionals, np.arange(4)), before)
    changed = nats(copies, rows)
    conditionals.replace(np.array([0]), copies, np.array([1]))
    np.testing.assert_allclose(nats(conditionals, np.arange(4)), [changed[1], *before[1:]], rtol=1e-6)


def test_parents_that_are_given_count_as_gates_that_are_sure():
    observed = problem(SINGLE, n=20)
    samples = Samples.of(observed)
    given = GivenParents(DAG.T, samples.told, samples.estimated, "float64")
    gates = a_gates(observed, np.where(DAG, 1 - 1e-13, 1e-13))
    for conditionals in (LinearConditionals(samples, imperfect=False), LinearConditionals(samples, imperfect=True)):
        value = conditionals.negative_log_likelihood(given).item()
        assert value == pytest.approx(conditionals.negative_log_likelihood(gates).item(), rel=1e-6)
    drawn = given.sample_parents(7, torch.Generator())
    np.testing.assert_array_equal(drawn, np.broadcast_to(DAG.T[:, None], (4, 7, 4)))


def test_weights_learn_alone_at_first_once_an_order_is_fixed():
    """With every gate open that follows it; then the gates start where they are told to."""
    observed = problem(SINGLE, n=6)
    _, conditionals = _neural(observed)
    gates, before = a_gates(observed, precision="float32"), conditionals.weights[0].detach().clone()
    schedule = dataclasses.replace(NEURAL_SCHEDULE, window=5, opened=10, settle=5, settling_gate_rate=0.01)
    seen = []

    class Watched(Training):
        def _windows(self, n_steps, gate_rate, **kwargs):
            for objective in super()._windows(n_steps, gate_rate, **kwargs):
                seen.append(gates.edge_probability().detach().numpy())
                yield objective

    Watched(conditionals, gates, Sparsity(0.01, 0.01), schedule, 100, Budget())._settle(np.arange(4))
    follows_order = follows(np.arange(4))
    for P in seen[:2]:
        assert (P[follows_order] > 0.9999).all()
        assert not P[~follows_order].any()
    assert (np.abs(seen[2][follows_order] - 0.88) < 0.02).all()
    assert (conditionals.weights[0] != before).any()


@pytest.mark.parametrize("imperfect", [False, True])
def test_linear_conditionals_are_weighted_least_squares_where_all_gates_are_sure(imperfect):
    observed = problem(SINGLE, n=50)
    samples = Samples.of(observed)
    sure = np.where(DAG, 1 - 1e-13, 1e-13)
    gates = a_gates(observed, sure, np.where(matrix(SINGLE), 1 - 1e-13, 1e-13))
    value = LinearConditionals(samples, imperfect=imperfect).negative_log_likelihood(gates).item()

    def best(rows, j, parents):
        design = np.column_stack([np.ones(rows.sum()), samples.X[rows][:, parents]])
        residual = samples.X[rows, j] - design @ np.linalg.lstsq(design, samples.X[rows, j], rcond=None)[0]
        return -stats.norm(0, residual.std()).logpdf(residual).sum()

    wanted = 0.0
    for j in range(4):
        is_target = matrix(SINGLE)[samples.environment, j]
        wanted += best(~is_target, j, DAG[:, j])
        for e in np.unique(samples.environment[is_target]):
            wanted += best(samples.environment == e, j, DAG[:, j] & imperfect)
    assert value == pytest.approx(wanted / len(samples.X), rel=1e-4)


def test_the_linear_expectation_over_gates_is_that_of_drawn_gates():
    observed = problem(SINGLE, n=20)
    samples = Samples.of(observed)
    probability = np.random.default_rng(0).uniform(0.2, 0.9, size=(4, 4))
    gates = a_gates(observed, probability)
    conditionals = LinearConditionals(samples, imperfect=False)
    residual, _ = conditionals._solved(conditionals.moments.sum(dim=0)[None].expand(4, 5, 5), gates.inverse_odds())
    expected = conditionals._expected_squares(residual, gates.inverse_odds()).detach()
    residual = residual.detach()
    # The coefficient of an open gate is the effective one divided by its probability.
    drawn = np.random.default_rng(1).random((20_000, 4)) < probability[:, 2]
    of_open = residual[2, 1:].numpy() * np.where(np.arange(4) == 2, 1, drawn / probability[:, 2])
    in_environment = samples.X[samples.environment == 1]
    squares = (residual[2, 0].numpy() + of_open @ in_environment.T) ** 2
    assert expected[1, 2].item() == pytest.approx(squares.mean(), abs=4 * squares.mean(axis=1).std() / math.sqrt(20_000))


def test_the_linear_gradient_is_that_of_the_value():
    observed = problem(SINGLE, n=20)
    samples = Samples.of(observed)
    rng = np.random.default_rng(0)
    edges, targets = rng.uniform(0.1, 0.9, size=(4, 4)), rng.uniform(0.1, 0.9, size=(5, 4))
    for imperfect in (False, True):
        conditionals = LinearConditionals(samples, imperfect=imperfect)
        gates = a_gates(observed, edges, targets)
        conditionals.negative_log_likelihood(gates).backward()
        for logits, place in ((gates.edge_logits, (0, 1)), (gates.edge_logits, (2, 3)), (gates.target_logits, (2, 1))):
            gradient, values = logits.grad[place].item(), []
            for step in (1e-4, -2e-4):
                logits.data[place] += step
                values.append(conditionals.negative_log_likelihood(gates).item())
            logits.data[place] += 1e-4
            assert gradient == pytest.approx((values[0] - values[1]) / 2e-4, rel=2e-3, abs=1e-7)


# Refinement ---------------------------------------------------------------------------------------------------------------


def test_changes_that_go_together_keep_the_graph_acyclic_and_change_each_variable_once():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        graph = follows(rng.permutation(5)) & (rng.random((5, 5)) < 0.5)
        gain = rng.normal(size=(5, 5))
        changes = best_changes(graph, gain)
        variables = [j for _, j in changes]
        assert len(set(variables)) == len(variables)
        changed = graph.copy()
        for i, j in changes:
            changed[i, j] = ~changed[i, j]
        assert is_acyclic(changed)

        def alone(entries, graph=graph):
            changed = graph.copy()
            for i, j in entries:
                changed[i, j] = ~changed[i, j]
            return changed

        # The best single change, or turn, of all that leave a DAG is among them.
        moves = [[(i, j)] for i in range(5) for j in range(5) if i != j] + [[(i, j), (j, i)] for i, j in np.argwhere(graph)]
        best = max((m for m in moves if is_acyclic(alone(m))), key=lambda m: sum(gain[e] for e in m))
        if sum(gain[e] for e in best) > LEAST_GAIN:
            assert {(int(i), int(j)) for i, j in best} <= set(changes)
        else:
            assert not changes


def test_an_edge_is_held_against_its_absence_and_its_reverse_and_the_lack_of_one_against_its_addition():
    graph = np.zeros((4, 4), dtype=bool)
    graph[[0, 1, 0, 3], [1, 2, 2, 2]] = True
    gain = np.array(
        [
            [0.0, -5.0, -4.0, -0.5],
            [2.0, 0.0, -3.0, -0.2],
            [9.0, 1.0, 0.0, 7.5],
            [-0.1, -0.3, -8.0, 0.0],
        ]
    )
    wanted = np.array(
        [
            [np.inf, 3.0, 4.0, 0.5],  # 0 -> 1: 5 against none, 5 - 2 against 1 -> 0; 0 -> 2 cannot turn, 1 lies between
            [3.0, np.inf, 2.0, 0.2],
            [np.inf, 2.0, np.inf, 0.5],  # 2 -> 0 closes a cycle
            [0.1, 0.3, 0.5, np.inf],
        ]
    )
    np.testing.assert_allclose(preference(graph, gain), wanted)


def test_scores_rank_decisions_that_are_all_certain_and_stay_on_their_side_of_one_half():
    nats = np.array([-1.0, 0.0, 2.0, 300.0, 900.0, np.inf, np.nan])
    for decided in (True, False):
        score = scores(np.full(7, decided), nats)
        distance = score - 0.5 if decided else 0.5 - score
        assert (distance > 0).all()
        assert (np.diff(distance)[1:5] > 0).all()
        np.testing.assert_array_equal(score[-2:], float(decided))


def test_scores_of_a_refined_answer_are_what_each_edge_more_would_cost():
    observed = problem(SINGLE, n=40, told=True, seed=4)
    found, samples = _refined(observed, EMPTY), Samples.of(observed)
    linear, price = LinearConditionals(samples, imperfect=False), Sparsity(0.01, 0.01)

    def objective(graph):
        return losses_at_rest(linear, GivenParents(graph.T, samples.told, samples.estimated, "float64"), price).sum()

    possible = np.argwhere((found.edge_probability > 0) & ~found.graph & ~found.graph.T)
    assert len(possible) > 0
    for i, j in possible:
        other = found.graph.copy()
        other[i, j] = True
        nats = len(samples.X) * (objective(other) - objective(found.graph))
        assert found.edge_probability[i, j] == pytest.approx(0.5 / (1.0 + nats), abs=1e-6)
    np.testing.assert_array_equal(found.target_probability, samples.told)


def test_scores_of_a_refined_answer_are_what_each_target_gains():
    observed = problem(SINGLE, n=40, seed=4)
    found, samples = _refined(observed, EMPTY), Samples.of(observed)
    targets = found.target_probability > 0.5
    assert 0 < targets.sum() < samples.estimated.sum()
    gates = GivenParents(found.graph.T, targets, np.zeros_like(targets), "float64")
    shared, own = LinearConditionals(samples, imperfect=False).by_environment(gates)
    nats = len(samples.X) * (np.asarray(shared - own) - 0.01)
    wanted = np.where(samples.estimated, 0.5 + 0.5 * nats / (1.0 + abs(nats)), 0.0)
    np.testing.assert_allclose(found.target_probability, wanted, atol=1e-6)


def _refined(observed, graph, conditionals="linear", price=0.01, budget=None):
    samples = Samples.of(observed)
    if conditionals == "linear":
        fresh = LinearConditionals(samples, imperfect=False)
    else:
        _, fresh = _neural(observed)
        fresh.batch_size = 256
    answer = Outcome(graph.astype(float), np.zeros((len(samples.told), 4)), graph, np.inf, True, False, 0)
    return Refinement(fresh, samples, Sparsity(price, 0.01), PACES[conditionals], budget or Budget()).run(answer)


EMPTY, FULL = DAG & ~DAG, follows(np.array([2, 1, 3, 0]))


@pytest.mark.parametrize(
    ("start", "told"),
    [(EMPTY, True), (EMPTY, False), (DAG.T, True), (FULL, True)],
    ids=["empty, told", "empty", "turned, told", "full, told"],
)
def test_single_changes_lead_from_a_wrong_graph_to_the_true_one(start, told):
    found = _refined(problem(SINGLE, n=300, told=told), start)
    np.testing.assert_array_equal(found.graph, DAG)
    np.testing.assert_array_equal(found.edge_probability > 0.5, DAG)
    np.testing.assert_array_equal(found.target_probability > 0.5, matrix(SINGLE))
    assert not found.cut_short


def test_networks_turn_an_edge_around_that_a_search_has_wrong():
    wrong = DAG.copy()
    wrong[0, 1], wrong[1, 0] = False, True
    found = _refined(problem(SINGLE, n=300, told=True, nonlinear=True), wrong, "neural")
    np.testing.assert_array_equal(found.graph, DAG)


def test_the_objective_of_a_refined_answer_is_that_of_its_graph_and_no_single_change_has_a_lower_one():
    observed = problem(SINGLE, n=60, told=True, seed=4)
    samples, price = Samples.of(observed), 0.02
    found = _refined(observed, np.zeros((4, 4), bool), price=price)
    linear = LinearConditionals(samples, imperfect=False)

    def objective(graph):
        gates = GivenParents(graph.T, samples.told, samples.estimated, "float64")
        return losses_at_rest(linear, gates, Sparsity(price, 0.01)).sum()

    assert found.objective == pytest.approx(objective(found.graph), abs=1e-9)
    for i, j in itertools.permutations(range(4), 2):
        other = found.graph.copy()
        other[i, j] = ~other[i, j]
        if is_acyclic(other):
            assert objective(other) > found.objective - LEAST_GAIN


def test_a_refinement_out_of_budget_leaves_the_answer_as_it_is_and_says_so():
    found = _refined(problem(SINGLE, n=30), DAG.T, budget=Budget(seconds=0.0))
    assert found.cut_short
    np.testing.assert_array_equal(found.graph, DAG.T)
    # A refined answer is to be preferred, whatever a search says of its own.
    assert found.objective == np.inf


# The method ---------------------------------------------------------------------------------------------------------------


def test_the_linear_variant_recovers_the_graph_given_the_targets():
    # 300 samples per environment of weights 1.2: every edge gains more than a hundred nats.
    fitted = fit(problem(SINGLE, told=True), LINEAR)
    np.testing.assert_array_equal(fitted.estimate.point_graph, DAG)
    np.testing.assert_array_equal(fitted.estimate.target_probability, matrix(SINGLE))
    assert fitted.converged is True
    assert not fitted.cut_short


def test_the_linear_variant_finds_the_targets_of_a_chain():
    # At most 2 of 20 entries are wrong, where 4 are targets; the graph is held to less, since the search is local.
    fitted = fit(problem(SINGLE), LINEAR)
    assert ((fitted.estimate.target_probability > 0.5) != matrix(SINGLE)).sum() <= 2
    assert fitted.converged is True


@pytest.mark.slow
@pytest.mark.parametrize("seed", [9100, 9101, 9102])
def test_the_linear_variant_finds_graph_and_targets_when_nothing_is_told(seed):
    """All of them; from a full graph alone, 5, 6 and 2 pairs were wrong and half of the targets were missed."""
    drawn = prepare(registry.make_problem("dcdi[edges_per_node=1.0]", seed=seed), seed=seed).problem
    found = fit(drawn.observed, LINEAR).estimate
    np.testing.assert_array_equal(found.point_graph, drawn.truth.adjacency)
    np.testing.assert_array_equal(found.target_probability > 0.5, drawn.truth.targets)


def test_imperfect_targets_keep_their_parents():
    """Edges that only environments with an intervention on their effect could show: perfect targets have no parents there."""
    observed = problem([{1, 2}, {1, 2}], n=100, told=True, kind="mechanism")
    assert not fit(observed, LINEAR).estimate.point_graph[:, [1, 2]].any()
    graph = fit(observed, f"{LINEAR[:-1]},interventions=imperfect]").estimate.point_graph
    assert (graph | graph.T)[DAG].all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        NEURAL,
        f"{NEURAL[:-1]},interventions=imperfect]",
        pytest.param(
            f"{NEURAL[:-1]},output=flow]",
            marks=pytest.mark.xfail(
                reason="flows are not refined: the search found it with one order of batches, and not with two"
            ),
        ),
    ],
)
def test_networks_recover_a_nonlinear_graph_given_the_targets(spec):
    # At most one of six pairs is wrong; without any edge it would be three.
    fitted = fit(problem(SINGLE, told=True, nonlinear=True), spec)
    graph = fitted.estimate.point_graph
    assert ((graph != DAG) | (graph != DAG).T).sum() // 2 <= 1
    assert fitted.converged is True


def test_a_search_that_its_steps_end_says_that_it_did_not_converge():
    fitted = fit(problem(SINGLE), f"{LINEAR[:-1]},max_steps=40]")
    assert fitted.converged is False
    assert not fitted.cut_short
    assert is_acyclic(fitted.estimate.point_graph)


def test_refinement_lowers_the_objective_and_can_be_left_out():
    """On a dense graph, of which a search alone has many edges the wrong way."""
    drawn = prepare(registry.make_problem("dcdi[edges_per_node=4.0,n_samples=2000]", seed=9600), seed=9600).problem

    def outcome(refinement):
        method = registry.make_method("dcdi", refinement=refinement)
        return method.train(drawn.observed, np.random.default_rng(0), Budget())

    alone, refined = outcome(False), outcome(True)
    assert refined.objective < alone.objective - LEAST_GAIN
    assert (refined.graph != alone.graph).any()
    assert is_acyclic(refined.graph)


class Patience(Budget):
    """Runs out after a number of looks."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    @property
    def expired(self):
        self.looks -= 1
        return self.looks < 0


@pytest.mark.parametrize("spec", [NEURAL, LINEAR])
@pytest.mark.parametrize("looks", [0, 30])
def test_a_budget_that_runs_out_leaves_a_dag_and_says_so(spec, looks):
    fitted = fit(problem(SINGLE, n=20), spec, budget=Patience(looks))
    assert fitted.cut_short
    assert fitted.converged is False
    assert is_acyclic(fitted.estimate.point_graph)


@pytest.mark.parametrize(
    "spec",
    [f"{NEURAL[:-1]},{more}]" for more in ("max_steps=30", "output=flow,max_steps=5", "interventions=imperfect,max_steps=30")],
)
def test_the_same_generator_gives_the_same_answer_and_torchs_own_is_left_alone(spec):
    observed = problem(SINGLE, n=20)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (fit(observed, spec, seed).estimate.edge_probability for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_single_environment_has_no_targets():
    fitted = fit(Observed((Environment(problem([set()]).environments[0].X),)), f"{LINEAR[:-1]},max_steps=40]")
    assert not fitted.estimate.target_probability.any()


def test_linear_conditionals_with_a_flow_are_refused():
    with pytest.raises(InputError, match="Gaussian output only"):
        fit(problem([set()]), f"{LINEAR[:-1]},output=flow]")


def test_without_torch_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="pip install"):
        fit(problem([set()]), NEURAL)
