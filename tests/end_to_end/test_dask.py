"""The same rows from a Dask cluster, computed by its workers and not by the client."""

import json

import pandas as pd
import pytest
from runs import without_times

from bench import parallel, runner, store
from bench.errors import InputError
from bench.suites import Suite

distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")

SUITE = {
    "name": "test",
    "repetitions": 2,
    "datasets": [{"name": "synthetic", "label": "small", "parameters": {"n_variables": 4, "n_environments": 2}}],
    "methods": ["marginal", "random", "forks"],
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of distributed and tornado themselves
def test_rows_of_a_dask_cluster_are_those_of_this_process(plugins, tmp_path):
    suite = Suite(**SUITE)
    here = runner.run(suite, output=tmp_path / "here")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        there = runner.run(suite, output=tmp_path / "there", scheduler=cluster.scheduler_address)
        (worker,) = client.run(lambda: __import__("os").getpid()).values()
    pd.testing.assert_frame_equal(without_times(here), without_times(there))
    assert (there["status"] == "ok").all()
    computed_by = {store.load_cell(tmp_path / "there", cell).record["machine"]["process"] for cell in there["cell"]}
    assert computed_by == {worker}


def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'") as caught:
        runner.run(Suite(**SUITE | {"methods": ["empty"]}), output=tmp_path, scheduler="tcp://127.0.0.1:9")
    assert "\n" not in json.dumps(str(caught.value))
