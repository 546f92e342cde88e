"""Functions that misbehave in the child, each in one way; the tests of ``bench.isolation`` call them by name."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np

from bench.errors import InvalidEstimate, MissingDependency
from bench.types import Estimate

FOREVER = 600.0


# -- well-behaved ---------------------------------------------------------------------------------------------------


def echo(context: Any, *arguments: Any) -> Any:
    return arguments


def who(context: Any) -> tuple[int, int, int]:
    return os.getpid(), os.getsid(0), os.getppid()


def total(context: Any, array: np.ndarray) -> float:
    return float(array.sum())


def zeros(context: Any, n_bytes: int) -> np.ndarray:
    return np.zeros(n_bytes, dtype=np.uint8)


def remember(context: Any, value: Any) -> None:
    context.state["value"] = value


def recall(context: Any) -> Any:
    return context.state.get("value")


def report_progress(context: Any) -> None:
    context.progress(0.0, "starting")
    context.progress(1.0, "done")


def warm_up_then_work(context: Any, warm_up: float, work: float) -> None:
    time.sleep(warm_up)
    with context.timed():
        time.sleep(work)
    time.sleep(warm_up)


def two_timed_parts(context: Any, seconds: float) -> None:
    for _ in range(2):
        with context.timed():
            time.sleep(seconds)


def estimate(context: Any) -> Estimate:
    return Estimate(np.zeros((2, 2)))


def worker_in_a_worker(n: int) -> tuple[int, int, Any]:
    """Not for the child: run by joblib or Dask, in whose process the worker lives."""
    from bench.isolation import Worker

    with Worker() as worker:
        outcome = worker.call("offenders_isolation:echo", n)
        child = worker.pid
        late = worker.call("offenders_isolation:sleep", timeout=0.2)
    assert (outcome.status, outcome.value) == ("ok", (n,)), outcome
    assert late.status == "timeout", late
    assert child is not None
    return os.getpid(), child, outcome.value[0]


# -- raising and returning ------------------------------------------------------------------------------------------


def raises(context: Any) -> None:
    raise ValueError("three\nlines\nof reason")


def raises_invalid(context: Any) -> None:
    Estimate(np.full((2, 2), 7.0))


def raises_missing(context: Any) -> None:
    raise MissingDependency("needs the package 'foo': pip install foo")


def raises_memory_error(context: Any) -> None:
    np.zeros(2**57)


def raises_system_exit(context: Any) -> None:
    sys.exit(0)


def raises_keyboard_interrupt(context: Any) -> None:
    raise KeyboardInterrupt


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def raises_unprintable(context: Any) -> None:
    raise Unprintable


def returns_unpicklable(context: Any) -> Any:
    return lambda: None


class Unreadable:
    def __reduce__(self) -> Any:
        return Unreadable._refuse, ()

    @staticmethod
    def _refuse() -> None:
        raise InvalidEstimate("broken on arrival")


def returns_unreadable(context: Any) -> Unreadable:
    return Unreadable()


# -- printing and descriptors ---------------------------------------------------------------------------------------


def prints_megabytes(context: Any) -> str:
    for _ in range(200):
        os.write(1, b"o" * 10_000)
        os.write(2, b"e" * 10_000)
    print("the last words")
    return "done"


def prints_for_ever(context: Any) -> None:
    with context.timed():
        while True:
            os.write(1, b"o" * 10_000)


def prints_from_c(context: Any) -> None:
    ctypes.CDLL(None).printf(b"from C\n")


def closes_standard_descriptors(context: Any) -> str:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.close()
    os.closerange(0, 3)
    return "done"


def closes_all_descriptors(context: Any) -> str:
    os.closerange(0, 256)
    time.sleep(FOREVER)
    return "done"


# -- hanging and dying ----------------------------------------------------------------------------------------------


def sleep(context: Any) -> None:
    with context.timed():
        time.sleep(FOREVER)


def sleep_outside_the_clock(context: Any) -> None:
    time.sleep(FOREVER)


def sleep_deaf(context: Any) -> None:
    """In C, holding the interpreter's lock, with every signal that can be blocked blocked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with context.timed():
        ctypes.PyDLL(None).sleep(int(FOREVER))


