"""The evidence as a function that torch differentiates: the compiled numbers, and gradients that finite differences confirm."""

import dataclasses

import numpy as np
import pytest
import torch

from bench.torch_threads import one_thread
from bench.types import Environment, Observed
from methods.metacadi.evidence import Evidence, starts
from methods.metacadi.features import Basis, Statistics
from methods.metacadi.model import LEARNED_AFTER_THE_SEARCH, Priors, split_by_knowledge
from methods.metacadi.torch_evidence import Regressions, local_evidence, log_priors

D = 5
PRIORS = Priors(
    target=0.2,
    shift_weight=2.0,
    scale_weight=0.5,
    relearned_weight=0.7,
    hard_strength=0.3,
    fresh_shape=1.3,
    scale_strength=20.0,
    variance_drift=0.05,
)
BASES = {"linear": Basis(D), "with functions and products": Basis(D, (np.sin,), ((0, 0),), (2.0, 5.0))}
NAMES = [f.name for f in dataclasses.fields(Priors) if f.name not in LEARNED_AFTER_THE_SEARCH]


@pytest.fixture(autouse=True)
def _threads():
    with one_thread():
        yield


def draw(seed, n_known, sizes):
    """Linear mechanisms; about every third variable of an environment is moved, and noisier or quieter."""
    rng = np.random.default_rng(seed)
    mechanism = np.linalg.inv(np.eye(D) - np.triu(rng.uniform(0.5, 1.5, size=(D, D)), 1) * (rng.random((D, D)) < 0.5))
    environments = [Environment(rng.normal(size=(n_known, D)) @ mechanism, is_observational=True)] if n_known else []
    for n in sizes:
        target = rng.random(D) < 0.35
        noise = rng.normal(size=(n, D)) * np.where(target, rng.choice([0.5, 3.0], size=D), 1.0)
        environments.append(Environment((noise + target * rng.choice([-2, 2], size=D)) @ mechanism))
    return Observed(tuple(environments))


CASES = {"with observational samples": (40, [12, 7, 20, 3]), "nothing known": (0, [12, 9, 15, 10, 11])}
PARENT_SETS = [(0, []), (1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (2, [4])]


def as_tensors(observed, basis, parent_sets):
    fixed, possible, _ = split_by_knowledge(observed)
    statistics = Statistics.of(possible, basis)
    regressions = Regressions.of(
        statistics, Statistics.of(fixed, basis), [(i, np.array(parents, dtype=np.intp)) for i, parents in parent_sets]
    )
    return regressions, torch.from_numpy(starts(statistics, D, with_observational=bool(fixed)))


def members(parents):
    return np.isin(np.arange(D), parents)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("basis", BASES)
def test_torch_and_compiled_code_agree(case, basis):
    """To 1e-8: scores, and the probability of every environment; in one batch that fills up smaller parent sets."""
    observed = draw(1, *CASES[case])
    evidence = Evidence(observed, PRIORS, BASES[basis])
    regressions, first_guesses = as_tensors(observed, BASES[basis], PARENT_SETS)
    score, keep = local_evidence(log_priors(PRIORS), regressions, D, first_guesses)
    _, _, places = split_by_knowledge(observed)
    for b, (i, parents) in enumerate(PARENT_SETS):
        assert score[b].item() == pytest.approx(evidence.score(i, members(parents)), abs=1e-8)
        wanted = evidence.target_probability(i, members(parents))[places]
        assert np.allclose(1 - keep[b].numpy(), wanted, rtol=0, atol=1e-8)


def test_an_alternative_without_weight_is_left_out():
    priors = dataclasses.replace(PRIORS, hard_weight=0.0)
    observed = draw(2, *CASES["with observational samples"])
    regressions, first_guesses = as_tensors(observed, Basis(D), PARENT_SETS)
    score, _ = local_evidence(log_priors(priors), regressions, D, first_guesses)
    evidence = Evidence(observed, priors)
    assert score.numpy() == pytest.approx([evidence.score(i, members(p)) for i, p in PARENT_SETS], abs=1e-8)


def gradients(observed):
    """Of the sum of all scores in the logarithm of each prior."""
    regressions, first_guesses = as_tensors(observed, Basis(D), PARENT_SETS)
    values = {name: x.requires_grad_() for name, x in log_priors(PRIORS).items()}
    score, _ = local_evidence(values, regressions, D, first_guesses)
    return np.array([g.item() for g in torch.autograd.grad(score.sum(), list(values.values()))])


def compiled_total(observed, name, log_change):
    priors = dataclasses.replace(PRIORS, **{name: getattr(PRIORS, name) * np.exp(log_change)})
    evidence = Evidence(observed, priors)
    return sum(evidence.score(i, members(parents)) for i, parents in PARENT_SETS)


@pytest.mark.parametrize("case", CASES)
def test_gradient_in_every_prior_is_that_of_the_compiled_score(case):
    """Central differences of width 1e-4: off by h² f''' / 6, and by rounding of 1e-11 / h; 1e-5 covers both, and gradients
    reach from .001 to 100."""
    observed = draw(3, *CASES[case])
    h = 1e-4
    wanted = [(compiled_total(observed, n, h) - compiled_total(observed, n, -h)) / (2 * h) for n in NAMES]
    assert np.abs(wanted).max() > 1
    assert np.count_nonzero(np.abs(wanted) > 1e-3) > 15
    assert gradients(observed) == pytest.approx(np.array(wanted), abs=1e-5)


def test_threads_and_random_state_of_torch_stay_as_they_were():
    before, n_threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
        gradients(draw(3, *CASES["with observational samples"]))
    assert torch.get_num_threads() == 2
    assert torch.equal(before, torch.get_rng_state())
    torch.set_num_threads(n_threads)
