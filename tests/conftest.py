"""What all tests share: small files of the same form where the real data are not at hand, and one hypothesis profile."""

import os

import pytest
from hypothesis import HealthCheck, settings
from small_data import write_small_data

# The same examples on every run, and no failure for a slow machine: what is wrong is never the clock.
settings.register_profile("cadibench", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cadibench")


@pytest.fixture(scope="session", autouse=True)
def data_directory(tmp_path_factory):
    """The directory of the data files: $CADIBENCH_DATA where it is set, which child processes inherit."""
    given = os.environ.get("CADIBENCH_DATA")
    if given:
        yield given
        return
    directory = write_small_data(tmp_path_factory.mktemp("data") / "small")
    os.environ["CADIBENCH_DATA"] = str(directory)
    yield str(directory)
    del os.environ["CADIBENCH_DATA"]


@pytest.fixture
def unplotted(monkeypatch):
    """Nothing is drawn, of a run or of a problem, which takes most of the time; what is printed and written stays."""
    from bench.plots import Plots

    for drawing in ("bench.report.write_plots", "bench.cli.describing.write_problem_plots"):
        monkeypatch.setattr(drawing, lambda *_, **__: Plots((), ()))
