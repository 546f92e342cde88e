"""One call in a child process that can be killed: what a method does there costs its own row and nothing else.

A :class:`Worker` owns one child in a session of its own (``bench.child`` behind ``bench.keeper``), sends it a function by name
with its arguments, watches time and memory, and tells what became of it as an :class:`Outcome`. The child is reused: a fresh
one costs an interpreter and imports, a call about a millisecond. It works where ``multiprocessing`` does not: inside a
loky worker and inside Dask's daemonic workers.

Not here: what is run (``bench.runner``), and security. The child keeps accidents in, not attackers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from bench.child import frame, peak_rss_mib, rss_mib, unframe
from bench.errors import InputError, InvalidEstimate
from bench.keeper import descendants

Status = Literal["ok", "skipped", "timeout", "out_of_memory", "error", "invalid"]
Progress = Callable[[float, str], None]

_SENT_TO_WHOLE_RUNS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOG_BYTES = 20_000
_CHUNK_BYTES = 1 << 18
_SAMPLE_SECONDS = 0.02  # between looks at the memory; stretched so that looking takes at most a twentieth of the time
_SAMPLE_SHARE = 20
_TIDY_SECONDS = 30.0
_HUNG_UP_SECONDS = 2.0  # a process that dies hangs up a moment before its keeper knows why
_END_SECONDS = 15.0  # longer than the keeper's own patience
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
_OPENMP = {"KMP_INIT_AT_FORK": "FALSE", "KMP_DUPLICATE_LIB_OK": "True"}  # as scikit-learn sets at its import, for all methods
_START = "import sys; sys.path.insert(0, sys.argv[1]); from bench.keeper import keep; keep(*map(int, sys.argv[2:]))"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    Parameters
    ----------
    status : {"ok", "skipped", "timeout", "out_of_memory", "error", "invalid"}
        "skipped" is a missing optional dependency, "invalid" an estimate that breaks its contract.
    value : object
        What the function returned; None unless ok.
    reason : str
        One line; empty if ok.
    traceback : str
        Of the child; empty where there is none.
    seconds : float
        Wall-clock of the timed part.
    peak_rss_mb : float
        Peak resident memory of the child and all processes below it during the call, MiB. Pages that several processes
        share are counted in each.
    log : str
        The last 20 kB that was printed, by Python or by C.
    from_outside : bool
        The child was killed, and not by us: perhaps together with the whole run.
    """

    status: Status
    value: Any
    reason: str
    traceback: str
    seconds: float
    peak_rss_mb: float
    log: str
    from_outside: bool = False


