"""Protein signalling in single cells (Sachs et al. 2005): nine conditions, eleven proteins.

The measurements are the paper's supplement; they are read from the data directory or downloaded, never shipped. What each
condition does and the reference graphs are published facts and stand here. Nothing is known to be true: "truth" is what
the literature agrees on, and the interventions act on activity more than on abundance.

References
----------
Sachs, Perez, Pe'er, Lauffenburger, Nolan, "Causal Protein-Signaling Networks Derived from Multiparameter Single-Cell Data",
Science 308:523, 2005 (conditions: table 1; reconstructed edges: figure 3).
Wang, Solus, Yang, Uhler, "Permutation-Based Causal Inference Algorithms with Interventions", NeurIPS 2017 (targets).
Mooij, Heskes, "Cyclic Causal Discovery from Continuous Equilibrium Data", UAI 2013 (U0126 changes Mek's effect on Erk
rather than Mek's level).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import quote

import numpy as np
import pandas as pd
from annotated_types import Ge, Le, Len

from bench.data_directory import DataFile, read
from bench.errors import InputError
from bench.registry import register_dataset
from bench.types import BoolArray, Environment, FloatArray, HeldOut, Meta, Observed, Problem, Truth

PROTEINS = ("Raf", "Mek", "PLCg", "PIP2", "PIP3", "Erk", "Akt", "PKA", "PKC", "P38", "JNK")

_COLUMNS = {
    "praf": "Raf",
    "pmek": "Mek",
    "plcg": "PLCg",
    "PIP2": "PIP2",
    "PIP3": "PIP3",
    "p44/42": "Erk",
    "pakts473": "Akt",
    "PKA": "PKA",
    "PKC": "PKC",
    "P38": "P38",
    "pjnk": "JNK",
}

_SOURCE = "https://raw.githubusercontent.com/juangamella/gnies-paper/fde5a8ed222471b634e4aac35efc316a67c942f6/sachs/sachs_2005/"


@dataclass(frozen=True, slots=True)
class Condition:
    """One experiment: its file, and which proteins it acts on by two annotations; None is "not annotated"."""

    file: str
    sha256: str
    wang2017: tuple[str, ...] | None
    pharmacological: tuple[str, ...]

    @property
    def name(self) -> str:
        """As in the paper's files, "cd3cd28+aktinhib"."""
        return self.file.partition(". ")[2].removesuffix(".csv")

    @property
    def data_file(self) -> DataFile:
        return DataFile(f"sachs/{self.file}", _SOURCE + quote(self.file), self.sha256)


CONDITIONS = {
    # General stimulation by CD3 and CD28.
    1: Condition("1. cd3cd28.csv", "ac8a96c9c700bd24065e411e5bd7832e68e253ad3e79113e65b6ceb492d83ea0", (), ()),
    # The same with ICAM-2.
    2: Condition("2. cd3cd28icam2.csv", "630d70126653cfc16c71c76db0840ad964e32c52465ce4669ba7fd4a0eff39ba", (), ()),
    # Akt inhibitor.
    3: Condition(
        "3. cd3cd28+aktinhib.csv",
        "30e1cadb2965f5b6ed6162ef87d32a74d4493d08729fb005386513f91b1ae5db",
        ("Akt",),
        ("Akt",),
    ),
    # G06976 inhibits PKC.
    4: Condition(
        "4. cd3cd28+g0076.csv",
        "1cc0a06038711a2b64ccb7b1b954bac9318ebdb1ee83efac72ce74886e12f860",
        ("PKC",),
        ("PKC",),
    ),
    # Psitectorigenin inhibits the hydrolysis of PIP2.
    5: Condition(
        "5. cd3cd28+psitect.csv",
        "eaa175355e443858f3edc803a3126ebebd7feef481a338513bec4261662d7b6b",
        ("PIP2",),
        ("PIP2",),
    ),
    # U0126 inhibits Mek's activity.
    6: Condition(
        "6. cd3cd28+u0126.csv",
        "1808e24b2226c17a42bd4d44b19332053027f5b22cee47946b988c183f8a1259",
        ("Mek",),
        ("Mek",),
    ),
    # LY294002 inhibits PI3K (not measured), which turns PIP2 into PIP3.
    7: Condition(
        "7. cd3cd28+ly.csv",
        "75984255c907485f26bf91d93da947f0e27392e04a638ff846b0dabb2f039b4e",
        ("PIP3",),
        ("PIP2", "PIP3"),
    ),
    # PMA activates PKC; without CD3 and CD28, so that several mechanisms may change.
    8: Condition("8. pma.csv", "ac10e073d4fcc2c9c98ff579cbf0ac6134608e16d166b86655d0cf25eceb9d68", None, ("PKC",)),
    # beta2-cAMP activates PKA; without CD3 and CD28 as well.
    9: Condition("9. b2camp.csv", "4eee4457c1623eaf8d9732fb189b96fdc6faf22026866f27daabcb003becc0fb", None, ("PKA",)),
}

