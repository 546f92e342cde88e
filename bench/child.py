"""The child that runs method code: it answers calls one after the other and puts itself in order between cells.

A function is called as ``function(context, *arguments)`` with a :class:`Context`. Nothing here ends or limits anything: that
is for the worker (``bench.isolation``) and the keeper (``bench.keeper``), since code that hangs cannot watch itself. Imports
are light; what a method needs is imported by the method.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import pickle
import random
import resource
import shutil
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

_SIZES = struct.Struct(">QQ")  # bytes of the JSON header and of the payload that follow
_PROGRESS_INTERVAL_SECONDS = 0.05
_JOIN_SECONDS = 0.2
_RESIDUE_MIB = 128.0  # memory that a cell may leave behind, above what the modules it imported may need
_TRACEBACK_CHARACTERS = 20_000
_GLOBAL_SEED = 0  # of every global generator at the start of a cell's first timed part, whatever ran before


def frame(header: dict[str, Any], payload_size: int = 0) -> bytes:
    """Start of a message: sizes and header. ``payload_size`` bytes follow it on the wire."""
    text = json.dumps(header).encode()
    return _SIZES.pack(len(text), payload_size) + text


def unframe(received: bytearray) -> tuple[dict[str, Any], bytes] | None:
    """Take the first whole message (header, payload) off ``received``, or None where it is not complete.

    Examples
    --------
    >>> received = bytearray(frame({"kind": "done"}, 2) + b"ab" + b"rest")
    >>> unframe(received), received
    (({'kind': 'done'}, b'ab'), bytearray(b'rest'))
    >>> unframe(received) is None
    True
    """
    if len(received) < _SIZES.size:
        return None
    header_size, payload_size = _SIZES.unpack_from(received)
    start = _SIZES.size + header_size
    if len(received) < start + payload_size:
        return None
    with memoryview(received) as view:
        header, payload = json.loads(bytes(view[_SIZES.size : start])), bytes(view[start : start + payload_size])
    del received[: start + payload_size]
    return header, payload


class Connection:
    """Blocking messages to the worker. A forked copy of the child that comes back through this code ends here."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def send(self, payload: bytes = b"", **header: Any) -> None:
        self.end_copies()
        with self._lock:
            self._socket.sendall(frame(header, len(payload)))
            self._socket.sendall(payload)

    def receive(self) -> tuple[dict[str, Any], bytearray]:
        """The next message; ends the process where the worker has hung up."""
        self.end_copies()
        header_size, payload_size = _SIZES.unpack(self._exactly(_SIZES.size))
        header: dict[str, Any] = json.loads(self._exactly(header_size))
        return header, self._exactly(payload_size)

    def end_copies(self) -> None:
        if os.getpid() != self._owner:
            os._exit(0)

    def _exactly(self, size: int) -> bytearray:
        received = bytearray(size)
        with memoryview(received) as view:
            done = 0
            while done < size:
                n = self._socket.recv_into(view[done:])
                if n == 0:
                    os._exit(0)
                done += n
        return received


class Context:
    """What a function called in the child can ask of its surroundings.

    Attributes
    ----------
    state : dict
        Kept between the calls of one cell: a fit leaves here what an adaptation needs.
    """

    def __init__(self, connection: Connection, room: _Room) -> None:
        self.state = room.state
        self._room = room
        self._connection: Connection | None = connection
        self._seconds = 0.0
        self._last_progress = -_PROGRESS_INTERVAL_SECONDS

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """The clocked part: the time limit and ``Outcome.seconds`` count only in here. Parts add up."""
        connection = self._connection
        assert connection is not None
        self._room.before_the_clock()
        connection.send(kind="clock on")
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - started
            connection.send(kind="clock off", seconds=self._seconds)

    def progress(self, fraction: float, note: str = "") -> None:
        """Tell the worker how far it is; a call within 50 ms of the last is dropped, unless it says that all is done."""
        now = time.monotonic()
        if self._connection is None or (fraction < 1 and now - self._last_progress < _PROGRESS_INTERVAL_SECONDS):
            return
        self._last_progress = now
        self._connection.send(kind="progress", fraction=float(fraction), note=str(note))

    def close(self) -> float:
        """Fall silent (threads left behind may still hold this object) and return the seconds clocked."""
        self._connection = None
        return self._seconds