class Worker:
    """A child process, started at the first call, reused, and replaced after anything that it cannot put in order.

    Not for several threads at once. A worker in a forked copy of its process starts a child of its own.

    Parameters
    ----------
    plugins : sequence of path
        Files for ``registry.load_plugin``, loaded before the first call.
    python_path : sequence of path
        Put before this process's ``sys.path``, which the child has as well.
    n_threads : int
        Of OpenMP, BLAS and numba in the child.
    setup_timeout : float
        Seconds for everything outside of the timed part: start, imports, warming up, sending.

    Examples
    --------
    >>> with Worker() as worker:
    ...     outcome = worker.call("bench.isolation:_twice", 21)
    >>> outcome.status, outcome.value
    ('ok', 42)
    """

    def __init__(
        self,
        *,
        plugins: Sequence[str | Path] = (),
        python_path: Sequence[str | Path] = (),
        n_threads: int = 1,
        setup_timeout: float = 300.0,
    ) -> None:
        if n_threads < 1:
            raise InputError(f"n_threads must be at least 1, got {n_threads}")
        self._plugins = tuple(str(Path(p).resolve()) for p in plugins)
        self._python_path = tuple(str(p) for p in python_path)
        self._n_threads = n_threads
        self._setup_timeout = setup_timeout
        self._child: _Child | None = None
        self._in_order = True

    @property
    def pid(self) -> int | None:
        """Process id of the child; None before its first call and after its end."""
        return self._child.pid if self._child is not None else None

    def call(
        self,
        function: str,
        *arguments: Any,
        timeout: float | None = None,
        memory_mb: float | None = None,
        on_progress: Progress | None = None,
    ) -> Outcome:
        """Run ``function(context, *arguments)`` in the child and wait for what becomes of it.

        Parameters
        ----------
        function : str
            ``"package.module:name"``, called with a :class:`bench.child.Context` before its arguments.
        *arguments : object
            Anything that can be pickled; nothing else of this process reaches the child.
        timeout : float or None
            Seconds for the part inside ``context.timed()``.
        memory_mb : float or None
            Limit on the resident memory of the child and everything below it, MiB. A peak above it counts even where
            it was too short for the child to be killed.
        on_progress : callable (fraction, note) or None
            Called in this process for ``context.progress``.

        Raises
        ------
        InputError
            If ``function`` has not that form.
        """
        if function.count(":") != 1:
            raise InputError(f"function must read 'package.module:name', got '{function}'")
        payload = pickle.dumps(arguments, protocol=pickle.HIGHEST_PROTOCOL)
        child = self._ready_child()
        try:
            child.send({"kind": "call", "function": function}, payload)
            del payload
            outcome = _Call(child, self._setup_timeout, timeout, memory_mb, on_progress).wait()
        except BaseException:  # Ctrl-C, or a failing callback: the child is in the middle of something
            self.close()
            raise
        if child.has_ended:
            self.close()
        elif outcome.status != "ok":
            self._in_order = False
        return outcome

    def end_cell(self) -> None:
        """Make the next call independent of those before: restore and verify the child's state, or replace the child.

        Restored are the random state of ``random``, numpy and torch, ``os.environ``, the working folder (an empty one
        per cell), thread counts, signal handlers, warning filters and a few more; ``context.state`` is dropped. A child
        is replaced after a call that was not ok, or where something could not be restored: a process or a thread that
        still runs, say.
        """
        child = self._child
        if child is None:
            return
        if not (self._in_order and child.owner == os.getpid() and child.tidy(_TIDY_SECONDS)):
            self.close()

    def close(self) -> None:
        """End the child and everything below it. The worker can be used again: it starts another."""
        child, self._child, self._in_order = self._child, None, True
        if child is not None:
            child.end()

    def _ready_child(self) -> _Child:
        if self._child is not None and (self._child.owner != os.getpid() or self._child.poll_ended()):
            self.close()
        if self._child is None:
            self._child = _Child(self._plugins, self._python_path, self._n_threads)
        return self._child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_child", None) is not None:
            with contextlib.suppress(Exception):  # the interpreter may be half gone; the keeper notices in any case
                self.close()


def _twice(context: Any, number: int) -> int:
    return 2 * number