def exits(context: Any) -> None:
    os._exit(3)


def segfaults(context: Any) -> None:
    ctypes.string_at(0)


def aborts(context: Any) -> None:
    os.abort()


def killed(context: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def signals_its_group(context: Any) -> None:
    os.killpg(0, signal.SIGTERM)


# -- memory ---------------------------------------------------------------------------------------------------------


def _touch(mib: int) -> mmap.mmap:
    memory = mmap.mmap(-1, mib << 20)
    for start in range(0, mib << 20, mmap.PAGESIZE):
        memory[start] = 1
    return memory


def eats_memory(context: Any, mib: int) -> None:
    memory = _touch(mib)
    time.sleep(FOREVER)
    memory.close()


def eats_memory_briefly(context: Any, mib: int) -> None:
    _touch(mib).close()


def eats_memory_in_a_grandchild(context: Any, mib: int) -> None:
    if os.fork() == 0:
        _touch(mib)
        time.sleep(FOREVER)
    time.sleep(FOREVER)


kept: list[Any] = []


def leaks(context: Any, mib: int) -> None:
    kept.append(_touch(mib))


# -- processes and threads ------------------------------------------------------------------------------------------


def fork_returns(context: Any) -> str:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return "parent"
    return "copy"


def fork_raises(context: Any) -> str:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return "parent"
    raise RuntimeError("copy")


def leaves_daemon(context: Any, then: str) -> int:
    """A process that leaves family, session and environment behind; its id is also the whole of the log."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(write, str(os.getpid()).encode())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execve("/bin/sleep", ["sleep", str(FOREVER)], {})
    os.wait()
    daemon = int(os.read(read, 32))
    print(daemon, flush=True)
    if then == "hang":
        with context.timed():
            time.sleep(FOREVER)
    elif then == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    return daemon


def leaves_child(context: Any) -> int:
    process = subprocess.Popen(["/bin/sleep", str(FOREVER)])
    kept.append(process)
    return process.pid


def leaves_thread(context: Any) -> None:
    threading.Thread(target=time.sleep, args=(FOREVER,), daemon=True).start()


# -- state that outlives a cell -------------------------------------------------------------------------------------


def look(context: Any) -> dict[str, Any]:
    """Everything that the next cell could notice."""
    return {
        "random": random.random(),
        "numpy": float(np.random.random()),  # noqa: NPY002
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        "folder": sorted(os.listdir(".")),
        "path": list(sys.path),
        "numpy errors": np.geterr(),
        "warnings": list(warnings.filters),
        "signal": signal.getsignal(signal.SIGTERM),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "umask": os.umask(os.umask(0o022)),
        "recursion": sys.getrecursionlimit(),
    }


def where(context: Any) -> str:
    return os.getcwd()


def disturbs_everything(context: Any) -> None:
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    os.environ["CADIBENCH_TEST"] = "1"
    del os.environ["PATH"]
    open("left behind", "w").close()
    os.mkdir("sub")
    os.chdir("sub")
    sys.path.insert(0, "/nowhere")
    np.seterr(all="raise")
    warnings.simplefilter("error")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.alarm(1)
    os.umask(0o777)
    sys.setrecursionlimit(5000)


def removes_its_folder(context: Any) -> None:
    os.rmdir(os.getcwd())


def replaces_numpy_generator(context: Any) -> None:
    np.random.set_bit_generator(np.random.PCG64(7))


def raise_thread_counts(context: Any) -> list[int]:
    import threadpoolctl

    np.zeros((2, 2)) @ np.zeros((2, 2))
    threadpoolctl.threadpool_limits(2)
    return thread_counts(context)


def thread_counts(context: Any) -> list[int]:
    import threadpoolctl

    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]


def draws_after_a_warm_up(context: Any, warm_up: bool) -> tuple[float, float]:
    if warm_up:
        random.random()
        np.random.random()  # noqa: NPY002
    with context.timed():
        return random.random(), float(np.random.random())  # noqa: NPY002


def sets_before_the_clock(context: Any) -> int:
    """Once per process, as an import or a warm-up does."""
    if not kept:
        kept.append("set")
        sys.setrecursionlimit(4000)
    with context.timed():
        return sys.getrecursionlimit()
