"""Every built-in dataset keeps every promise that its tags make, one test per dataset and check."""

import pytest

from bench import registry
from bench.testing import checks_for_dataset, expected_failures
from bench.testing.report import run_check

SPECS = list(registry.datasets())

CASES = [
    pytest.param(spec, name, id=f"{spec}-{name}")
    for spec in SPECS
    for name, _ in checks_for_dataset(registry.choose("dataset", spec))
]


@pytest.mark.parametrize(("spec", "name"), CASES)
def test_dataset_keeps_its_promise(spec, name):
    choice = registry.choose("dataset", spec)
    report = run_check(spec, name, dict(checks_for_dataset(choice))[name], choice, expected_failures(choice))
    assert report.good, report.message
