"""Isolation: whatever code does in the child, the caller gets an outcome, and the next cell notices nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import offenders_isolation
import psutil
import pytest

from bench.errors import InputError
from bench.isolation import Outcome, Worker

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reaping of runaway processes is Linux's")
HANG_GUARD = 20.0  # seconds; only ever reached by a defect


@pytest.fixture(scope="module")
def module_worker() -> Iterator[Worker]:
    with Worker(setup_timeout=60) as worker:
        yield worker


@pytest.fixture
def worker(module_worker: Worker) -> Iterator[Worker]:
    """One worker for all tests, each of them a cell: what one test leaves behind would fail the next."""
    yield module_worker
    module_worker.end_cell()


def run(worker: Worker, name: str, *arguments: object, **limits: Any) -> Outcome:
    return worker.call(f"offenders_isolation:{name}", *arguments, **limits)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + HANG_GUARD
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def works(worker: Worker) -> bool:
    outcome = run(worker, "echo", "still", "there")
    return outcome.status == "ok" and outcome.value == ("still", "there")


# -- calls ----------------------------------------------------------------------------------------------------------


def test_the_child_is_a_process_of_its_own_session_and_is_reused(worker: Worker) -> None:
    first, second = run(worker, "who"), run(worker, "who")
    worker.end_cell()
    third = run(worker, "who")
    pid, session, keeper = first.value
    assert first.value == second.value == third.value
    assert pid == worker.pid != os.getpid()
    assert len({session, os.getsid(keeper), os.getsid(0)}) == 3  # Ctrl-C reaches neither


def test_arrays_of_100_mb_pass_in_both_directions_and_are_not_charged_twice(worker: Worker) -> None:
    array = np.ones(100 * 2**17)
    base = run(worker, "echo")
    there = run(worker, "total", array)
    back = run(worker, "zeros", 100 * 2**20)
    assert there.value == array.size
    assert back.value.nbytes == 100 * 2**20
    assert there.peak_rss_mb < base.peak_rss_mb + 150  # the array once, and no second time as a pickle


def test_a_stopped_child_does_not_block_the_caller_who_sends_it_much(worker: Worker) -> None:
    assert works(worker)
    worker._setup_timeout = 0.5
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    outcome = run(worker, "total", np.ones(100 * 2**17))
    assert outcome.status == "timeout"
    assert "setup" in outcome.reason
    worker._setup_timeout = 60
    assert works(worker)


def test_a_function_name_without_its_module_is_an_input_error(worker: Worker) -> None:
    with pytest.raises(InputError, match=r"package\.module:name"):
        worker.call("echo")


def test_an_unknown_function_is_an_error_of_that_call(worker: Worker) -> None:
    outcome = run(worker, "no_such_function")
    assert outcome.status == "error"
    assert "no_such_function" in outcome.reason
    assert works(worker)


def test_the_child_has_the_callers_path_and_plugins(tmp_path: Path) -> None:
    (tmp_path / "found_by_path.py").write_text("def answer(context):\n    return 42\n")
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from bench.registry import register_dataset\nfrom bench.types import Meta\n"
        "@register_dataset('planted', meta=Meta('planted'))\ndef planted(rng):\n    return None\n"
    )
    (tmp_path / "asks.py").write_text(
        "def names(context):\n    from bench import registry\n    return [str(p) for p in registry.loaded_plugins()]\n"
    )
    with Worker(python_path=[tmp_path], plugins=[plugin]) as worker:
        assert worker.call("found_by_path:answer").value == 42
        assert worker.call("asks:names").value == [str(plugin)]


def test_a_plugin_that_fails_to_load_is_an_error_of_the_call(tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text("raise RuntimeError('broken at import')\n")
    with Worker(plugins=[plugin]) as worker:
        outcome = run(worker, "echo")
    assert outcome.status == "error"
    assert "broken at import" in outcome.reason


def test_progress_arrives_in_the_caller(worker: Worker) -> None:
    seen: list[tuple[float, str]] = []
    outcome = run(worker, "report_progress", on_progress=lambda fraction, note: seen.append((fraction, note)))
    assert outcome.status == "ok"
    assert seen == [(0.0, "starting"), (1.0, "done")]


def test_an_interrupt_in_the_caller_ends_the_child_and_comes_through(worker: Worker) -> None:
    assert works(worker)
    child = worker.pid
    assert child is not None

    def interrupt(fraction: float, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(worker, "report_progress", on_progress=interrupt)
    assert not alive(child)
    assert works(worker)


# -- raising and returning ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("raises", "error", "ValueError: three lines of reason"),
        ("raises_invalid", "invalid", "edge_probability must lie in [0, 1], got values from 7 to 7"),
        ("raises_missing", "skipped", "needs the package 'foo': pip install foo"),
        ("raises_memory_error", "out_of_memory", "MemoryError"),
        ("raises_system_exit", "error", "SystemExit: 0"),
        ("raises_keyboard_interrupt", "error", "KeyboardInterrupt"),
        ("raises_unprintable", "error", "Unprintable: (its message cannot be printed)"),
        ("returns_unpicklable", "error", "cannot be pickled"),
        ("returns_unreadable", "invalid", "broken on arrival"),
    ],
)
def test_what_is_raised_becomes_a_status_with_a_one_line_reason(worker: Worker, name: str, status: str, reason: str) -> None:
    outcome = run(worker, name)
    assert (outcome.status, outcome.value) == (status, None)
    assert reason in outcome.reason
    assert "\n" not in outcome.reason
    assert name in outcome.traceback or name.startswith("returns")
    assert works(worker)


def test_a_call_that_was_not_ok_costs_the_child_at_the_end_of_its_cell(worker: Worker) -> None:
    run(worker, "raises")
    before = run(worker, "who").value  # the cell goes on
    worker.end_cell()
    assert run(worker, "who").value != before


# -- printing and descriptors ---------------------------------------------------------------------------------------


def test_megabytes_of_print_leave_a_bounded_tail(worker: Worker) -> None:
    outcome = run(worker, "prints_megabytes")
    assert outcome.value == "done"
    assert outcome.log.endswith("the last words\n")
    assert len(outcome.log) == 20_000
    assert run(worker, "echo").log == ""


def test_printing_without_end_meets_the_time_limit(worker: Worker) -> None:
    outcome = run(worker, "prints_for_ever", timeout=0.3)
    assert outcome.status == "timeout"
    assert set(outcome.log) == {"o"}


def test_what_c_code_prints_is_in_the_log(worker: Worker) -> None:
    assert run(worker, "prints_from_c").log == "from C\n"


def test_a_method_that_closes_the_standard_descriptors_is_answered_and_repaired(worker: Worker) -> None:
    assert run(worker, "closes_standard_descriptors").value == "done"
    assert run(worker, "prints_megabytes").log.endswith("the last words\n")


def test_a_method_that_closes_the_connection_is_an_error(worker: Worker) -> None:
    outcome = run(worker, "closes_all_descriptors")
    assert outcome.status == "error"
    assert "connection" in outcome.reason
    assert works(worker)


# -- hanging and dying ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sleep", "sleep_deaf"])
def test_a_call_beyond_its_time_is_killed_and_the_worker_goes_on(worker: Worker, name: str) -> None:
    assert works(worker)
    child = worker.pid
    assert child is not None
    outcome = run(worker, name, timeout=0.2)
    assert outcome.status == "timeout"
    assert outcome.reason == "ran longer than its limit of 0.2 s"
    assert outcome.seconds >= 0.2
    assert not psutil.pid_exists(child)
    assert works(worker)


def test_only_the_timed_part_is_clocked_and_limited(worker: Worker) -> None:
    outcome = run(worker, "warm_up_then_work", 0.8, 0.01, timeout=0.7)
    assert outcome.status == "ok"
    assert 0.01 <= outcome.seconds < 0.8


def test_timed_parts_add_up_against_one_limit(worker: Worker) -> None:
    assert run(worker, "two_timed_parts", 0.02).seconds >= 0.04
    assert run(worker, "two_timed_parts", 0.6, timeout=1.0).status == "timeout"


def test_the_setup_has_a_limit_of_its_own() -> None:
    with Worker(setup_timeout=60) as worker:
        assert works(worker)
        worker._setup_timeout = 0.2
        outcome = run(worker, "sleep_outside_the_clock", timeout=100)
    assert outcome.status == "timeout"
    assert "0.2 s of the setup" in outcome.reason
    assert outcome.seconds == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("exits", "the process ended itself with exit code 3"),
        ("segfaults", "the process was ended by SIGSEGV"),
        ("aborts", "the process was ended by SIGABRT"),
        ("killed", "the process was ended by SIGKILL"),
        ("signals_its_group", "the process was ended by SIGTERM"),
    ],
)
def test_the_death_of_the_child_is_an_error_that_names_its_cause(worker: Worker, name: str, reason: str) -> None:
    outcome = run(worker, name)
    assert (outcome.status, outcome.reason) == ("error", reason)
    assert works(worker)


def test_a_crash_in_c_leaves_its_python_traceback(worker: Worker) -> None:
    assert "segfaults" in run(worker, "segfaults").traceback


def test_a_child_that_died_between_two_calls_is_replaced(worker: Worker) -> None:
    assert works(worker)
    child = worker.pid
    assert child is not None
    os.kill(child, signal.SIGKILL)
    assert eventually(lambda: not psutil.pid_exists(child))
    assert worker._child is not None
    assert eventually(worker._child.poll_ended)
    assert works(worker)


# -- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eats_memory", "eats_memory_in_a_grandchild"])
def test_memory_beyond_the_limit_is_out_of_memory(worker: Worker, name: str) -> None:
    outcome = run(worker, name, 300, memory_mb=200)
    assert outcome.status == "out_of_memory"
    assert outcome.peak_rss_mb > 200
    assert "limit of 200 MiB" in outcome.reason
    assert works(worker)


@linux_only
def test_a_peak_too_short_to_be_watched_counts(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.isolation._SAMPLE_SECONDS", 3600.0)
    base = run(worker, "echo").peak_rss_mb
    peak = run(worker, "eats_memory_briefly", 200)
    after = run(worker, "echo").peak_rss_mb
    assert peak.status == "ok"
    assert peak.peak_rss_mb > base + 190
    assert after < base + 50  # the peak belongs to its call
    assert run(worker, "eats_memory_briefly", 200, memory_mb=base + 100).status == "out_of_memory"


def test_a_leak_is_not_charged_to_the_next_cell(worker: Worker) -> None:
    base = run(worker, "echo").peak_rss_mb
    worker.end_cell()
    assert run(worker, "leaks", 200).status == "ok"
    worker.end_cell()
    assert run(worker, "echo").peak_rss_mb < base + 100


# -- processes and threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fork_returns", "fork_raises"])
def test_a_forked_copy_does_not_answer(worker: Worker, name: str) -> None:
    assert [run(worker, name).value for _ in range(3)] == ["parent"] * 3
    assert works(worker)


@linux_only
@pytest.mark.parametrize(("then", "status"), [("return", "ok"), ("hang", "timeout"), ("crash", "error")])
def test_a_daemon_that_left_family_and_session_is_gone_after_the_cell(worker: Worker, then: str, status: str) -> None:
    outcome = run(worker, "leaves_daemon", then, timeout=0.3)
    assert outcome.status == status
    daemon = int(outcome.log)
    assert alive(daemon) == (then == "return")
    worker.end_cell()
    assert not alive(daemon)
    assert works(worker)


def test_a_process_left_running_is_gone_after_the_cell(worker: Worker) -> None:
    child = run(worker, "leaves_child").value
    assert alive(child)
    worker.end_cell()
    assert not alive(child)


def test_a_thread_left_running_costs_the_child(worker: Worker) -> None:
    before = run(worker, "who").value
    run(worker, "leaves_thread")
    worker.end_cell()
    assert run(worker, "who").value != before


# -- cells ----------------------------------------------------------------------------------------------------------


def test_state_is_kept_between_the_calls_of_a_cell_and_dropped_after_it(worker: Worker) -> None:
    run(worker, "remember", "fitted")
    assert run(worker, "recall").value == "fitted"
    worker.end_cell()
    assert run(worker, "recall").value is None


def test_what_a_cell_changes_is_restored_in_the_same_child(worker: Worker) -> None:
    before = run(worker, "look").value
    child = worker.pid
    worker.end_cell()
    assert run(worker, "disturbs_everything").status == "ok"
    assert run(worker, "look").value["numpy errors"] != before["numpy errors"]  # else it would prove nothing
    worker.end_cell()
    after = run(worker, "look").value
    assert after == before
    assert worker.pid == child


def test_a_fresh_child_starts_as_a_reused_one(worker: Worker) -> None:
    run(worker, "disturbs_everything")
    worker.end_cell()
    with Worker() as fresh:
        assert run(fresh, "look").value == run(worker, "look").value


def test_the_working_folder_is_fresh_per_cell_and_removed(worker: Worker) -> None:
    first = run(worker, "where").value
    worker.end_cell()
    second = run(worker, "where").value
    assert first != second
    assert not Path(first).exists()
    assert Path(second).exists()
    worker.close()
    assert not Path(second).parent.exists()


def test_a_cell_may_remove_its_working_folder(worker: Worker) -> None:
    run(worker, "removes_its_folder")
    worker.end_cell()
    assert run(worker, "look").value["folder"] == []


def test_what_cannot_be_restored_costs_the_child(worker: Worker) -> None:
    before = run(worker, "look").value
    child = worker.pid
    worker.end_cell()
    run(worker, "replaces_numpy_generator")
    worker.end_cell()
    assert run(worker, "look").value == before
    assert worker.pid != child


def test_global_generators_start_the_clock_alike_whatever_the_warm_up_drew(worker: Worker) -> None:
    first = run(worker, "draws_after_a_warm_up", True).value
    worker.end_cell()
    assert run(worker, "draws_after_a_warm_up", False).value == first


def test_what_an_import_or_a_warm_up_sets_holds_in_every_cell(worker: Worker) -> None:
    for _ in range(2):
        assert run(worker, "sets_before_the_clock").value == 4000
        worker.end_cell()
    assert run(worker, "look").value["recursion"] != 4000


def test_thread_counts_are_set_and_restored(worker: Worker) -> None:
    assert set(run(worker, "thread_counts").value) <= {1}
    child = worker.pid
    assert max(run(worker, "raise_thread_counts").value) > 1
    worker.end_cell()
    assert set(run(worker, "thread_counts").value) == {1}
    assert worker.pid == child


# -- resources ------------------------------------------------------------------------------------------------------


@linux_only
def test_many_calls_and_replaced_children_leak_neither_descriptors_nor_processes() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def processes() -> int:
        return len(psutil.Process().children(recursive=True))

    before = descriptors(), processes()
    with Worker() as worker:
        assert works(worker)
        during = descriptors(), processes()
        for i in range(200):
            assert run(worker, "echo", i).value == (i,)
        for name in ("exits", "killed") * 10:
            assert run(worker, name).status == "error"
        assert works(worker)
        assert (descriptors(), processes()) == during
    assert (descriptors(), processes()) == before


@linux_only
def test_the_child_and_what_it_started_die_with_a_killed_caller(tmp_path: Path) -> None:
    program = (
        "import os\nfrom bench.isolation import Worker\nworker = Worker()\n"
        "daemon = worker.call('offenders_isolation:leaves_daemon', 'return').value\n"
        "print(worker.pid, daemon, worker.call('offenders_isolation:where').value, flush=True)\n"
        "worker.call('offenders_isolation:sleep_deaf')\n"
    )
    tests = Path(offenders_isolation.__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as caller:
        assert caller.stdout is not None
        child, daemon, folder = caller.stdout.readline().split()
        assert alive(int(child))
        assert alive(int(daemon))
        caller.kill()
        assert eventually(lambda: not alive(int(child)) and not alive(int(daemon)))
        assert eventually(lambda: not Path(folder).parent.exists())


@linux_only
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_child_dies_with_its_keeper_and_no_folder_stays(how: signal.Signals) -> None:
    with Worker() as worker:
        child, _, keeper = run(worker, "who").value
        folder = Path(run(worker, "where").value).parent
        os.kill(keeper, how)
        assert eventually(lambda: not alive(child) and not alive(keeper))
        assert run(worker, "echo").status == "ok"
        assert not folder.exists()


def test_it_works_inside_a_loky_worker() -> None:
    import joblib
    from joblib.externals.loky import get_reusable_executor

    try:
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(offenders_isolation.worker_in_a_worker)(n) for n in range(2))
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
    assert [value for _, _, value in found] == [0, 1]
    assert all(os.getpid() not in (caller, child) and caller != child for caller, child, _ in found)


def test_it_works_inside_a_dask_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    tests = Path(offenders_isolation.__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{tests.parent}{os.pathsep}{tests}")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    )
    with contextlib.closing(cluster), distributed.Client(cluster) as client:
        worker_pid = next(iter(client.run(os.getpid).values()))
        caller, child, value = client.submit(offenders_isolation.worker_in_a_worker, 5).result(timeout=60)
    assert caller == worker_pid != os.getpid()
    assert child not in (caller, os.getpid())
    assert value == 5
