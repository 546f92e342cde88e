"""Imports point down only. Every module has a floor, so a new file has to be placed; imports inside functions count."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS = {
    0: "bench types errors seeds columns files terminal texts",
    1: "bootstrap cards compiled data_directory draws effects experiments flaws gaussian graphs interventions invariance"
    " kernel_tests logistic orders pc random_graphs registry scm sortability torch_threads",
    2: "methods datasets preprocessing metrics",
    3: "about cells child compute diagnostics isolation keeper parallel plan provenance runner scoring store suites testing",
    4: "between_runs curves differences estimates fingerprints footnotes intervals labels page paired_tests plots regression"
    " report significance statistics table_files tables",
    5: "cleaning cli merging progress run_bench tuning",
}
TOP_LEVEL = ("bench", "methods", "datasets", "run_bench")
PLUGINS = ("methods", "datasets")
FLOOR_OF = {name if name in TOP_LEVEL else f"bench.{name}": floor for floor, names in FLOORS.items() for name in names.split()}

OPTIONAL = ("torch", "dask", "distributed", "flopsearch")
"""Packages of optional groups: importing a module of the project must not need them."""


def sources(root):
    """Every source file of the project with its dotted name."""
    for top in TOP_LEVEL:
        for path in sorted([root / f"{top}.py", *(root / top).rglob("*.py")]):
            if path.exists():
                parts = path.relative_to(root).with_suffix("").parts
                yield path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit(module):
    """What has a floor: ``bench.x`` with all below it, one plugin, or a top-level module."""
    return ".".join(module.split(".")[:2]) if module.split(".")[0] in (*PLUGINS, "bench") else module


def floor(name):
    """Floor of a unit; None where nobody has placed it. Every plugin stands where its package does."""
    top = name.split(".")[0]
    return FLOOR_OF.get(top if top in PLUGINS else name)


def imports(path, module):
    """Every (imported module or name in it, whether at import time) of a file."""
    tree = ast.parse(path.read_text())
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_for_type_checkers(node)
        for inner in ast.walk(node)
    }
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # "from bench import registry" imports a module, "from bench.types import Method" a name in one.
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) not in lazy


def _is_for_type_checkers(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def violations(root):
    """One line for every import that goes up, sideways between plugins, or around the registry."""
    found = []
    for path, module in sources(root):
        own = unit(module)
        if floor(own) is None:
            found.append(f"{module} has no floor; place it in FLOORS")
            continue
        for name, at_import in imports(path, module):
            top = name.split(".")[0]
            if top in OPTIONAL and at_import:
                found.append(
                    f"{module} imports {top}, an optional package, when it is imported itself; import it in a function"
                )
            if top not in TOP_LEVEL or unit(name) == own:
                continue
            reason = _forbidden(own, unit(name))
            if reason:
                found.append(f"{module} imports {name}: {reason}")
    return found


def _forbidden(own, other):
    own_floor, other_floor = floor(own), floor(other)
    if other_floor is None:
        return "it has no floor"
    if other_floor > own_floor:
        return f"floor {own_floor} must not know floor {other_floor}"
    if other.split(".")[0] in PLUGINS and own_floor < 5:
        return "plugins are reached by name through bench.registry"
    if own.split(".")[0] in PLUGINS and other_floor > 1:
        return "plugins know floors 0 and 1 only"
    if own_floor == other_floor == 2:
        return "modules of floor 2 do not know each other"
    if own_floor == 4 and other_floor not in (0, 4):
        return "floor 4 reads frames: it knows floor 0 and its own only"
    return None


def test_every_import_of_the_project_keeps_to_the_floors():
    assert not violations(ROOT)


def test_all_source_files_are_read():
    modules = {module for _, module in sources(ROOT)}
    assert {"bench.types", "bench.registry", "bench.testing", "methods.floors", "datasets.synthetic", "run_bench"} <= modules


PLANTED = {
    "a core type that knows a plugin's floor": ("bench/types.py", "import bench.metrics", "floor 0 must not know floor 2"),
    "an import inside a function": (
        "bench/graphs.py",
        "def f():\n    from bench import runner",
        "floor 1 must not know floor 3",
    ),
    "a method that builds on another": ("methods/a.py", "from methods.b import fit", "by name through bench.registry"),
    "a relative import of another method": ("methods/a.py", "from . import b", "by name through bench.registry"),
    "a package that reaches for its neighbour": ("methods/a/core.py", "from ..b import fit", "by name through bench.registry"),
    "a method that knows a dataset": ("methods/a.py", "import datasets.sachs", "by name through bench.registry"),
    "a dataset that scores": ("datasets/a.py", "from bench.metrics import score", "floors 0 and 1 only"),
    "scores that know preprocessing": ("bench/metrics.py", "from bench.preprocessing import prepare", "do not know each other"),
    "a runner that knows a plugin": ("bench/runner.py", "import methods.ut_igsp", "by name through bench.registry"),
    "a table that reads the store": ("bench/tables.py", "from bench.store import read", "floor 0 and its own only"),
    "a plot that makes problems": ("bench/plots/scores.py", "import bench.registry", "floor 0 and its own only"),
    "a file that nobody has placed": ("bench/helpers.py", "", "place it in FLOORS"),
    "a method that needs torch to be listed": (
        "methods/a.py",
        "try:\n    import torch\nexcept ImportError:\n    pass",
        "optional",
    ),
    "a class body that imports": ("bench/parallel.py", "class C:\n    import distributed", "optional"),
}


@pytest.mark.parametrize(("path", "source", "reason"), PLANTED.values(), ids=PLANTED)
def test_planted_import_is_caught(tmp_path, path, source, reason):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    (line,) = violations(tmp_path)
    assert reason in line


ALLOWED = {
    "inside one package": (
        "methods/a/core.py",
        "from methods.a.mechanisms import Layer\nfrom . import sampling\nfrom .x import y",
    ),
    "down a floor": ("methods/a.py", "from bench.gaussian import moments\nfrom bench import types"),
    "torch where it is used": ("methods/a.py", "def fit():\n    import torch"),
    "torch for type checkers": ("methods/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
    "plots that share with tables": ("bench/plots/scores.py", "from bench.labels import slug\nfrom bench.plots import style"),
    "the command line that knows all": ("bench/cli/running.py", "import bench.runner, bench.tables\nfrom bench import testing"),
}


@pytest.mark.parametrize(("path", "source"), ALLOWED.values(), ids=ALLOWED)
def test_import_that_points_down_is_allowed(tmp_path, path, source):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert not violations(tmp_path)
