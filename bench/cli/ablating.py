"""The command `ablate`: one method with one thing changed at a time, paired on the same problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from bench import registry, report, runner
from bench.cli.application import (
    Datasets,
    Plugins,
    app,
    available_cores,
    make_console,
    resumable,
    run_specification,
)
from bench.errors import InputError
from bench.labels import slug
from bench.progress import watching
from bench.suites import Suite


@app.command()
def ablate(
    suite: Annotated[str, typer.Argument(help="A built-in suite or a suite file, with a base unless --method is given.")],
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="The base, in place of the suite's methods: name[param=value].")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--change", "-c", help="With --method: param=value, one entry of its own; repeatable.")
    ] = None,
    vary: Annotated[
        list[str] | None, typer.Option(help="factor=value,value,...: curves over a parameter of the datasets; repeatable.")
    ] = None,
    dataset: Datasets = None,
    repetitions: Annotated[int | None, typer.Option(min=1, help="Draws per dataset that does not say its own.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Worker processes; all cores by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="Run directory; one below results/runs by default.")] = None,
    per_dataset: Annotated[bool, typer.Option("--per-dataset", help="Print the table of each dataset as well.")] = False,
    plugin: Plugins = None,
) -> None:
    """What each change of a method is worth: paired differences to it with corrected tests, a forest plot, curves over factors.

    Finished cells of any run below results/runs are taken over.
    """
    console = make_console()
    specification = run_specification(suite, plugin or [], [], dataset or []).changed(repetitions=repetitions)
    specification = ablation(specification, method, change or [], vary or [])
    directory = (output or runner.DEFAULT_OUTPUT / specification.name).resolve()
    finished = sorted(p for p in runner.DEFAULT_OUTPUT.glob("*") if p.is_dir())
    with resumable(directory):
        with watching(directory, console) as watch:
            runner.run(specification, output=directory, jobs=jobs or available_cores(), reuse=finished, watch=watch)
        report.write_report(directory, per_dataset=per_dataset, console=console)


def ablation(suite: Suite, method: str | None, changes: list[str], vary: list[str]) -> Suite:
    """The suite as it is to run: a base, its changes, and datasets along curves."""
    if method is None and changes:
        raise InputError("--change needs the method that it changes, got none; name it with --method")
    if method is None and not suite.base:
        raise InputError(f"suite '{suite.name}' names no base; say --method METHOD --change param=value")
    if method is not None and not changes:
        raise InputError(f"expected what to change of '{method}', got nothing; say --change param=value")
    if method is not None:
        methods = _changed(method, changes)
        suite = suite.changed(methods=methods, base=methods[0]["label"])
        _refuse_idle(suite)
    if vary:
        suite = suite.changed(datasets=[entry for factor in vary for entry in _curves(suite, factor, alone=len(vary) == 1)])
    parts = [*([method] if method else []), *(factor.partition("=")[0] for factor in vary)]
    return suite.changed(name="_".join(["ablation", suite.name, *map(slug, parts)])) if parts else suite


def _changed(method: str, changes: list[str]) -> list[dict[str, Any]]:
    """The base and one entry for each change, as a suite file would have them."""
    name, own = registry.parse_spec(method)
    entries = [{"name": name, "parameters": own, "label": method}]
    for change in changes:
        parameter, _, value = change.partition("=")
        if not parameter or not value:
            raise InputError(f"--change: expected param=value, got '{change}'")
        _, new = registry.parse_spec(f"{name}[{change}]")
        entries.append({"name": name, "parameters": {**own, **new}, "label": change})
    return entries


def _refuse_idle(suite: Suite) -> None:
    """A change to the value that the base has already would be compared with itself."""
    defaults = registry.entry("method", suite.methods[0].name).defaults
    base, *others = ({**defaults, **item.parameters} for item in suite.methods)
    idle = next((item.label for item, found in zip(suite.methods[1:], others, strict=True) if found == base), None)
    if idle is not None:
        raise InputError(f"--change {idle}: that is what {suite.base} does already")


def _curves(suite: Suite, vary: str, *, alone: bool) -> list[dict[str, Any]]:
    """Every dataset of the suite along one factor."""
    factor, _, text = vary.partition("=")
    values = [yaml.safe_load(value) for value in text.split(",") if value.strip()]
    if len(values) < 2:
        raise InputError(f"--vary: expected factor=value,value,... with at least two values, got '{vary}'")
    return [
        {
            "name": item.name,
            "parameters": {k: v for k, v in item.parameters.items() if k != factor},
            "label": item.label if alone else f"{item.label} along {factor}",
            "repetitions": item.repetitions,
            "tracks": item.tracks,
            "vary": {factor: values},
        }
        for item in suite.datasets
    ]