class _Call:
    """One call under way: limits, clock and memory."""

    def __init__(
        self,
        child: _Child,
        setup_timeout: float,
        timeout: float | None,
        memory_mb: float | None,
        on_progress: Progress | None,
    ) -> None:
        self._child = child
        self._setup_timeout = setup_timeout
        self._timeout = float("inf") if timeout is None else timeout
        self._memory_mib = float("inf") if memory_mb is None else memory_mb
        self._on_progress = on_progress
        self._deadline = time.monotonic() + setup_timeout
        self._clock_on: float | None = None
        self._seconds = 0.0
        self._running = False
        self._peak_mib = 0.0
        self._next_sample = 0.0

    def wait(self) -> Outcome:
        hung_up = False
        while True:
            now = time.monotonic()
            pause = min(self._deadline, self._next_sample if self._running else now + 1.0) - now
            for header, payload in self._child.exchange(max(0.0, pause)):
                if header["kind"] == "done":
                    return self._done(header, payload)
                self._note(header)
            if self._child.has_ended:
                return self._died()
            now = time.monotonic()
            if self._child.hung_up and not hung_up:
                hung_up, self._deadline = True, min(self._deadline, now + _HUNG_UP_SECONDS)
            if self._running and now >= self._next_sample:
                self._sample(now)
                if self._peak_mib > self._memory_mib:
                    return self._killed("out_of_memory", self._too_much_memory())
            if now >= self._deadline and hung_up:
                return self._killed("error", "the process closed its connection to the benchmark")
            if now >= self._deadline:
                what = f"{self._timeout:g} s" if self._clock_on is not None else f"{self._setup_timeout:g} s of the setup"
                return self._killed("timeout", f"ran longer than its limit of {what}")

    def _note(self, header: dict[str, Any]) -> None:
        now = time.monotonic()
        match header["kind"]:
            case "begin":  # what came before, unpickling above all, is not the method's
                self._child.pid, self._running, self._next_sample = header["pid"], True, now + _SAMPLE_SECONDS
            case "clock on":
                self._clock_on, self._deadline = now, now + self._timeout - self._seconds
            case "clock off":
                self._clock_on, self._deadline = None, now + self._setup_timeout
                self._seconds = header["seconds"]
            case "progress" if self._on_progress is not None:
                self._on_progress(header["fraction"], header["note"])

    def _sample(self, now: float) -> None:
        """Memory of the tree now, and the child's own peak, which sees what falls between two looks."""
        processes = descendants(self._child.keeper_pid)
        tree = sum(map(rss_mib, processes))
        own = peak_rss_mib(self._child.pid) if self._child.pid in processes else 0.0
        self._peak_mib = max(self._peak_mib, tree, own)
        took = time.monotonic() - now
        self._next_sample = now + max(_SAMPLE_SECONDS, _SAMPLE_SHARE * took)

    def _done(self, header: dict[str, Any], payload: bytes) -> Outcome:
        self._seconds, self._peak_mib = header["seconds"], max(self._peak_mib, header["peak_mib"])
        status, reason, traceback, value = header["status"], header["reason"], header["traceback"], None
        if status == "ok" and self._peak_mib > self._memory_mib:
            status, reason = "out_of_memory", self._too_much_memory()
        elif status == "ok":
            try:
                value = pickle.loads(payload)
            except InvalidEstimate as error:
                status, reason = "invalid", str(error)
            except Exception as error:
                status, reason = "error", f"the returned value cannot be read: {type(error).__name__}: {error}"
        return self._outcome(status, reason, traceback, value)

    def _died(self) -> Outcome:
        code = self._child.exit_code
        status: Status = "error"
        from_outside = code is None or -code in _SENT_TO_WHOLE_RUNS
        if code is None:
            reason = "the process was lost together with its keeper"
        elif code >= 0:
            reason = f"the process ended itself with exit code {code}"
        else:
            reason = f"the process was ended by {_signal_name(-code)}"
            if code == -signal.SIGKILL and _kernel_kills() > self._child.kernel_kills:
                status, reason = "out_of_memory", f"{reason}: the system ran out of memory"
                from_outside = False
        log = self._child.log()
        crash = log.rfind("Fatal Python error")
        outcome = self._outcome(status, reason, log[crash:] if crash >= 0 else "", None)
        return dataclasses.replace(outcome, from_outside=from_outside)

    def _killed(self, status: Status, reason: str) -> Outcome:
        now = time.monotonic()
        if self._clock_on is not None:
            self._seconds += now - self._clock_on
        self._child.end()
        return self._outcome(status, reason, "", None)

    def _too_much_memory(self) -> str:
        return f"used {self._peak_mib:.0f} MiB, more than its limit of {self._memory_mib:g} MiB"

    def _outcome(self, status: Status, reason: str, traceback: str, value: Any) -> Outcome:
        return Outcome(status, value, reason, traceback, self._seconds, self._peak_mib, self._child.log())


