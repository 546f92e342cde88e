"""Every built-in method says what it is by, what it wraps, what it assumes, what it costs, and for how many variables."""

from pathlib import Path
from typing import get_args

import pytest

import methods
from bench import registry
from bench.interventions import Kind

BUILT_IN = [
    name
    for name, entry in registry.methods().items()
    if entry.source is not None and entry.source.is_relative_to(Path(methods.__file__).parent)
]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_method_says_everything_of_itself(name):
    meta = registry.entry("method", name).meta
    for said in ("reference", "licence", "mechanisms", "noise", "complexity", "n_variables"):
        assert getattr(meta, said), f"methods '{name}': Meta.{said} is empty"
    assert meta.interventions is not None


@pytest.mark.parametrize("name", BUILT_IN)
def test_interventions_are_named_in_the_words_of_the_harness(name):
    kinds = registry.entry("method", name).meta.interventions
    assert kinds == ("any",) or set(kinds) <= set(get_args(Kind))


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_imports_a_foreign_algorithm_says_its_package_and_licence(name):
    entry = registry.entry("method", name)
    source = entry.source.read_text()
    packages = {"causallearn": "causal-learn", "gies": "gies", "sklearn": "scikit-learn", "flopsearch": "flopsearch"}
    for module, package in packages.items():
        if f"from {module}" in source or f"import {module}" in source:
            assert entry.meta.wraps.startswith(package)
            assert entry.meta.wraps.endswith(")"), f"methods '{name}': Meta.wraps has to name the licence in brackets"


@pytest.mark.parametrize("name", BUILT_IN)
def test_recommendation_and_hard_limit_do_not_contradict(name):
    entry = registry.entry("method", name)
    limit, recommended = entry.capabilities.max_variables, entry.meta.n_variables[1]
    assert limit is None or (recommended is not None and recommended <= limit)
