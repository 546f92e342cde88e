"""Every synthetic dataset draws what it drew when its numbers were first committed.

A summary, not a hash: graphs and targets to the bit, moments to nine digits, so that another BLAS changes nothing. A change
on purpose is committed with ``python tests/golden/test_problem_summaries.py``, which writes the file anew.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from bench import registry

FILE = Path(__file__).with_name("problem_summaries.json")
SMALL = "n_variables=6,n_observational=30,n_environments=3,n_per_environment=20,n_held_out=1,n_query=5"
SPECS = [
    *(f"synthetic[{SMALL},graph={g}]" for g in ("erdos_renyi", "scale_free_in", "scale_free_out", "chain", "random_tree")),
    *(f"synthetic[{SMALL},mechanism={m}]" for m in ("mlp_bacadi", "mlp_dcdi", "dcdi_nonadditive", "smooth")),
    *(f"synthetic[{SMALL},noise={n}]" for n in ("laplace", "uniform", "gumbel")),
    *(
        f"synthetic[{SMALL},graph=random_tree,interventions={k}]"
        for k in ("hard_constant", "shift", "scale", "noise", "mechanism_change", "imperfect", "mixture")
    ),
    f"synthetic[{SMALL},n_targets={{0: 0.5, 3: 0.5}},target_choice=covering,noise_variance=[1, 2],source_variance=3]",
    *(f"synthetic[{SMALL},{f}]" for f in ("confounding=0.5", "heteroscedasticity=0.5", "drift=0.3")),
    *(f"synthetic[{SMALL},{f}]" for f in ("escape=0.5", "measurement_error=0.5", "mislabelled=0.5")),
    *(f"gene_expression[{SMALL},{f}]" for f in ("cell_type_shift=0.5", "escape=0.5")),
    "bacadi",
    "dcdi[n_samples=220]",
    "utigsp[n_per_environment=50]",
    "gnies[n_per_environment=50]",
    *(f"gene_expression[{SMALL},technical_noise={t}]" for t in ("none", "10x-1")),
]


def summary(spec):
    problem = registry.make_problem(spec, seed=7)
    X = problem.observed.pooled()
    held_out = [np.concatenate([h.support, h.query]) for h in problem.held_out]
    return {
        "edges": np.argwhere(problem.truth.adjacency).tolist(),
        "targets": np.argwhere(problem.truth.targets).tolist(),
        "n_samples": [e.n_samples for e in problem.observed.environments],
        "mean": X.mean(axis=0).tolist(),
        "standard_deviation": X.std(axis=0).tolist(),
        "last_sample": X[-1].tolist(),
        "held_out_mean": [values.mean() for values in held_out],
    }


@pytest.mark.parametrize("spec", SPECS)
def test_problem_is_the_one_first_committed(spec):
    expected, found = json.loads(FILE.read_text())[spec], summary(spec)
    for key in ("edges", "targets", "n_samples"):
        assert found[key] == expected[key], key
    for key in ("mean", "standard_deviation", "last_sample", "held_out_mean"):
        assert np.allclose(found[key], expected[key], rtol=1e-9, atol=1e-12), key


if __name__ == "__main__":
    FILE.write_text(json.dumps({spec: summary(spec) for spec in SPECS}, indent=1) + "\n")