class _Child:
    """The parent's end of one keeper and child: start, messages, log, end. All reads and writes are non-blocking."""

    def __init__(self, plugins: tuple[str, ...], python_path: tuple[str, ...], n_threads: int) -> None:
        self.owner = os.getpid()
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.has_ended = False
        self.hung_up = False
        self.kernel_kills = _kernel_kills()
        self._received = bytearray()
        self._to_send: list[memoryview] = []
        self._log = bytearray()
        self._control, keeper_control = socket.socketpair()
        self._data, child_data = socket.socketpair()
        self._log_fd, child_log = os.pipe()
        handed = (keeper_control.fileno(), child_data.fileno(), child_log)
        threads = dict.fromkeys(_THREAD_VARIABLES, str(n_threads))
        environment = {**_OPENMP, **os.environ, **threads, "PYTHONHASHSEED": "0"}
        root = str(Path(__file__).resolve().parents[1])
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, root, *map(str, (*handed, os.getpid()))],
                stdin=subprocess.DEVNULL,
                stdout=child_log,
                stderr=child_log,
                pass_fds=handed,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal is for the run to handle
            )
        except BaseException:
            self._close_files()
            raise
        finally:
            keeper_control.close()
            child_data.close()
            os.close(child_log)
        self._control.setblocking(False)
        self._data.setblocking(False)
        os.set_blocking(self._log_fd, False)
        self._selector = selectors.PollSelector()
        for file in (self._data, self._control, self._log_fd):
            self._selector.register(file, selectors.EVENT_READ)
        path = [*python_path, *(os.path.abspath(p) if not p or os.path.exists(p) else p for p in sys.path)]
        self._queue({"path": path, "n_threads": n_threads, "plugins": list(plugins)})

    @property
    def keeper_pid(self) -> int:
        return self._keeper.pid

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Queue a message, sent by the following exchanges; what the child printed before belongs to no call."""
        self._read_log()
        self._log.clear()
        self._queue(header, payload)

    def _queue(self, header: dict[str, Any], payload: bytes = b"") -> None:
        self._to_send += [memoryview(frame(header, len(payload))), memoryview(payload)]

    def exchange(self, seconds: float) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Wait at most so long for something to happen, handle it, and yield the messages that are complete."""
        if not self.hung_up:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._to_send else 0)
            self._selector.modify(self._data, wanted)
        ready = {key.fileobj: events for key, events in self._selector.select(seconds)}
        if self._log_fd in ready:
            self._read_log()
        if ready.get(self._data, 0) & selectors.EVENT_WRITE:
            self._write()
        if (self._data in ready or self._control in ready) and not self.hung_up:
            self._read_data()
        if self._control in ready:
            self._read_control()
        while (message := unframe(self._received)) is not None:
            yield message

    def log(self) -> str:
        """The end of what was printed since the last call began."""
        self._read_log()
        return self._log.decode("utf-8", errors="replace")

    def poll_ended(self) -> bool:
        """Whether the child has died since the last call."""
        self._read_control()
        return self.has_ended

    def tidy(self, seconds: float) -> bool:
        """Let the child put itself in order; False unless everything is, and nothing else runs below the keeper."""
        self.send({"kind": "end cell"})
        deadline = time.monotonic() + seconds
        while not self.has_ended and (left := deadline - time.monotonic()) > 0:
            for header, _ in self.exchange(left):
                if header["kind"] == "cell ended":
                    return not header["problems"] and not self._strays()
        return False

    def end(self) -> None:
        """Kill everything below the keeper, wait for it, and let go of all resources. Idempotent."""
        self.has_ended = True
        if self._log_fd < 0:
            return
        if self.owner == os.getpid():
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_WR)  # reaches the keeper even where a forked copy holds this socket
                self._control.settimeout(_END_SECONDS)
                while self._control.recv(64):  # until the keeper hangs up, its work done
                    pass
            try:
                self._keeper.wait(1.0)
            except subprocess.TimeoutExpired:
                self._keeper.kill()  # the child dies with it
                self._keeper.wait()
        self._read_log()
        self._selector.close()
        self._close_files()

    def _close_files(self) -> None:
        self._control.close()
        self._data.close()
        os.close(self._log_fd)
        self._log_fd = -1

    def _strays(self) -> bool:
        return any(pid != self.pid and not _is_zombie(pid) for pid in descendants(self.keeper_pid))

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):  # a child that is gone is noticed by its keeper
            while self._to_send:
                sent = self._data.send(self._to_send[0][:_CHUNK_BYTES]) if self._to_send[0] else 0
                self._to_send[0] = self._to_send[0][sent:]
                if not self._to_send[0]:
                    del self._to_send[0]

    def _read_data(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while chunk := self._data.recv(_CHUNK_BYTES):
                self._received += chunk
            self.hung_up = True
            self._selector.unregister(self._data)  # else it would be ready for ever

    def _read_control(self) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                told = self._control.recv(64)
            except ConnectionError:
                told = b""
            self.exit_code = int(told) if told else None
            self.has_ended = True

    def _read_log(self) -> None:
        if self._log_fd < 0:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):  # a process that prints without end must not hold the watch
                chunk = os.read(self._log_fd, _CHUNK_BYTES)
                if not chunk:
                    break
                self._log = (self._log + chunk)[-_LOG_BYTES:]


def _is_zombie(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kernel_kills() -> int:
    """Processes that the kernel has ended for lack of memory since the system started; 0 where it does not tell."""
    with contextlib.suppress(OSError), open("/proc/vmstat", "rb") as file:
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0
