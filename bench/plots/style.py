"""The look of all plots: how a method is drawn, the frame of a figure with its title and caption, grids of panels, legends.

A method has the same place, colour, marker and line in all plots of a run. Figures are made without pyplot and inside a style
context, so no global state is changed. What is drawn is the business of the modules beside this one.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.columns import info
from bench.errors import BenchError
from bench.labels import ARROWS, TRACK_TITLES
from bench.texts import counted

GREY = "0.45"
"""For what is no method: chance levels, limits, the diagonal."""

INTERVALS = (
    "bars are 95\N{NO-BREAK SPACE}% bootstrap intervals over problems (none where n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1)"
)

_PANEL_COLUMNS = 4
_CHARACTERS_PER_INCH = 15  # of caption text at its size, with room to spare


class NothingToPlot(BenchError):
    """There is no value to draw; the message says why."""


# --- methods ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Style:
    """How one method is drawn, in every plot."""

    colour: tuple[float, float, float]
    marker: str
    line: Any
    hollow: bool = False

    @property
    def face(self) -> Any:
        """Colour inside the marker."""
        return "white" if self.hollow else self.colour


# The colour-blind palette of seaborn without grey and its two palest, then three dark ones, told apart by lightness.
_COLOURS = [to_rgb(sns.color_palette("colorblind", 10)[i]) for i in (0, 1, 2, 3, 4, 5, 9)]
_COLOURS += [to_rgb(colour) for colour in ("#332288", "#882255", "#1a1a1a")]
_MARKERS = "osD^vPX<>"  # nine to ten colours: the pairs are unique up to ninety methods
_LINES = ("-", "--", "-.", ":")


def method_styles(methods: Iterable[str]) -> dict[str, Style]:
    """Give each method its colour, marker and line; they depend on the set of names, not on their order.

    Up to ten methods differ in colour; further ones take a colour again with another marker and another line.

    Examples
    --------
    >>> method_styles(["b", "a"]) == method_styles(["a", "b", "a"])
    True
    """
    n = len(_COLOURS)
    return {
        name: Style(_COLOURS[i % n], _MARKERS[i % len(_MARKERS)], _LINES[i // n % len(_LINES)])
        for i, name in enumerate(sorted(set(methods)))
    }


# --- figures ----------------------------------------------------------------------------------------------------------


@contextmanager
def look() -> Iterator[None]:
    """Style of all plots, for the time of drawing and saving only."""
    style = {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("paper"),
        "font.family": ["DejaVu Sans"],  # comes with matplotlib, so every machine has it
        "svg.hashsalt": "cadibench",
        "svg.fonttype": "path",
        "axes.titlesize": 9,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "text.usetex": False,
        "axes.formatter.use_locale": False,
    }
    with matplotlib.rc_context(style):
        yield


def framed_figure(width: float, height: float, title: str, caption: str) -> Figure:
    """A figure with its title on top and its caption at the foot; ``height`` (inches) is that of the panels.

    Panels are laid out by matplotlib; a caller that places them itself finds their room in ``figure.subplotpars``.
    """
    title_lines = textwrap.wrap(title, max(20, int(width * 10)))
    caption_lines = textwrap.wrap(caption, int(width * _CHARACTERS_PER_INCH))
    foot, top = 0.15 * len(caption_lines) + 0.15, 0.2 * len(title_lines) + 0.15
    total = height + foot + top
    figure = Figure(figsize=(width, total), dpi=150)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(bottom=foot / total, top=(foot + height) / total)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0.005, foot / total, 0.99, height / total), w_pad=0.06, h_pad=0.05))
    edge = 0.08 / width
    figure.text(
        edge, 1 - 0.08 / total, "\n".join(title_lines), ha="left", va="top", fontsize=11, fontweight="bold", gid="title"
    )
    figure.text(edge, 0.08 / total, "\n".join(caption_lines), ha="left", va="bottom", fontsize=7.5, color="0.25", gid="caption")
    return figure


def title_of(figure: Figure) -> str:
    """The title of a figure, on one line."""
    return _text_of(figure, "title")


def caption_of(figure: Figure) -> str:
    """The caption of a figure, on one line."""
    return _text_of(figure, "caption")


def _text_of(figure: Figure, kind: str) -> str:
    return " ".join(next(t.get_text() for t in figure.texts if t.get_gid() == kind).split())


def track_title(track: str) -> str:
    """Words for a track that are kept together where a title wraps."""
    return TRACK_TITLES.get(track, track).replace(" ", "\N{NO-BREAK SPACE}")


# --- panels -----------------------------------------------------------------------------------------------------------


def n_columns_of(n: int) -> int:
    """Columns of a grid of ``n`` panels: at most four, and rows as even as can be (5 is 3 + 2, not 4 + 1)."""
    return math.ceil(n / math.ceil(n / _PANEL_COLUMNS))


def panels(figure: Figure, n: int, **options: Any) -> list[Axes]:
    """``n`` axes in a grid; the last row may be short."""
    n_columns = n_columns_of(n)
    grid = figure.subplots(math.ceil(n / n_columns), n_columns, squeeze=False, **options)
    axes = list(grid.ravel())
    for unused in axes[n:]:
        unused.remove()
    return axes[:n]


def panel_title(axes: Axes, dataset: str, n: int, width: float) -> None:
    """Name the dataset and its number of problems above a panel of ``width`` inches."""
    axes.set_title(panel_heading(dataset, n, width))


def panel_heading(dataset: str, n: int, width: float) -> str:
    """What :func:`panel_title` writes: one line, or as many as a long name takes."""
    room, count = max(18, int(width * 14)), f"n = {counted(n, 'problem')}"
    label = f"{dataset} ({count})"
    return label if len(label) <= room else f"{wrapped(dataset, room)}\n{count}"


def wrapped(label: str, width: int = 26) -> str:
    """A long label on several lines; breaks after commas, underscores and brackets where it can."""
    pieces, lines = re.split(r"(?<=[,_\[ ])", label), [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line for whole in lines for line in textwrap.wrap(whole, width) or [""])


def set_limits(axes: Axes, metric: str, axis: str) -> None:
    """Bounded scores show their whole range, distances start at 0."""
    kind = info(metric)
    set_limit = axes.set_xlim if axis == "x" else axes.set_ylim
    _, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    if kind.group in ("edge", "target") and kind.better == "higher":
        set_limit(-0.03, 1.03)
    elif kind.group == "graph":
        set_limit(-0.04 * max(high, 1.0), 1.04 * max(high, 1.0))
        (axes.xaxis if axis == "x" else axes.yaxis).set_major_locator(MaxNLocator(6, integer=True))


def axis_label(metric: str) -> str:
    """Label with unit, and an arrow to the better side; on two lines where it is long."""
    return "\n".join(textwrap.wrap(info(metric).label + ARROWS[info(metric).better], 30))


# --- legends ----------------------------------------------------------------------------------------------------------


def legend_size(labels: Mapping[str, str], n_more: int) -> tuple[float, float]:
    """Width and height in inches of the legend at the right, with ``n_more`` entries besides the methods."""
    lines = [line for label in labels.values() for line in label.split("\n")]
    height = 0.135 * (len(lines) + n_more) + 0.055 * (len(labels) + n_more) + 0.2
    return 0.6 + 0.075 * max(map(len, lines), default=0), height


def add_legend(
    figure: Figure, labels: Mapping[str, str], styles: Mapping[str, Style], *, lines: bool, more: Sequence[Line2D] = ()
) -> None:
    """Name the methods at the right of the panels, with their lines or their markers alone, and what else there is."""

    def handle(method: str) -> Line2D:
        style = styles[method]
        line: Any = style.line if lines else "none"
        return Line2D(
            [],
            [],
            color=style.colour,
            marker=style.marker,
            markerfacecolor=style.face,
            linestyle=line,
            markersize=5,
            label=labels[method],
        )

    handles = [*map(handle, labels), *more]
    figure.legend(handles=handles, loc="outside right center", frameon=False, handlelength=2.6 if lines else 1.2)
