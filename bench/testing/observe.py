"""One call under observation: what it returned, printed, warned of, and did to the global random state.

Output is caught twice, at ``sys.stdout`` and at the file descriptors below it, since compiled code prints past Python.
Nothing here judges; the checks do.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Observation:
    """What one call did.

    Parameters
    ----------
    value : object
        What it returned.
    printed : str
        Standard output and standard error together.
    warnings : tuple of str
        One line each.
    moved_generators : tuple of str
        Global generators whose state changed: "random", "numpy.random", "torch".
    """

    value: Any
    printed: str
    warnings: tuple[str, ...]
    moved_generators: tuple[str, ...]


def observe(call: Callable[[], Any], *, global_seed: int) -> Observation:
    """Run ``call`` with every global generator seeded, and put their states back afterwards.

    Parameters
    ----------
    call : callable without arguments
    global_seed : int
        A call that answers differently under another one reads global random state.
    """
    with _global_random_state(global_seed), warnings.catch_warnings(record=True) as caught, _output() as printed:
        warnings.simplefilter("always")
        before = _states()
        value = call()
        after = _states()
    moved = tuple(name for name in before if before[name] != after[name])
    lines = tuple(f"{w.category.__name__}: {str(w.message).splitlines()[0] if str(w.message) else ''}" for w in caught)
    return Observation(value, printed[0], lines, moved)


def seed_global_generators(seed: int) -> None:
    """Seed ``random``, numpy's legacy generator and, where it is imported, torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (the global generator is what is watched)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)


def _states() -> dict[str, bytes]:
    states = {
        "random": pickle.dumps(random.getstate()),
        "numpy.random": pickle.dumps(np.random.get_state()),  # noqa: NPY002  (as above)
    }
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states


@contextlib.contextmanager
def _global_random_state(seed: int) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (as above)
    torch = sys.modules.get("torch")
    torch_state = None if torch is None else torch.get_rng_state()
    seed_global_generators(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002  (as above)
        if torch is not None:
            torch.set_rng_state(torch_state)


@contextlib.contextmanager
def _output() -> Iterator[list[str]]:
    """Yield a list that holds the one string of everything printed, once the block is left."""
    printed: list[str] = []
    written = io.StringIO()
    with tempfile.TemporaryFile() as below:
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written), _descriptors_to(below.fileno()):
            yield printed
        below.seek(0)
        printed.append(written.getvalue() + below.read().decode(errors="replace"))


@contextlib.contextmanager
def _descriptors_to(target: int) -> Iterator[None]:
    saved = [os.dup(1), os.dup(2)]
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
