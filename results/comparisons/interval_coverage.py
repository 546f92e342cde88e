"""Coverage of three bootstrap intervals of a mean, simulated; prints the table that stands in ``bench/intervals.py``.

``python results/comparisons/interval_coverage.py``: a minute or two.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from bench.intervals import bootstrap_intervals, expanded_quantile

TRIALS = 1500
RESAMPLES = 2000
SCORES = {
    "10, normal": ("normal", [10]),
    "10, exponential": ("exponential", [10]),
    "10, near one like AP": ("near one", [10]),
    "20, exponential": ("exponential", [20]),
    "4 x 5, near one": ("near one", [5] * 4),
    "4 x 3, exponential": ("exponential", [3] * 4),
    "50, log-normal": ("log-normal", [50]),
}
MEANS = {"normal": 0.0, "exponential": 1.0, "near one": 0.9, "log-normal": float(np.exp(0.5))}


def draw(law: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Scores float64 (n, trials)."""
    match law:
        case "normal":
            return rng.normal(size=shape)
        case "exponential":
            return rng.exponential(size=shape)
        case "log-normal":
            return rng.lognormal(size=shape)
    return rng.beta(4.5, 0.5, size=shape)


def others(x: np.ndarray, groups: list[int], rng: np.random.Generator) -> list[tuple[float, float]]:
    """The percentile interval at the expanded level and the plain BCa interval, written out for one sample."""
    stops = np.cumsum(groups)
    parts = np.split(x, stops[:-1])
    counts = np.hstack([rng.multinomial(m, np.full(m, 1 / m), size=RESAMPLES) for m in groups])
    means = counts @ x / len(x)
    wide = stats.norm.cdf(expanded_quantile(len(x), len(groups)))
    below = ((means < x.mean() - 1e-12).mean() + (means <= x.mean() + 1e-12).mean()) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    centred = np.concatenate([part - part.mean() for part in parts])
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    shifted = bias + stats.norm.ppf([0.025, 0.975])
    levels = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    return [tuple(np.quantile(means, [1 - wide, wide])), tuple(np.quantile(means, levels))]


def main() -> None:
    print(f"{'scores':22}  percentile, expanded  BCa   BCa, expanded")
    for label, (law, groups) in SCORES.items():
        rng = np.random.default_rng(0)
        X, mean = draw(law, (sum(groups), TRIALS), rng), MEANS[law]
        low, high = bootstrap_intervals(X, np.repeat(np.arange(len(groups)), groups), resamples=RESAMPLES)
        ours = ((low <= mean) & (mean <= high)).mean()
        found = np.array([[a <= mean <= b for a, b in others(x, groups, rng)] for x in X.T]).mean(axis=0)
        print(f"{label:22}  {found[0]:.2f}                  {found[1]:.2f}  {ours:.2f}")


if __name__ == "__main__":
    main()
