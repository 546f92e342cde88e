"""Ask a question in a process of its own, started afresh with another hash seed.

The process loads the same plugin files and is kept for the next question, since starting it costs a few hundred
milliseconds of imports; one that does not answer in time is killed with its group and replaced. Running cells under
limits of time and memory is ``bench.isolation``; this one only proves that an answer does not hang on the process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import registry
from bench.errors import BenchError

HANG_SECONDS = 60.0
"""Silence after which a call counts as hanging; far above what small problems take, so that slow machines pass."""

START_SECONDS = 120.0
"""The same for the start of the process, which imports every built-in plugin."""


class NoAnswer(BenchError):
    """The call in the fresh process raised, died or went silent."""


def ask(function: Callable[..., Any], **arguments: Any) -> Any:
    """Return ``function(**arguments)`` of a fresh process; function, arguments and answer are pickled.

    Raises
    ------
    NoAnswer
        If the call raises there, ends its process, or is silent for ``HANG_SECONDS``.
    """
    global _child
    if _child is None or _child.process.poll() is not None:
        _child = _Child()
    try:
        return _child.ask((registry.loaded_plugins(), function, arguments))
    except _Lost as reason:
        _child.close()
        _child = None
        raise NoAnswer(str(reason)) from None


class _Lost(Exception):
    """The process is of no more use."""


class _Child:
    def __init__(self) -> None:
        hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from bench.testing.fresh_process import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
            start_new_session=True,
        )
        self.started = False

    def ask(self, question: Any) -> Any:
        assert self.process.stdin is not None
        try:
            if not self.started:
                self._read(START_SECONDS)
                self.started = True
            pickle.dump(question, self.process.stdin)
            self.process.stdin.flush()
            return self._read(HANG_SECONDS)
        except (EOFError, BrokenPipeError):
            raise _Lost(f"the process ended with status {self.process.wait()}") from None

    def _read(self, seconds: float) -> Any:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            raise _Lost(f"no answer within {seconds:g} s")
        answered, value = pickle.load(self.process.stdout)
        if not answered:
            raise NoAnswer(value)
        return value

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


_child: _Child | None = None


@atexit.register
def _close() -> None:
    if _child is not None:
        _child.close()


def serve() -> None:
    """Answer pickled questions from standard input until it ends; what plugins print goes nowhere."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    answers.write(_answer((), _load_builtins, {}))
    answers.flush()
    while True:
        try:
            plugins, function, arguments = pickle.load(questions)
        except EOFError:
            return
        answers.write(_answer(plugins, function, arguments))
        answers.flush()


def _load_builtins() -> None:
    registry.methods()


def _answer(plugins: tuple[Path, ...], function: Callable[..., Any], arguments: dict[str, Any]) -> bytes:
    try:
        for plugin in plugins:
            registry.load_plugin(plugin)
        return pickle.dumps((True, function(**arguments)))
    except Exception as reason:
        return pickle.dumps((False, f"{type(reason).__name__}: {reason}"))
