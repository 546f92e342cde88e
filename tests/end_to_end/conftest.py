"""What the end-to-end tests share: a registry that forgets plugins after each test, and the plugin files."""

from pathlib import Path

import pytest

from bench import registry, runner

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