_SHARED_EDGES = (
    "Raf>Mek Mek>Erk PLCg>PIP2 PIP3>PIP2 PKC>Raf PKC>Mek PKC>JNK PKC>P38 PKA>Raf PKA>Mek PKA>Erk PKA>Akt PKA>JNK PKA>P38"
)
REFERENCES = {
    "consensus": f"{_SHARED_EDGES} PLCg>PKC PIP2>PKC PIP3>PLCg PIP3>Akt",
    "reconstructed": f"{_SHARED_EDGES} Erk>Akt PLCg>PIP3 PKC>PKA",
}
"""Edges of the consensus of biologists (18) and of the graph that the paper learned (17)."""

Annotation = Literal["wang2017", "pharmacological"]
ConditionNumber = Annotated[int, Ge(1), Le(9)]


@register_dataset(
    "sachs",
    meta=Meta(
        "Protein signalling in single cells under nine conditions.",
        "Sachs et al., Causal Protein-Signaling Networks Derived from Multiparameter Single-Cell Data, Science 308:523, 2005",
        licence="none stated; supplement of the paper",
        source="supplement of the paper, as copied beside the GnIES paper's code; read from the data directory or downloaded",
        known="by convention: a consensus of biologists or the paper's own graph, and which protein each reagent acts on",
        not_known="the true graph (feedback is likely), off-target effects, and reagents that change activity, not abundance",
    ),
    tags={"real"},
    golden="85643ae3b76dee88",
)
def sachs(
    rng: np.random.Generator,
    *,
    conditions: Annotated[list[ConditionNumber], Len(1)] = [1, 2, 3, 4, 5, 6, 7],  # noqa: B006  (never changed)
    annotation: Annotation = "wang2017",
    reference: Literal["consensus", "reconstructed"] = "consensus",
    scale: Literal["log", "raw"] = "log",
    pool_baselines: bool = True,
    n_per_condition: Annotated[int, Ge(2)] | None = None,
    held_out_conditions: list[ConditionNumber] = [],  # noqa: B006
    few_shot_sizes: Annotated[list[Annotated[int, Ge(1)]], Len(1)] = [3, 10, 30],  # noqa: B006
    n_query: Annotated[int, Ge(0)] = 100,
) -> Problem:
    """Read the chosen conditions as environments.

    Parameters
    ----------
    rng : Generator
        Draws subsamples, where asked for.
    conditions : list of int
        1 to 9. The default is the setting of UT-IGSP and DCDI (5,846 cells).
    annotation : {"wang2017", "pharmacological"}
        Which targets are held for true; the first says nothing of conditions 8 and 9.
    reference : {"consensus", "reconstructed"}
        Which graph is held for true.
    scale : {"log", "raw"}
        Natural logarithms, or intensities as measured.
    pool_baselines : bool
        Make one observational environment of conditions 1 and 2, as UT-IGSP and DCDI do. Else 1 is observational and
        2 an environment of which that is not known.
    n_per_condition : int, optional
        Cells drawn without replacement; all where None.
    held_out_conditions : list of int
        Conditions that ``fit`` never sees, each as a support set of max(few_shot_sizes) random cells and n_query others.
    few_shot_sizes : list of int
    n_query : int

    Raises
    ------
    MissingData
        If a file is neither at hand nor to be had.
    InputError
        If a condition is named twice or has no annotation, or has too few cells.
    """
    _check_conditions([*conditions, *held_out_conditions], annotation)
    environments, targets, names = [], [], []
    for group in _grouped(sorted(conditions), pool_baselines):
        X = np.concatenate([_subsample(_cells(c, scale), n_per_condition, c, rng) for c in group])
        environments.append(Environment(X, is_observational=len(group) > 1 or _is_observational(group[0])))
        targets.append(_target_row(group[0], annotation))
        names.append(", ".join(CONDITIONS[c].name for c in group))
    held_out = []
    for c in held_out_conditions:
        X = _subsample(_cells(c, scale), max(few_shot_sizes) + n_query, c, rng)
        n_support = max(few_shot_sizes)
        support, query, hit = X[:n_support], X[n_support:], _target_row(c, annotation)
        held_out.append(HeldOut(support, tuple(few_shot_sizes), query, hit, _is_observational(c)))
    return Problem(
        observed=Observed(tuple(environments)),
        truth=Truth(reference_graph(reference), np.array(targets)),
        held_out=tuple(held_out),
        variable_names=PROTEINS,
        environment_names=tuple(names),
    )


