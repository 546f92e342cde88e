"""How much of a knockout counts of cells show: targets by a classifier that learned from the truth of other draws.

``python results/comparisons/targets_in_counts.py``: some five minutes. Printed is the mean average precision, over draws that
were not learned from, of the classifier; of one number alone, how improbable it is that no cell of an environment shows the
gene; and of MetaCaDI, with what its false targets are. No method of the benchmark has such a teacher, so that one which comes
near has little left to find. It is no bound: features that are not here may say more.

Problems are those of suite ``gene_expression``, knockouts with 10x counts, with seeds that no suite draws.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from bench.preprocessing import prepare
from bench.registry import make_method, make_problem
from bench.types import BoolArray, FloatArray

SPEC = (
    "gene_expression[n_variables=20,n_observational=100,n_environments=10,n_per_environment=10,"
    "interventions=knockout,technical_noise=10x-1]"
)
FIRST_SEED, N_DRAWS, N_LEARNED = 9800, 160, 120
N_CORRELATED = 3
_LEAST = 1e-9


def features(seed: int) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Of each gene in each environment that may have targets.

    Returns
    -------
    features : float64 (m, f)
        How often the gene is seen there and elsewhere, its mean and spread (square roots), how full the cells are, and the same
        of the genes that it goes with elsewhere.
    silence : float64 (m,)
        One minus the probability that no cell would show it, where none does; else 0.
    is_target : bool (m,)
    """
    problem = make_problem(SPEC, seed=seed)
    assert problem.truth is not None
    assert problem.truth.targets is not None
    environments = [np.sqrt(e.X) for e in problem.observed.environments]
    blocks, silences, labels = [], [], []
    for e, environment in enumerate(problem.observed.environments):
        if environment.is_observational:
            continue
        here, elsewhere = environments[e], np.concatenate(environments[:e] + environments[e + 1 :])
        absent, usually = (here == 0).mean(axis=0), (elsewhere == 0).mean(axis=0)
        spread = elsewhere.std(axis=0) + _LEAST
        moved = (here.mean(axis=0) - elsewhere.mean(axis=0)) / spread
        together = np.nan_to_num((elsewhere - elsewhere.mean(axis=0)).T @ (elsewhere - elsewhere.mean(axis=0)))
        together /= len(elsewhere) * np.outer(spread, spread)
        np.fill_diagonal(together, 0.0)
        nearest = np.argsort(-abs(together), axis=1)[:, :N_CORRELATED]
        full = np.tile([(here == 0).mean(), (absent == 1).sum()], (len(absent), 1))
        of_gene = [absent, usually, here.mean(axis=0), elsewhere.mean(axis=0), here.std(axis=0), spread, moved]
        blocks.append(np.hstack([np.column_stack(of_gene), full, moved[nearest], np.take_along_axis(together, nearest, 1)]))
        silences.append(np.where(absent == 1, 1.0 - usually ** len(here), 0.0))
        labels.append(problem.truth.targets[e])
    return np.vstack(blocks), np.concatenate(silences), np.concatenate(labels)


def of_metacadi(seed: int) -> tuple[float, int, int, int]:
    """Target AP; targets above .9, those of them that are none, and those of these that no cell of the environment shows."""
    problem = prepare(make_problem(SPEC, seed=seed), transform="auto", seed=seed).problem
    assert problem.truth is not None
    assert problem.truth.targets is not None
    fitted = make_method("metacadi").fit(problem.observed, rng=np.random.default_rng(seed))
    probability, is_target = fitted.estimate.target_probability, problem.truth.targets
    assert probability is not None
    lowest = problem.observed.pooled().min(axis=0)
    silent = np.array([np.equal(e.X, lowest).all(axis=0) for e in problem.observed.environments])
    false = (probability > 0.9) & ~is_target
    average_precision = average_precision_score(is_target.ravel(), probability.ravel())
    return float(average_precision), int((probability > 0.9).sum()), int(false.sum()), int((false & silent).sum())


def main() -> None:
    """Learn from the first draws, print what the others show."""
    draws = [features(seed) for seed in range(FIRST_SEED, FIRST_SEED + N_DRAWS)]
    learned, others = draws[:N_LEARNED], draws[N_LEARNED:]
    classifier = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, max_leaf_nodes=8, random_state=0)
    classifier.fit(np.vstack([f for f, _, _ in learned]), np.concatenate([y for _, _, y in learned]))
    taught = np.mean([average_precision_score(y, classifier.predict_proba(f)[:, 1]) for f, _, y in others])
    silent = np.mean([average_precision_score(y, s) for _, s, y in others])
    seeds = range(FIRST_SEED + N_LEARNED, FIRST_SEED + N_DRAWS)
    found, certain, false, false_and_silent = np.array([of_metacadi(seed) for seed in seeds]).T
    print(
        f"target AP over {len(others)} draws: classifier {taught:.2f}, silent genes {silent:.2f}, metacadi {found.mean():.2f}"
    )
    print(f"metacadi above .9: {certain.sum():.0f}, no targets {false.sum():.0f}, silent ones {false_and_silent.sum():.0f}")


if __name__ == "__main__":
    main()
