"""Every built-in dataset keeps every promise that its tags make, one test per dataset and check."""

import inspect

import pytest

from bench import registry
from bench.testing import checks_for_dataset, expected_failures
from bench.testing.report import run_check

# Factors that change which checks have something to look at: held-out environments, many targets, other graphs.
VARIANTS = [
    "synthetic[n_held_out=3,n_targets=2,graph=scale_free_out,n_observational=50,n_per_environment=10]",
    "synthetic[graph=chain,interventions=shift,noise=laplace,n_observational=0,n_per_environment=10]",
    "synthetic[mechanism=mlp_bacadi,interventions=imperfect,n_observational=50,n_per_environment=10,n_held_out=1]",
    DRIFTING
    := "synthetic[confounding=0.5,heteroscedasticity=0.5,drift=0.3,n_observational=50,n_per_environment=10,n_held_out=1]",
    "synthetic[escape=0.3,measurement_error=0.5,mislabelled=0.5,n_observational=50,n_per_environment=10,n_held_out=1]",
    "gene_expression[n_variables=6,n_environments=4,n_observational=50,n_held_out=1,n_query=5,cell_type_shift=0.5,escape=0.3]",
]

# What a stress factor breaks on purpose.
BROKEN = {DRIFTING: {"mechanisms_of_non_targets_are_invariant": "the mechanisms of non-targets drift"}}

# A dataset with a parameter that has no default reads a file of the user's.
NEEDS_A_FILE = {name for name, entry in registry.datasets().items() if inspect.Parameter.empty in entry.defaults.values()}
CHECKED_BESIDE_THEIR_FILES = {"table"}  # tests/datasets/test_table.py

SPECS = [*(name for name in registry.datasets() if name not in NEEDS_A_FILE), *VARIANTS]

CASES = [
    pytest.param(spec, name, id=f"{spec}-{name}")
    for spec in SPECS
    for name, _ in checks_for_dataset(registry.choose("dataset", spec))
]


@pytest.mark.parametrize(("spec", "name"), CASES)
def test_dataset_keeps_its_promise(spec, name):
    choice = registry.choose("dataset", spec)
    report = run_check(spec, name, dict(checks_for_dataset(choice))[name], choice, BROKEN.get(spec, expected_failures(choice)))
    assert report.good, report.message


def test_no_dataset_goes_unchecked():
    assert NEEDS_A_FILE <= CHECKED_BESIDE_THEIR_FILES


@pytest.mark.parametrize("name", [name for name in registry.datasets() if name not in NEEDS_A_FILE])
def test_every_dataset_registers_its_golden_digest(name):
    assert "golden_digest" in dict(checks_for_dataset(registry.choose("dataset", name)))