def serve(data_fd: int, log_fd: int, scratch: str) -> NoReturn:
    """Answer the worker until it hangs up."""
    connection = Connection(data_fd)
    streams = _Streams(log_fd)
    faulthandler.enable(streams.log)  # a crash in C leaves a traceback in the log
    settings, _ = connection.receive()
    sys.path[:] = settings["path"]
    sys.argv[:] = ["cadibench"]
    room = _Room(scratch, settings["n_threads"], settings["plugins"], streams)
    while True:
        message, payload = connection.receive()
        if message["kind"] == "end cell":
            connection.send(kind="cell ended", problems=room.tidy())
            connection.end_copies()
            continue
        streams.restore()
        context = Context(connection, room)
        arguments = [payload]
        del payload  # its memory is not the method's
        header, value = _answer(context, connection, room, message["function"], arguments)
        header["seconds"] = context.close()
        streams.flush()
        connection.send(value, kind="done", peak_mib=_peak_rss_mib(), **header)


def _answer(
    context: Context, connection: Connection, room: _Room, function: str, payload: list[bytearray]
) -> tuple[dict[str, Any], bytes]:
    """Run one call; nothing that it raises escapes. ``payload`` holds the pickled arguments and is emptied."""
    try:
        room.load_plugins()
        module, _, name = function.partition(":")
        target = getattr(importlib.import_module(module), name)
        arguments = pickle.loads(payload.pop())
        _reset_peak_rss()
        connection.send(kind="begin", pid=os.getpid())
        value = target(context, *arguments)
        connection.end_copies()
        return {"status": "ok", "reason": "", "traceback": ""}, _pickled(value)
    except BaseException as error:  # SystemExit and KeyboardInterrupt are the method's, too
        connection.end_copies()
        return _told(error), b""


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise TypeError(f"the returned {type(value).__name__} cannot be pickled: {error}") from error


def _told(error: BaseException) -> dict[str, Any]:
    """Status, one-line reason and traceback of what a call raised."""
    from bench.errors import InvalidEstimate, MissingDependency
    from bench.texts import visible

    try:
        text = visible(str(error))
    except BaseException:
        text = "(its message cannot be printed)"
    line = " ".join(text.split())[:400]
    name = type(error).__name__
    known = isinstance(error, (InvalidEstimate, MissingDependency)) and line
    status = "error"
    if isinstance(error, InvalidEstimate):
        status = "invalid"
    elif isinstance(error, MissingDependency):
        status = "skipped"
    elif isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in text:  # torch has its own
        status = "out_of_memory"
    reason = line if known else f"{name}: {line}" if line else name
    own_frame = error.__traceback__
    try:
        told = traceback.format_exception(type(error), error, own_frame.tb_next if own_frame else None)
    except BaseException as second:
        told = [f"{name} (its traceback cannot be printed: {type(second).__name__})"]
    return {"status": status, "reason": reason, "traceback": visible("".join(told))[-_TRACEBACK_CHARACTERS:]}


class _Streams:
    """Descriptors 0 to 2 and Python's streams on them, restored whatever a method did to them."""

    def __init__(self, log_fd: int) -> None:
        self.log = log_fd
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None)
        self.restore()

    def restore(self) -> None:
        os.dup2(self._null, 0)
        os.dup2(self.log, 1)
        os.dup2(self.log, 2)
        for fd, name in ((1, "stdout"), (2, "stderr")):
            stream = getattr(sys, name)
            if stream is not getattr(self, name, 0) or getattr(stream, "closed", True):
                stream = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
                setattr(self, name, stream)
                setattr(sys, name, stream)
                setattr(sys, f"__{name}__", stream)

    def flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self._libc.fflush(None)


