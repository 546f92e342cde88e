"""No source file draws from, seeds or replaces a global random generator."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

OWN_GENERATORS = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "Philox", "Random", "SystemRandom"}
"""What ``numpy.random`` and ``random`` offer that has a state of its own."""

TORCH_GLOBAL = {"manual_seed", "seed", "set_rng_state"}

EXEMPT = {
    "bench/child.py": "restores the state that a method left",
    "bench/testing/observe.py": "watches the state that a plugin may touch",
}


def offences(source):
    """Line and text of every use of a global generator, whatever the module is called in the file."""
    tree = ast.parse(source)
    modules = {}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                modules[alias.asname or alias.name] = full
                if _is_global(full):
                    found.append((node.lineno, full))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            full = f"{modules.get(first, '')}.{rest}"
            if _is_global(full):
                found.append((node.lineno, full))
    return found


def _is_global(full):
    module, _, name = full.rpartition(".")
    if module in ("random", "numpy.random"):
        return name not in OWN_GENERATORS
    return module in ("torch", "torch.random") and name in TORCH_GLOBAL


def files():
    for top in ("bench", "methods", "datasets"):
        for path in sorted((ROOT / top).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix()


def test_no_source_file_uses_a_global_generator():
    found = [
        f"{path}:{line} uses {name}"
        for path in files()
        if path not in EXEMPT
        for line, name in offences((ROOT / path).read_text())
    ]
    assert not found


@pytest.mark.parametrize("path", EXEMPT)
def test_exemption_is_still_needed(path):
    assert offences((ROOT / path).read_text())


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.random.seed(0)",
        "import numpy\nx = numpy.random.rand(3)",
        "from numpy import random\nrandom.normal()",
        "from numpy.random import rand",
        "import numpy.random as npr\nnpr.shuffle(x)",
        "import random\nrandom.shuffle(x)",
        "from random import choice",
        "def f():\n    import torch\n    torch.manual_seed(0)",
        "import numpy as np\nnp.random.RandomState(0)",
    ],
)
def test_planted_use_is_caught(source):
    assert offences(source)


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nrng: np.random.Generator = np.random.default_rng(0)\nrng.random()",
        "import random\nrandom.Random(0).shuffle(x)",
        "def f(random):\n    return random.normal()",
        "import torch\ntorch.Generator().manual_seed(0)",
    ],
)
def test_generator_of_its_own_is_allowed(source):
    assert not offences(source)
