"""What is compiled is kept, renewed when the package changes, and needs no folder that can be written."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "methods" / "metacadi"
HALF = "from methods.metacadi.compiled import compiled\n\n\n@compiled\ndef inner(x):\n    return x / FACTOR\n"
TWICE = (
    "from methods.metacadi.compiled import compiled\nfrom methods.metacadi.inner import inner\n\n\n"
    "@compiled\ndef outer(x):\n    return inner(x) + 1.0\n"
)
ASK = (
    "from methods.metacadi.outer import outer\nprint(outer(8.0))\n"
    "stats = getattr(outer, 'stats', None)\nprint(sum(stats.cache_hits.values()))"
)


@pytest.fixture
def package(tmp_path):
    """A package of the same name with two compiled functions, one in the other."""
    folder = tmp_path / "methods" / "metacadi"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").touch()
    shutil.copy(PACKAGE / "compiled.py", folder)
    (folder / "inner.py").write_text(HALF.replace("FACTOR", "2.0"))
    (folder / "outer.py").write_text(TWICE)
    return folder


def ask(package, **environment):
    """Value and number of functions read from disk, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=package.parents[1],
        env={**os.environ, "PYTHONPATH": str(package.parents[1]), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    value, hits = done.stdout.split()
    return float(value), int(hits)


def test_a_second_process_reads_what_the_first_compiled_until_a_file_of_the_package_changes(package):
    assert ask(package) == (5.0, 0)
    assert ask(package) == (5.0, 1)
    (package / "inner.py").write_text(HALF.replace("FACTOR", "4.0"))
    assert ask(package) == (3.0, 0)


def test_without_a_folder_to_write_it_compiles_in_memory(package):
    """Files where the cache folders would be, which stops even those who may write everywhere."""
    (package / "__pycache__").write_text("")
    nowhere = package / "file"
    nowhere.write_text("")
    hidden = {"XDG_CACHE_HOME": str(nowhere), "HOME": str(nowhere)}
    assert ask(package, **hidden) == (5.0, 0)
    assert ask(package, **hidden) == (5.0, 0)


WAIT = """
import sys, time
from methods.metacadi.compiled import compiling_once
from methods.metacadi.outer import outer
with compiling_once():
    outer(8.0)
    seconds = float(sys.argv[1])
    time.sleep(seconds)
print(sum(outer.stats.cache_hits.values()))
"""


def start(package, seconds=0.0):
    return subprocess.Popen(
        [sys.executable, "-c", WAIT, str(seconds)],
        cwd=package.parents[1],
        env={**os.environ, "PYTHONPATH": str(package.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_of_processes_at_the_same_time_one_compiles_and_the_others_read(package):
    processes = [start(package) for _ in range(3)]
    assert sorted(int(process.communicate()[0]) for process in processes) == [0, 1, 1]
    assert start(package).communicate()[0] == "1\n"


def test_who_is_killed_while_compiling_holds_nobody_up(package):
    """Then another compiles, or reads what there was by then; the mark is left by who came to an end."""
    first = start(package, seconds=600.0)
    while not list((package / "__pycache__").glob("*.nbi")):
        time.sleep(0.05)
        assert first.poll() is None
    first.kill()
    first.communicate()
    assert not list((package / "__pycache__").glob("compiled-*"))
    second = start(package)
    assert second.communicate()[0] in ("0\n", "1\n")
    assert second.returncode == 0
    assert len(list((package / "__pycache__").glob("compiled-*"))) == 1
