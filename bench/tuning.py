"""One procedure that fixes the hyperparameters of every method: random search on a suite made for nothing else.

1. *Screening*: the defaults and random configurations from the method's ``search_space`` meet the first draw of every dataset.
2. *Final*: the best few, and the defaults, meet fresh draws, so that luck in the screening does not count.
3. The best in the final becomes the default where its paired interval with the present defaults excludes zero; else these stay.

The loss of a problem is the mean of two shares, each at most one: SHD between I-essential graphs per true edge, and one minus
the target F1, for methods that estimate targets. A failure costs one. No figure of any other suite has a say.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import registry, runner
from bench.columns import FAILURES
from bench.errors import InputError, UnknownName
from bench.files import write_atomic
from bench.intervals import bootstrap_intervals
from bench.seeds import canonical, generator
from bench.suites import MethodItem, Suite, load_suite

SUITE = "tuning"
RECORDS = Path("results") / "tuning"


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration and how it did.

    Parameters
    ----------
    parameters : mapping of str to Any
        Those that differ from the defaults.
    screening_loss : float
        Mean over the first draw of each dataset.
    final_loss : float
        Mean over the fresh draws; NaN for those that screening left behind.
    difference : tuple of float (mean, low, high)
        Final loss less that of the defaults, paired, with its 95% interval; NaN for the defaults themselves.
    fit_seconds : float
        Mean over all fits that ended well.
    failed : int
        Failed fits.
    """

    parameters: Mapping[str, Any]
    screening_loss: float
    final_loss: float
    difference: tuple[float, float, float]
    fit_seconds: float
    failed: int

    @property
    def is_better(self) -> bool:
        """Better than the defaults on fresh draws, by more than luck."""
        return self.difference[2] < 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What :func:`tune` found: every trial, finalists first by final loss, then the others by screening loss."""

    method: str
    track: str
    search_space: Mapping[str, Sequence[Any]]
    defaults: Mapping[str, Any]
    trials: tuple[Trial, ...]
    n_screening: int
    n_final: int

    @property
    def chosen(self) -> dict[str, Any]:
        """Value of every tuned parameter that the method should have as its default."""
        better = next((t for t in self.trials if t.is_better), None)
        return {**self.defaults, **(better.parameters if better else {})}

    def save(self, folder: Path = RECORDS) -> Path:
        """Write ``<method>.json``, which is what a test compares with the defaults in the code."""
        record = {
            "method": self.method,
            "track": self.track,
            "search_space": {k: list(v) for k, v in self.search_space.items()},
            "defaults_before": dict(self.defaults),
            "chosen": self.chosen,
            "problems": {"screening": self.n_screening, "final": self.n_final},
            "trials": [_recorded(t) for t in self.trials],
        }
        return write_atomic(folder / f"{self.method}.json", json.dumps(record, indent=1) + "\n")


def _recorded(trial: Trial) -> dict[str, Any]:
    numbers = {"screening_loss": trial.screening_loss, "final_loss": trial.final_loss, "fit_seconds": trial.fit_seconds}
    return {
        "parameters": dict(trial.parameters),
        **{k: _rounded(v) for k, v in numbers.items()},
        "difference": [_rounded(v) for v in trial.difference],
        "failed": trial.failed,
    }


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def tune(
    method: str,
    *,
    trials: int = 24,
    finalists: int = 4,
    suite: Suite | str = SUITE,
    output: Path | None = None,
    jobs: int = 1,
    watch: runner.Watcher | None = None,
) -> Tuning:
    """Search the hyperparameters of a method at random, and say which configuration should be its default.

    Parameters
    ----------
    method : str
        Name of a registered method with a ``search_space``.
    trials : int
        Configurations in the screening, the defaults included; fewer where the space holds fewer.
    finalists : int
        How many besides the defaults go on to fresh draws.
    suite : Suite, name or path
        Its first repetition is the screening, the others are the final; its methods are ignored.
    output : path, optional
        Run directory, ``results/runs/tuning_<method>`` by default; what is stored there is not computed again.
    jobs : int
        Worker processes.
    watch : callable, optional
        Told of each finished step.

    Raises
    ------
    InputError
        If the method is unknown or has nothing to tune, or the suite has one repetition only.
    """
    space = search_space(method)
    defaults = {k: registry.entry("method", method).defaults[k] for k in space}
    base = suite if isinstance(suite, Suite) else load_suite(suite)
    if base.repetitions < 2:
        raise InputError(f"a tuning suite needs a repetition for the screening and more for the final, got {base.repetitions}")
    if trials < 2 or finalists < 1:
        raise InputError(f"tuning needs at least 2 trials and 1 finalist, got {trials} and {finalists}")
    capabilities = registry.make_method(method).effective_capabilities()
    track = "oracle" if capabilities.targets == "required" else "unknown"
    directory = output or runner.DEFAULT_OUTPUT / f"{SUITE}_{method}"

    def losses(candidates: Sequence[Mapping[str, Any]], repetitions: int) -> pd.DataFrame:
        items = tuple(MethodItem(name=method, parameters=dict(p)) for p in candidates)
        run = base.changed(methods=items, tracks=(track,), repetitions=repetitions, name=f"{SUITE}_{method}").changed(base="")
        rows = runner.run(run, output=directory, jobs=jobs, watch=watch)
        return rows.assign(loss=loss(rows, capabilities.estimates_targets))

    drawn = _draw(space, defaults, trials, generator("tuning", base.seed, method))
    screening = losses(drawn, 1)
    labels = [registry.Choice("method", method, p).label for p in drawn]
    mean = screening.groupby("method")["loss"].mean()
    order = sorted(range(1, len(drawn)), key=lambda i: mean[labels[i]])  # stable: of equals, the one drawn first
    final = losses([drawn[0], *(drawn[i] for i in order[:finalists])], base.repetitions)
    final = final[final["repetition"] > 0]
    return Tuning(
        method,
        track,
        space,
        defaults,
        _trials(drawn, labels, screening, final),
        n_screening=screening["problem"].nunique(),
        n_final=final["problem"].nunique(),
    )


def search_space(method: str) -> dict[str, list[Any]]:
    """What may be tuned, checked: known parameters, values that fit, the default among them.

    Raises
    ------
    InputError
        If the method is unknown, has no ``search_space``, or a parameter or value in it does not fit.
    """
    entry = registry.entry("method", method)
    declared: Mapping[str, Sequence[Any]] = getattr(entry.factory, "search_space", {})
    if not declared:
        raise InputError(f"method '{method}' has nothing to tune: it declares no search_space")
    for name, values in declared.items():
        if name not in entry.defaults:
            raise UnknownName(f"parameter in the search_space of '{method}':", name, entry.defaults)
        default = entry.defaults[name]
        if default is inspect.Parameter.empty or canonical(default) not in {canonical(v) for v in values}:
            raise InputError(
                f"the search_space of '{method}' must hold the default of '{name}', {default!r}, got {list(values)}"
            )
        for value in values:
            registry.choose("method", method, {name: value})
    return {name: list(values) for name, values in declared.items()}


def loss(rows: pd.DataFrame, estimates_targets: bool) -> pd.Series[float]:
    """Loss of every row in [0, 1], lower is better; NaN where the row was skipped or nothing of it is defined."""
    edges = rows["edge_prevalence"] * rows["n_variables"] * (rows["n_variables"] - 1)
    shares = {"graph": (rows["shd_interventional"] / edges).clip(upper=1.0)}
    if estimates_targets:
        shares["targets"] = 1.0 - rows["target_f1"]
    return pd.DataFrame(shares).mean(axis=1).mask(rows["status"].isin(FAILURES), 1.0)


def _draw(
    space: Mapping[str, Sequence[Any]], defaults: Mapping[str, Any], trials: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """The defaults, then distinct random configurations; parameters at their default are left out."""
    total = math.prod(len(values) for values in space.values())
    drawn: dict[str, dict[str, Any]] = {canonical({}): {}}
    if total <= trials:
        candidates = (dict(zip(space, values, strict=True)) for values in itertools.product(*space.values()))
    else:
        candidates = ({k: v[int(rng.integers(len(v)))] for k, v in space.items()} for _ in itertools.count())
    for candidate in candidates:
        changed = {k: v for k, v in candidate.items() if canonical(v) != canonical(defaults[k])}
        drawn.setdefault(canonical(changed), changed)
        if len(drawn) == trials:
            break
    return list(drawn.values())


def _trials(
    drawn: Sequence[Mapping[str, Any]], labels: Sequence[str], screening: pd.DataFrame, final: pd.DataFrame
) -> tuple[Trial, ...]:
    both = pd.concat([screening, final])
    final_losses = final.pivot(index=["dataset", "problem"], columns="method", values="loss")
    differences = final_losses.sub(final_losses[labels[0]], axis=0).drop(columns=labels[0])
    datasets, problems = (differences.index.get_level_values(k) for k in ("dataset", "problem"))
    low, high = bootstrap_intervals(differences.to_numpy(), list(datasets), list(problems))
    intervals = dict(zip(differences.columns, zip(differences.mean(), low, high, strict=True), strict=True))

    def trial(parameters: Mapping[str, Any], label: str) -> Trial:
        rows = both[both["method"] == label]
        mean, low, high = intervals.get(label, (math.nan,) * 3)
        return Trial(
            parameters,
            float(screening.loc[screening["method"] == label, "loss"].mean()),
            float(final_losses[label].mean()) if label in final_losses else math.nan,
            (float(mean), float(low), float(high)),
            float(rows["fit_seconds"].mean()),
            int(rows["status"].isin(FAILURES).sum()),
        )

    found = [trial(p, label) for p, label in zip(drawn, labels, strict=True)]
    return tuple(sorted(found, key=lambda t: (math.isnan(t.final_loss), t.final_loss, t.screening_loss)))
