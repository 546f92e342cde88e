"""What ``show`` tells of a plugin: its card, parameters and docstring; of a dataset also a problem, drawn and measured."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import registry
from bench.cards import card
from bench.cli.application import plain_table
from bench.diagnostics import Diagnosis, diagnose
from bench.effects import summary
from bench.errors import InputError, MissingData, UnknownName
from bench.labels import slug
from bench.plots.problem import write_problem_plots
from bench.texts import counted

DEFAULT_OUTPUT = Path("results") / "datasets"


def plugins_named(spec: str) -> list[registry.Choice]:
    """The method and the dataset that a text ``name[param=value]`` may mean, parameters checked; none where no name fits.

    Raises
    ------
    InputError
        If the parameters fit neither.
    """
    try:
        name, parameters = registry.parse_spec(spec)
    except InputError:
        return []
    kinds = [kind for kind, known in (("method", registry.methods()), ("dataset", registry.datasets())) if name in known]
    if not parameters:
        return [registry.Choice(kind, name) for kind in kinds]
    found, refused = [], []
    for kind in kinds:
        try:
            found.append(registry.choose(kind, spec))
        except (InputError, UnknownName) as reason:
            refused.append(reason)
    if refused and not found:
        raise refused[-1]
    return found


def show_plugin(console: Console, choice: registry.Choice, *, seed: int, output: Path | None) -> None:
    """Print the card of a plugin; of a dataset whose parameters suffice, draw and measure a problem as well."""
    entry = registry.entry(choice.kind, choice.name)
    said = card(entry)
    console.print(f"{entry.kind} {entry.name}: {said.pop('summary', '')}", soft_wrap=True)
    for label, text in said.items():
        console.print(f"  {label}: {text}", soft_wrap=True)
    if entry.source is not None:
        console.print(f"  defined in: {entry.source}", soft_wrap=True)
    table = plain_table("parameter", "default", "type")
    annotations = inspect.signature(entry.factory).parameters
    for name, default in entry.defaults.items():
        shown = "required" if default is inspect.Parameter.empty else repr(default)
        table.add_row(name, shown, type_words(annotations[name].annotation))
    console.print(table if entry.defaults else "  no parameters")
    console.print("", inspect.getdoc(entry.factory) or "", sep="\n", soft_wrap=True)
    if entry.kind == "dataset":
        console.print()
        _show_problem(console, choice, seed, output or DEFAULT_OUTPUT / slug(choice.label))


def _show_problem(console: Console, choice: registry.Choice, seed: int, output: Path) -> None:
    needed = [
        name
        for name, default in registry.entry("dataset", choice.name).defaults.items()
        if default is inspect.Parameter.empty and name not in choice.parameters
    ]
    if needed:
        example = ",".join(f"{name}=..." for name in needed)
        console.print(f'To see a problem of it, name what it needs: show "{choice.name}[{example}]"', soft_wrap=True)
        return
    try:
        found = diagnose(choice, seed=seed)
    except MissingData as reason:
        console.print(f"No problem can be shown: {reason}", soft_wrap=True)
        return
    for line in problem_lines(found, choice.label, seed):
        console.print(line, soft_wrap=True)
    if len(found.effects):
        console.print("", effect_table(found), sep="\n")
    console.print(f"How hard: {found.hardness()}.", soft_wrap=True)
    plots = write_problem_plots(found.problem, found.effects, output, f"{choice.label}, seed {seed}")
    for line in plots.left_out:
        console.print(f"Not drawn: {line}.", soft_wrap=True)
    console.print(f"Plots (PNG, SVG): {output}", soft_wrap=True)


def problem_lines(found: Diagnosis, label: str, seed: int) -> list[str]:
    """Sizes of the problem, what of it is known, and how much its scales give away."""
    observed, truth = found.problem.observed, found.problem.truth
    sizes = sorted(e.n_samples for e in observed.environments)
    observational = sum(e.is_observational is True for e in observed.environments)
    each = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    edges = "graph not known" if truth is None or truth.adjacency is None else f"{counted(int(truth.adjacency.sum()), 'edge')}"
    hit = None if truth is None or truth.targets is None else truth.targets.sum(axis=1)[truth.targets.any(axis=1)]
    targets = "targets not known" if hit is None else _hit(hit.tolist(), observed.n_variables)
    held_out = f", {len(found.problem.held_out)} held out" if found.problem.held_out else ""
    told = [f"{name} {value:.2f}" for name, value in found.sortability.items() if not math.isnan(value)]
    return [
        f"One problem, {label}, seed {seed}: {counted(observed.n_variables, 'variable')}, "
        f"{counted(observed.n_environments, 'environment')} "
        f"({observational} observational{held_out}) of {each} samples; {edges}; {targets}.",
        *([f"Sortability (.5 gives no order away, 1 all of it): {', '.join(told)}."] if told else []),
    ]


def _hit(counts: list[int], d: int) -> str:
    if not counts:
        return "no environment with a target"
    span = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{counted(len(counts), 'environment')} with {span} of {counted(d, 'variable')} as targets"


def effect_table(found: Diagnosis) -> Table:
    """Sizes of the effects of the interventions by relation to their targets."""
    words = {"": "all variables", "other": "others (noise floor, where the truth holds)"}
    table = plain_table(
        "effect on", "pairs", "|shift| mean", "median", "90 %", "sd changes by", title="Effects, in standard deviations"
    )
    for relation, sizes in summary(found.effects).iterrows():
        spread = "∞" if math.isinf(sizes["spread"]) else f"×{sizes['spread']:.2f}"
        shifts = (f"{sizes[column]:.2f}" for column in ("mean", "median", "high"))
        table.add_row(words.get(str(relation), str(relation)), f"{sizes['pairs']:.0f}", *shifts, spread)
    return table


def type_words(annotation: Any) -> str:
    """An annotation as it stands in the source, whether or not its module postpones the evaluation of annotations."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:typing|annotated_types)\.", "", re.sub(r"\b(Ge|Gt|Le|Lt)\(\w+=", r"\1(", text))
