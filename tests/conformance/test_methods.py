"""Every built-in method keeps every promise that its capabilities make, one test per method and check."""

import pytest

from bench import registry
from bench.testing import checks_for_method, expected_failures
from bench.testing.report import run_check, unknown_expectations

# Parameters that change what a method declares, or the way it works.
VARIANTS = [
    "cd_nod[test=random_features]",
    "dagma[bootstrap=2]",
    "ges[bootstrap=3]",
    "dcdi[conditionals=neural]",
    "gies[bootstrap=3]",
    "gies[intercept=per_environment]",
    "jci_pc[bootstrap=3]",
    "jci_pc_kernel[test=kernel,max_samples=100]",
    "permutation_score[bootstrap=3]",
    "permutation_score[kinds=[shift]]",
    "score_search[bootstrap=3]",
    "score_search[orientation=none]",
    "ut_igsp[bootstrap=3]",
    "ut_igsp[ci_data=observational]",
    "var_sort_regress[bootstrap=3]",
]
SPECS = [*registry.methods(), *VARIANTS]

SLOW = {"cd_nod[test=random_features]", "dcdi", "dcdi[conditionals=neural]", "metacadi_paper"}

CASES = [
    pytest.param(spec, name, id=f"{spec}-{name}", marks=[pytest.mark.slow] if spec in SLOW else [])
    for spec in SPECS
    for name, _ in checks_for_method(registry.make_method(spec))
]


@pytest.mark.parametrize(("spec", "name"), CASES)
def test_method_keeps_its_promise(spec, name):
    method = registry.make_method(spec)
    report = run_check(spec, name, dict(checks_for_method(method))[name], method, expected_failures(method))
    assert report.good, report.message


@pytest.mark.parametrize("spec", SPECS)
def test_every_declared_failure_names_a_check_that_runs(spec):
    method = registry.make_method(spec)
    assert not unknown_expectations(spec, expected_failures(method), dict(checks_for_method(method)))
