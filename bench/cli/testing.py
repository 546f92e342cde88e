"""The command that holds a plugin to its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench import registry, testing
from bench.cli.application import app, make_console
from bench.errors import InputError, UnknownName


@app.command("test-plugin")
def test_plugin(
    plugin: Annotated[str, typer.Argument(help="A Python file with plugins, or the name of a registered one.")],
) -> None:
    """Hold a plugin to its contract: shapes, seeds, purity, equivariance and the rest. Exit status 1 where a check fails."""
    if plugin.endswith(".py"):
        path = Path(plugin).resolve()
        registry.load_plugin(path)
        names = [e for e in (*registry.methods().values(), *registry.datasets().values()) if e.source == path]
        if not names:
            raise InputError(f"'{plugin}' registers no method and no dataset; decorate one with @register_method(\"name\")")
    else:
        known = {**registry.datasets(), **registry.methods()}
        if plugin not in known:
            raise UnknownName("plugin", plugin, known)
        names = [known[plugin]]
    if not testing.run_checks([(e.kind, e.name) for e in names], console=make_console()):
        raise typer.Exit(1)