def reference_graph(reference: Literal["consensus", "reconstructed"]) -> BoolArray:
    """Adjacency over ``PROTEINS``, bool (11, 11)."""
    graph = np.zeros((len(PROTEINS), len(PROTEINS)), dtype=bool)
    for edge in REFERENCES[reference].split():
        source, target = edge.split(">")
        graph[PROTEINS.index(source), PROTEINS.index(target)] = True
    return graph


def _check_conditions(chosen: Sequence[int], annotation: Annotation) -> None:
    if len(set(chosen)) < len(chosen):
        raise InputError(f"each condition can be used once, got {list(chosen)}")
    silent = sorted(c for c in chosen if getattr(CONDITIONS[c], annotation) is None)
    if silent:
        raise InputError(
            f"annotation '{annotation}' names no targets for condition(s) {', '.join(map(str, silent))}; "
            "leave them out or use annotation 'pharmacological'"
        )


def _grouped(conditions: Sequence[int], pool_baselines: bool) -> list[list[int]]:
    if pool_baselines and {1, 2} <= set(conditions):
        return [[1, 2], *([c] for c in conditions if c > 2)]
    return [[c] for c in conditions]


def _is_observational(condition: int) -> bool | None:
    """Of condition 2, a reagent without a target among the proteins, that is not known."""
    return True if condition == 1 else None if condition == 2 else False


def _target_row(condition: int, annotation: Annotation) -> BoolArray:
    return np.isin(PROTEINS, getattr(CONDITIONS[condition], annotation))


def _cells(condition: int, scale: Literal["log", "raw"]) -> FloatArray:
    file = CONDITIONS[condition].data_file
    table = pd.read_csv(io.BytesIO(read(file)))
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing:
        raise InputError(f"data file '{file.path}' must have the columns {', '.join(_COLUMNS)}; it lacks {', '.join(missing)}")
    X: FloatArray = table.rename(columns=_COLUMNS)[list(PROTEINS)].to_numpy(dtype=np.float64)
    if scale == "raw":
        return X
    if not (X > 0).all():
        raise InputError(f"data file '{file.path}' must have positive intensities for logarithms, got {X.min():g}")
    return np.asarray(np.log(X))


def _subsample(X: FloatArray, n: int | None, condition: int, rng: np.random.Generator) -> FloatArray:
    if n is None:
        return X
    if n > len(X):
        raise InputError(f"condition {condition} has {len(X)} cells, fewer than the {n} asked for")
    return X[rng.choice(len(X), size=n, replace=False)]
