"""One problem before any method: its graph, the marginals of its variables by environment, what its interventions move.

Unlike the other plots these are drawn from a problem and not from the frames of a run; colours say target, descendant, other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path as Curve

from bench.plots.files import Plots, save
from bench.plots.layered import Layout, layered
from bench.plots.style import GREY, NothingToPlot, framed_figure, look, panels, wrapped
from bench.texts import counted
from bench.types import Problem

COLOURS = {"target": "#D55E00", "descendant": "#0072B2", "other": GREY, "not a target": GREY, "": "#0072B2"}
OBSERVATIONAL = "#009E73"
MAX_PANELS = 60
"""Variables, and environments within a panel, that are drawn; the caption says how many there are besides."""

SHIFT_TICKS = (0, 0.25, 0.5, 0.75, 1, 2, 3, 5, 10, 20, 50, 100, 1000)
SPREAD_TICKS = (1, 1.5, 2, 3, 5, 10, 20, 50, 100)

LARGEST_SHIFT = 5.0
"""Standard deviations at which the colours of a shift end."""


def write_problem_plots(problem: Problem, effects: pd.DataFrame, directory: Path, title: str) -> Plots:
    """Draw all plots of one problem, and say which were left out and why.

    Parameters
    ----------
    problem : Problem
        In raw units.
    effects : DataFrame
        ``environment``, ``variable``, ``shift``, ``spread``, ``relation``; see ``bench.effects``.
    directory : Path
    title : str
        What the problem is called.
    """
    written: list[Path] = []
    left_out: list[str] = []
    plans: dict[str, Callable[[], Figure]] = {
        "graph": lambda: plot_graph(problem, title),
        "marginals": lambda: plot_marginals(problem, title),
        "shifts": lambda: plot_shifts(effects, title),
        "effect-sizes": lambda: plot_effect_sizes(effects, title),
    }
    for stem, draw in plans.items():
        try:
            written += save(draw(), directory, stem)
        except NothingToPlot as reason:
            left_out.append(f"{stem}: {reason}")
    return Plots(tuple(written), tuple(left_out))


# --- the graph --------------------------------------------------------------------------------------------------------


def plot_graph(problem: Problem, title: str) -> Figure:
    """The true graph in layers of a causal order; variables that environments hit are filled, the darker the more.

    Raises
    ------
    NothingToPlot
        If the graph is not known.
    """
    truth = problem.truth
    if truth is None or truth.adjacency is None:
        raise NothingToPlot("the true graph is not known")
    layout = layered(truth.adjacency)
    longest = max(map(len, problem.variable_names))
    unit, layer = 0.28 + 0.075 * longest, 0.62 if layout.n_layers < 10 else 0.5  # inches
    hits = None if truth.targets is None else truth.targets.sum(axis=0)
    caption = f"{counted(problem.observed.n_variables, 'variable')}, {counted(int(truth.adjacency.sum()), 'edge')}. "
    caption += "Causes above their effects." if _points_down(layout) else "Dashed edges close a cycle and point upwards."
    if hits is not None and hits.any():
        caption += f" Filled: targets, the darker the more of {counted(problem.observed.n_environments, 'environment')}."
    unscored = int((~truth.scored).sum() - len(truth.scored)) // 2
    caption += f" {counted(unscored, 'pair')} of which nothing is known are not scored." if unscored else ""
    with look(), matplotlib.rc_context(sns.axes_style("white")):
        figure = framed_figure(
            max(4.6, unit * layout.width + 0.3), layer * layout.n_layers + 0.25, f"True graph · {title}", caption
        )
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set(xlim=(-0.6, layout.width - 0.4), ylim=(layout.n_layers - 0.6, -0.4))
        for course in layout.courses.values():
            _draw_edge(axes, course, half_height=0.1 / layer)
        for v, name in enumerate(problem.variable_names):
            _draw_variable(axes, layout.places[v], name, 0.0 if hits is None else hits[v] / max(1, hits.max()))
    return figure


def _points_down(layout: Layout) -> bool:
    return all(course[-1, 1] > course[0, 1] for course in layout.courses.values())


def _draw_edge(axes: Axes, course: npt.NDArray[np.float64], half_height: float) -> None:
    """A curve that leaves and meets its variables, and passes each layer, upright."""
    down = 1 if course[-1, 1] > course[0, 1] else -1
    points = course.copy()
    points[0, 1] += down * half_height
    points[-1, 1] -= down * 1.15 * half_height
    vertices, codes = [points[0]], [Curve.MOVETO]
    for start, end in itertools.pairwise(points):
        middle = (start[1] + end[1]) / 2
        vertices += [np.array([start[0], middle]), np.array([end[0], middle]), end]
        codes += [Curve.CURVE4] * 3
    axes.add_patch(
        FancyArrowPatch(
            path=Curve(vertices, codes),
            arrowstyle="-|>",
            mutation_scale=7,
            linewidth=0.8,
            linestyle="-" if down == 1 else "--",
            color="0.35",
            fill=False,
            zorder=1,
        )
    )


def _draw_variable(axes: Axes, place: npt.NDArray[np.float64], name: str, share: float) -> None:
    face = sns.light_palette(COLOURS["target"], 100)[int(15 + 60 * share)] if share else "white"
    box = {"boxstyle": "round,pad=0.3", "facecolor": face, "edgecolor": "0.3", "linewidth": 0.7}
    axes.text(place[0], place[1], name, ha="center", va="center", fontsize=7.5, bbox=box, zorder=2)


# --- marginals --------------------------------------------------------------------------------------------------------


def plot_marginals(problem: Problem, title: str) -> Figure:
    """A panel per variable, in it a strip per environment: median, quartiles and 5 % to 95 %, in raw units."""
    observed = problem.observed
    targets = None if problem.truth is None else problem.truth.targets
    variables, environments = range(min(observed.n_variables, MAX_PANELS)), range(min(observed.n_environments, MAX_PANELS))
    n_columns = min(len(variables), 4 if len(variables) <= 12 else 6 if len(variables) <= 24 else 8)
    n_rows = math.ceil(len(variables) / n_columns)
    side = 2.3 if n_columns <= 4 else 1.7
    caption = (
        "A strip per environment, in the order of their numbers: median (dot), quartiles (thick), 5 % to 95 % (thin), raw "
        f"units. Green: observational; {'orange: the variable is a target there; ' if targets is not None else ''}"
        "blue: the rest."
    )
    hidden = [
        counted(n - MAX_PANELS, what)
        for n, what in ((observed.n_variables, "further variable"), (observed.n_environments, "further environment"))
        if n > MAX_PANELS
    ]
    caption += f" Not drawn: {' and '.join(hidden)}." if hidden else ""
    with look():
        figure = framed_figure(max(4.6, side * n_columns + 0.3), 1.35 * n_rows, f"Marginals · {title}", caption)
        grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in grid[len(variables) :]:
            axes.remove()
        for v, axes in zip(variables, grid, strict=False):
            colours = [_colour(problem, targets, e, v) for e in environments]
            _draw_strips(axes, [observed.environments[e].X[:, v] for e in environments], colours)
            axes.set_title(wrapped(problem.variable_names[v], 22), fontsize=8, pad=3)
    return figure


def _colour(problem: Problem, targets: Any, environment: int, variable: int) -> str:
    if targets is not None and targets[environment, variable]:
        return COLOURS["target"]
    return OBSERVATIONAL if problem.observed.environments[environment].is_observational else COLOURS["descendant"]


def _draw_strips(axes: Axes, samples: Sequence[npt.NDArray[np.float64]], colours: Sequence[str]) -> None:
    low, first, median, third, high = np.array([np.quantile(x, [0.05, 0.25, 0.5, 0.75, 0.95]) for x in samples]).T
    where = np.arange(len(samples))
    thick = float(np.clip(60 / len(samples), 1.2, 5))
    axes.vlines(where, low, high, colors=colours, linewidth=min(1.0, thick / 2))
    axes.vlines(where, first, third, colors=colours, linewidth=thick, alpha=0.55)
    axes.scatter(where, median, c=colours, s=thick**2 / 2 + 1, zorder=3, linewidths=0)
    axes.set_xlim(-0.7, len(samples) - 0.3)
    axes.set_xticks([])
    axes.grid(False, axis="x")
    axes.tick_params(axis="y", labelsize=6, pad=1)
    axes.locator_params(axis="y", nbins=4)


# --- interventions ----------------------------------------------------------------------------------------------------


def plot_shifts(effects: pd.DataFrame, title: str) -> Figure:
    """Heat map of the shift of each mean, environments by variables; targets framed.

    Raises
    ------
    NothingToPlot
        If every environment is observational.
    """
    _need(effects)
    wide = effects.pivot(index="environment", columns="variable", values="shift")
    wide = wide.loc[effects["environment"].unique(), effects["variable"].unique()]
    relation = effects.pivot(index="environment", columns="variable", values="relation").loc[wide.index, wide.columns]
    n_rows, n_columns = wide.shape
    width, height = float(np.clip(0.2 * n_columns, 3.2, 14)), float(np.clip(0.2 * n_rows, 1.2, 12))
    caption = (
        "Mean in an environment less that of the reference, in standard deviations of the reference (what is observational, "
        f"else all samples pooled); colours end at ±{LARGEST_SHIFT:g}. "
    )
    known = bool((relation != "").any(axis=None))
    caption += "Frames: targets." if known else "Targets are not known."
    with look(), matplotlib.rc_context(sns.axes_style("white")):
        figure = framed_figure(width + 1.8, height + 0.9, f"Shifts of means · {title}", caption)
        axes = figure.add_subplot()
        shades = np.ma.masked_invalid(np.clip(wide.to_numpy(dtype=float), -LARGEST_SHIFT, LARGEST_SHIFT))
        norm = TwoSlopeNorm(0, -LARGEST_SHIFT, LARGEST_SHIFT)
        extent = (0, n_columns, n_rows, 0)
        picture = axes.imshow(shades, cmap="RdBu_r", norm=norm, extent=extent, aspect="auto", interpolation="nearest")
        axes.set_facecolor("0.85")
        _name_ticks(axes, wide)
        frame = float(np.clip(14 / max(n_rows, n_columns) ** 0.5, 0.6, 1.6))
        for e, v in np.argwhere((relation == "target").to_numpy()):
            axes.add_patch(Rectangle((v, e), 1, 1, fill=False, edgecolor="black", linewidth=frame))
        figure.colorbar(picture, ax=axes, label="shift (sd)", fraction=0.05, pad=0.02)
    return figure


def _name_ticks(axes: Axes, wide: pd.DataFrame) -> None:
    """Name rows and columns, as many as can be read."""
    for axis, names, rotation in ((axes.xaxis, wide.columns, 90), (axes.yaxis, wide.index, 0)):
        step = math.ceil(len(names) / 60)
        axis.set_ticks(np.arange(0, len(names), step) + 0.5, [str(n) for n in names[::step]], fontsize=6, rotation=rotation)
    axes.set(xlabel="variable", ylabel="environment")


def plot_effect_sizes(effects: pd.DataFrame, title: str) -> Figure:
    """Share of pairs of environment and variable whose shift, and whose change of spread, is at most so large, by relation.

    Raises
    ------
    NothingToPlot
        If every environment is observational.
    """
    _need(effects)
    groups = [(relation, effects[effects["relation"] == relation]) for relation in COLOURS]
    groups = [(relation, of_relation) for relation, of_relation in groups if len(of_relation)]
    with look():
        figure = framed_figure(
            7.2,
            2.9,
            f"Effect sizes of the interventions · {title}",
            "Left: absolute shift of the mean, in standard deviations of the reference. Right: factor by which the standard "
            "deviation changes, in either direction. Where targets and graph are known, others are no descendants of a target, "
            "and their curve is the noise floor.",
        )
        left, right = panels(figure, 2, sharey=True)
        for relation, of_relation in groups:
            style: dict[str, Any] = {"color": COLOURS[relation], "linewidth": 1.6}
            for axes, sizes in zip((left, right), _sizes(of_relation), strict=True):
                axes.step(*_cumulative(sizes), where="post", **style)
        left.set(xlabel="|shift of the mean| (sd)", ylabel="share of pairs", ylim=(0, 1.02))
        left.set_xscale("symlog", linthresh=1, linscale=1)
        right.set(xlabel="factor of the standard deviation", xscale="log")
        for axes, ticks in ((left, SHIFT_TICKS), (right, SPREAD_TICKS)):
            axes.minorticks_off()
            axes.set_xlim(left=ticks[0])
            high = axes.get_xlim()[1]
            shown = [tick for tick in ticks if tick <= high]
            axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        handles = [Line2D([], [], color=COLOURS[r], label=f"{r or 'all'} ({len(of)})") for r, of in groups]
        figure.legend(handles=handles, loc="outside right center", frameon=False, title="pairs")
    return figure


def _sizes(effects: pd.DataFrame) -> Iterator[npt.NDArray[np.float64]]:
    """Absolute shifts, and factors of the spread of at least 1; a factor without bound is drawn at 100."""
    yield effects["shift"].dropna().abs().to_numpy()
    with np.errstate(divide="ignore"):
        yield np.minimum(np.exp(np.abs(np.log(effects["spread"].dropna().to_numpy()))), 100.0)


def _cumulative(sizes: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    ordered = np.sort(sizes)
    return np.concatenate([[0.0], ordered]), np.arange(len(ordered) + 1) / max(1, len(ordered))


def _need(effects: pd.DataFrame) -> None:
    if effects.empty:
        raise NothingToPlot("every environment is observational")
