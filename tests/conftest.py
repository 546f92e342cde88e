"""Where the real data are not at hand, every test finds small files of the same form."""

import os

import pytest
from small_data import write_small_data


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
