"""The process between a worker and its child: it never runs method code, so it can always end the process that does.

The keeper forks one child, waits for it, and is the reaper of whatever the child leaves behind: a process that escapes by
``setsid`` or a double fork becomes the keeper's own. It ends everything below it, and proves it by having no child left, as
soon as the child has died, the worker hangs up, or the worker's process is gone (killed by SIGKILL included).

Only the standard library is imported here, and nothing of the project but the child, after the fork. On systems other than
Linux there is no reaper for processes that leave their family; all else holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LINUX = sys.platform.startswith("linux")
_LISTS_CHILDREN = os.path.exists("/proc/thread-self/children")
_END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)  # from whoever stops a whole machine or job
_SCRATCH_PREFIX = "cadibench-"
_PARENT_CHECK_MS = 500  # a copy of the worker's socket in a forked process can outlive the worker, so hanging up is no proof
_PATIENCE_SECONDS = 10.0  # a process in uninterruptible sleep does not die; waiting longer would hold the whole run


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, parents before their children."""
    if not _LISTS_CHILDREN:
        import psutil  # heavy, and needed only where the kernel keeps no list

        try:
            return [process.pid for process in psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            return []
    found = _children(pid)
    for child in found:  # grows while it is walked
        found += _children(child)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def keep(control_fd: int, data_fd: int, log_fd: int, worker_pid: int) -> None:
    """Fork the child, wait until it or the worker ends, end the rest, and report the child's exit code.

    Parameters
    ----------
    control_fd : int
        Socket to the worker. Its end of file means "end everything"; the exit code is written to it in decimal.
    data_fd, log_fd : int
        Socket and pipe that are handed to the child.
    worker_pid : int
        The process that must be alive.
    """
    control = socket.socket(fileno=control_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    for number in (signal.SIGCHLD, *_END_SIGNALS):
        signal.signal(number, lambda *_: None)  # read from the wake-up pipe below
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    _remove_abandoned_scratch()
    scratch, scratch_lock = _locked_scratch()
    keeper_pid = os.getpid()
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *_END_SIGNALS):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        control.close()
        for fd in (wake_read, wake_write, scratch_lock):
            if fd is not None:
                os.close(fd)
        _become_child(keeper_pid, data_fd, log_fd, scratch)
    os.close(data_fd)
    os.close(log_fd)
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(wake_read, select.POLLIN)
    status: int | None = None
    while status is None and os.getppid() == worker_pid:
        ready = {fd for fd, _ in poller.poll(_PARENT_CHECK_MS)}
        if control.fileno() in ready:
            break
        if wake_read in ready and set(os.read(wake_read, 4096)) & set(_END_SIGNALS):
            break
        status = _reap().get(child)
    _end_descendants(child)
    shutil.rmtree(scratch, ignore_errors=True)
    if status is not None:
        with contextlib.suppress(OSError):  # the worker may be gone
            control.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    control.close()


def _become_child(keeper_pid: int, data_fd: int, log_fd: int, scratch: str) -> None:
    """Never returns: whatever happens in the child, it must not go on as a second keeper."""
    try:
        os.setsid()  # a method that signals its own process group reaches nobody else
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper_pid:
            os._exit(1)
        if _LINUX:
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
                file.write("500")  # out of memory, the kernel should take the child and not the run

        from bench.child import serve

        serve(data_fd, log_fd, scratch)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _locked_scratch() -> tuple[str, int | None]:
    """A folder for the child, and the open lock that says that its keeper lives; None where locks are not to be had."""
    for _ in range(3):  # another keeper may take it for abandoned between its making and its locking
        folder = tempfile.mkdtemp(prefix=_SCRATCH_PREFIX)
        lock = _lock(folder)
        if lock is not None:
            return folder, lock
        shutil.rmtree(folder, ignore_errors=True)
    return tempfile.mkdtemp(prefix=_SCRATCH_PREFIX), None


def _remove_abandoned_scratch() -> None:
    """Remove the folders of keepers that were killed (joblib kills whole process trees) before they could do it."""
    for folder in glob.glob(os.path.join(tempfile.gettempdir(), _SCRATCH_PREFIX + "*")):
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: str) -> int | None:
    fd = -1
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(folder)):
            return fd
    except OSError:  # locked, gone, or another user's
        pass
    if fd >= 0:
        os.close(fd)
    return None


def _reap() -> dict[int, int]:
    """Wait statuses of the children that have ended, by process id."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


def _end_descendants(group: int) -> None:
    """Kill and reap until the kernel says that no child is left; ``group`` is the child's process group.

    All are stopped before any is killed: else one could fork between being listed and being killed, and a parent could
    react to the death of its child.
    """
    if not _LINUX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)  # the best there is for processes that lost their parent
    deadline, pause = time.monotonic() + _PATIENCE_SECONDS, 0.001
    while time.monotonic() < deadline:
        stopped: set[int] = set()
        while fresh := set(descendants(os.getpid())) - stopped:
            for pid in fresh:
                _signal(pid, signal.SIGSTOP)
            stopped |= fresh
        for pid in stopped:
            _signal(pid, signal.SIGKILL)
        _reap()
        if not stopped:
            return
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