@dataclass(frozen=True)
class _Setting:
    """One piece of process-wide state: how to read it, how to put a value back, and the value to put back."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]
    saved: Any

    def restore(self) -> bool:
        """Whether the value is now the saved one."""
        if self.read() != self.saved:
            self.write(self.saved)
        return bool(self.read() == self.saved)


class _Room:
    """The child's process-wide state, the same at the start of every cell.

    What a method changes within the clock is restored. What it changed before, by an import or while warming up, would not
    be changed again in the next cell of this child, which would then differ from the first: that costs the child.
    """

    def __init__(self, scratch: str, n_threads: int, plugins: list[str], streams: _Streams) -> None:
        self.state: dict[str, Any] = {}
        self._scratch = scratch
        self._n_threads = n_threads
        self._plugins = plugins
        self._streams = streams
        self._n_cells = 0
        self._settings = _process_settings()
        self._threads = set(threading.enumerate())
        _seed_global_generators()
        self._enter_cell()

    def load_plugins(self) -> None:
        """Once. What plugins set at their import belongs to every cell: each child has loaded all of them."""
        if self._plugins:
            from bench.registry import load_plugin

            for path in self._plugins:
                load_plugin(path)
            self._plugins = []
            self._settings = _process_settings()

    def _enter_cell(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        self._folder = os.path.join(self._scratch, str(self._n_cells))
        os.mkdir(self._folder)
        os.chdir(self._folder)
        self._n_modules = len(sys.modules)
        self._rss_mib = rss_mib(os.getpid())
        self._clock_has_run = False
        self._changed_early: list[str] = []

    def before_the_clock(self) -> None:
        """Called at the start of every timed part; the first of a cell finds the global generators as every other does."""
        if not self._clock_has_run:
            self._clock_has_run = True
            self._changed_early = self._changed()
            _seed_global_generators()

    def tidy(self) -> list[str]:
        """End the cell: drop its state, restore what it changed, and return what could not be restored."""
        self.state.clear()
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        self._streams.restore()
        self._warnings.__exit__(None, None, None)
        gc.collect()
        has_imported = len(sys.modules) > self._n_modules
        if has_imported:
            gc.freeze()  # what was imported stays; walking it again at the end of every cell costs 100 ms and more
        _reap_own_children()
        problems = self._changed() if has_imported else self._changed_early
        problems += self._restored_settings()
        problems += _restored_thread_counts(self._n_threads)
        problems += self._left_threads()
        os.chdir(self._scratch)
        shutil.rmtree(self._folder, ignore_errors=True)
        problems += [] if has_imported else self._left_memory()
        self._n_cells += 1
        if not problems:
            self._enter_cell()
        return problems

    def _changed(self) -> list[str]:
        return [setting.name for setting in self._settings if setting.read() != setting.saved]

    def _restored_settings(self) -> list[str]:
        problems = []
        for setting in (*self._settings, *_torch_settings()):
            try:
                if not setting.restore():
                    problems.append(setting.name)
            except Exception as error:
                problems.append(f"{setting.name} ({type(error).__name__}: {error})")
        try:
            _seed_global_generators()
        except Exception as error:
            problems.append(f"random state ({type(error).__name__}: {error})")
        return problems

    def _left_threads(self) -> list[str]:
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in set(threading.enumerate()) - self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = set(threading.enumerate()) - self._threads
        return [f"thread '{thread.name}' still runs" for thread in left]

    def _left_memory(self) -> list[str]:
        """Memory that stays is charged to the next cell; where no import explains it, a fresh child is fairer."""
        if rss_mib(os.getpid()) - self._rss_mib < _RESIDUE_MIB:
            return []
        with contextlib.suppress(AttributeError):  # glibc only
            ctypes.CDLL(None).malloc_trim(0)
        left = rss_mib(os.getpid()) - self._rss_mib
        return [f"{left:.0f} MiB of memory"] if left >= _RESIDUE_MIB else []


def _process_settings() -> list[_Setting]:
    import numpy as np

    def write_environment(saved: dict[str, str]) -> None:
        for name in set(os.environ) - set(saved):
            del os.environ[name]
        os.environ.update(saved)

    def write_path(saved: list[str]) -> None:
        sys.path[:] = saved

    def read_handlers() -> dict[int, Any]:
        return {int(number): signal.getsignal(number) for number in signal.valid_signals()}

    def write_handlers(saved: dict[int, Any]) -> None:
        for number, handler in saved.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)

    def read_limits() -> dict[int, tuple[int, int]]:
        kinds = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
        return {kind: resource.getrlimit(kind) for kind in kinds}

    def write_limits(saved: dict[int, tuple[int, int]]) -> None:
        for kind, limits in saved.items():
            if resource.getrlimit(kind) != limits:
                resource.setrlimit(kind, limits)

    def read_umask() -> int:
        value = os.umask(0o077)
        os.umask(value)
        return value

    def setting(name: str, read: Callable[[], Any], write: Callable[[Any], Any]) -> _Setting:
        return _Setting(name, read, write, read())

    return [
        setting("os.environ", lambda: dict(os.environ), write_environment),
        setting("sys.path", lambda: list(sys.path), write_path),
        setting("floating-point errors of numpy", np.geterr, lambda saved: np.seterr(**saved)),
        setting("signal handlers", read_handlers, write_handlers),
        setting(
            "blocked signals",
            lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            lambda saved: signal.pthread_sigmask(signal.SIG_SETMASK, saved),
        ),
        setting("resource limits", read_limits, write_limits),
        setting("umask", read_umask, os.umask),
        setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        setting("garbage collection", gc.isenabled, lambda saved: gc.enable() if saved else gc.disable()),
    ]


def _torch_settings() -> list[_Setting]:
    """Global settings of torch with their values after its import; none where no one has imported it."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_rng_state"):
        return []
    deterministic = torch.are_deterministic_algorithms_enabled
    return [
        _Setting("default type of torch", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        _Setting("gradients of torch", torch.is_grad_enabled, torch.set_grad_enabled, True),
        _Setting("determinism of torch", deterministic, torch.use_deterministic_algorithms, False),
    ]


def _seed_global_generators() -> None:
    """Give every global generator one fixed state, and raise RuntimeError where it does not take it.

    A method is not to use them, but one that does shall get the same numbers whatever ran before in this child.
    """
    import numpy as np

    random.seed(_GLOBAL_SEED)
    np.random.seed(_GLOBAL_SEED)  # noqa: NPY002
    expected = np.random.RandomState(_GLOBAL_SEED).get_state(legacy=False)
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    same = state["bit_generator"] == expected["bit_generator"] and not state["has_gauss"]
    if not same or not np.array_equal(state["state"]["key"], expected["state"]["key"]):
        raise RuntimeError("the global generator of numpy was replaced")
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        torch.manual_seed(_GLOBAL_SEED)
        if not torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(_GLOBAL_SEED).get_state()):
            raise RuntimeError("the global generator of torch was replaced")


