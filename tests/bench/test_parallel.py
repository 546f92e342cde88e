"""Tasks in workers: the same plugins as in the process that sends them."""

import pytest

from bench import parallel, registry
from bench.errors import InputError


def test_a_worker_whose_plugin_is_not_the_one_sent_refuses_the_task(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_loaded_plugins", dict(registry._loaded_plugins))
    file = tmp_path / "plugin.py"
    file.write_text("")
    registry.load_plugin(file)
    sent = registry.loaded_plugins()
    assert parallel._in_worker(abs, sent, (-1,)) == 1
    file.write_text("edited = True")
    assert parallel._in_worker(abs, sent, (-1,)) == 1  # what is loaded is what was sent
    registry.load_plugin(file)
    with pytest.raises(InputError, match=r"plugin\.py' is not the file that the run began with; run again"):
        parallel._in_worker(abs, sent, (-1,))
