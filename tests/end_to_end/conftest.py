"""What the end-to-end tests share: a registry that forgets plugins after each test, and the plugin files."""

import sys
from pathlib import Path

import pytest

from bench import cli, registry, runner

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture(autouse=True)
def forgetful_registry(monkeypatch):
    """What a test registers is gone after it, and so is the worker that knows of it."""
    registry.methods()
    monkeypatch.setattr(registry, "_entries", {kind: dict(known) for kind, known in registry._entries.items()})
    monkeypatch.setattr(registry, "_loaded_plugins", {})
    yield
    runner.close_worker()


@pytest.fixture
def plugins():
    """Load the test plugins; the folder they lie in."""
    for name in ("trouble", "witness"):
        registry.load_plugin(PLUGINS / f"{name}.py")
    return PLUGINS


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command line in this process; return exit status, stdout and stderr."""

    def call(*arguments, columns=120):
        monkeypatch.setattr(sys, "argv", ["run_bench.py", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns))
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return call