def _restored_thread_counts(n_threads: int) -> list[str]:
    """Set every thread pool of a loaded library back; a library that nobody has loaded is not loaded for this.

    A library that caps its threads at the processors may stay below ``n_threads``; none may stay above.
    """
    problems = []
    pools = sys.modules.get("threadpoolctl")
    if pools is not None and any(p["num_threads"] != n_threads for p in pools.threadpool_info()):
        pools.threadpool_limits(n_threads)
        problems += [f"threads of {p['prefix']}" for p in pools.threadpool_info() if p["num_threads"] > n_threads]
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads") and torch.get_num_threads() != n_threads:
        torch.set_num_threads(n_threads)
        if torch.get_num_threads() != n_threads:
            problems.append("threads of torch")
    numba = sys.modules.get("numba")
    if numba is not None and n_threads > 1 and hasattr(numba, "set_num_threads"):  # its environment variable is the maximum
        numba.set_num_threads(n_threads)
    return problems


def _reap_own_children() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def rss_mib(pid: int) -> float:
    """Resident memory of one process, MiB; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    except (OSError, IndexError):
        if os.path.exists("/proc/self/statm"):
            return 0.0
    import psutil

    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.Error:
        return 0.0


def peak_rss_mib(pid: int | str) -> float:
    """Highest resident memory of one process since its last reset, MiB; 0 where the kernel does not tell."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _peak_rss_mib() -> float:
    return peak_rss_mib("self")


def _reset_peak_rss() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
