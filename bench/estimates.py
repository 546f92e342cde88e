"""Estimates of problems without truth, which have no score: the strongest edges and the likeliest targets of each method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from bench.errors import InputError
from bench.labels import NOTHING


def strongest_edges(edges: pd.DataFrame, *, top: int = 10) -> pd.DataFrame:
    """The most probable edges that each method gives for one problem.

    Parameters
    ----------
    edges : DataFrame
        ``method``, ``source``, ``target``, ``probability`` and ``in_point_graph`` of one problem.
    top : int
        At most so many per method.

    Returns
    -------
    DataFrame
        ``method``, ``edge`` (``"a → b"``; ``"a – b"`` where the point graph has both directions, named once), ``probability``,
        ``in_point_graph``, most probable first; edges of probability 0 are left out.
    """
    needed = ["method", "source", "target", "probability", "in_point_graph"]
    _need(edges, needed, "edges")
    edges = edges[needed].copy()
    edges["in_point_graph"] = edges["in_point_graph"].eq(True)
    back = edges.rename(columns={"source": "target", "target": "source", "in_point_graph": "back"}).drop(columns="probability")
    edges = edges.merge(back, on=["method", "source", "target"], how="left")
    undirected = edges["in_point_graph"] & edges["back"].eq(True)
    edges = edges[(edges["probability"] > 0) & ~(undirected & (edges["source"].astype(str) > edges["target"].astype(str)))]
    arrow = np.where(undirected.loc[edges.index], " – ", " → ")
    edges = edges.assign(edge=edges["source"].astype(str) + arrow + edges["target"].astype(str))
    edges = edges.sort_values(["method", "probability", "in_point_graph", "edge"], ascending=[True, False, False, True])
    return edges.groupby("method").head(top)[["method", "edge", "probability", "in_point_graph"]].reset_index(drop=True)


def likeliest_targets(targets: pd.DataFrame, *, top: int = 5) -> pd.DataFrame:
    """The most probable targets that each method gives for each environment of one problem.

    Parameters
    ----------
    targets : DataFrame
        ``method``, ``environment``, ``variable``, ``probability`` and ``called`` of one problem.
    top : int
        At most so many per method and environment.

    Returns
    -------
    DataFrame
        ``method``, ``environment``, ``variable``, ``probability`` (NaN where the method states only a set), ``called``; those
        that are called come first, then by probability; what is neither called nor probable is left out.
    """
    needed = ["method", "environment", "variable", "probability", "called"]
    _need(targets, needed, "targets")
    called = targets["called"].eq(True)
    targets = targets.loc[called | (targets["probability"] > 0), needed].assign(called=called)
    order = ["method", "environment", "called", "probability", "variable"]
    targets = targets.sort_values(order, ascending=[True, True, False, False, True])
    return targets.groupby(["method", "environment"]).head(top).reset_index(drop=True)


def estimate_tables(edges: pd.DataFrame, targets: pd.DataFrame | None, *, title: str) -> list[Table]:
    """What the methods say about one problem without truth, for the terminal: strongest edges, likeliest targets."""
    bold = "bold: in the method's point graph"
    table = Table(title=f"{title} · strongest edges ({bold})", title_justify="left", title_style="bold", show_lines=True)
    table.add_column("method", overflow="fold", max_width=26)
    table.add_column("edges in its graph", justify="right")
    table.add_column("most probable edges, with probability")
    strong = strongest_edges(edges)
    for method, of_method in edges.groupby("method", sort=True):
        said = _listing(strong[strong["method"] == method], "edge", "in_point_graph")
        table.add_row(str(method), str(_n_adjacent(of_method)), said)
    tables = [table]
    if targets is not None and len(targets):
        bold = "bold: called a target"
        table = Table(title=f"{title} · likeliest targets ({bold})", title_justify="left", title_style="bold")
        table.add_column("method", overflow="fold", max_width=26)
        table.add_column("environment", overflow="fold", max_width=26)
        table.add_column("most probable targets, with probability")
        likely = likeliest_targets(targets)
        for method, of_method in targets.groupby("method", sort=True):
            names = of_method.drop_duplicates("environment").set_index("environment")["environment_name"].sort_index()
            for e, (environment, name) in enumerate(names.items()):
                chosen = likely[(likely["method"] == method) & (likely["environment"] == environment)]
                table.add_row(str(method) if e == 0 else "", str(name), _listing(chosen, "variable", "called"))
            table.add_section()
        tables.append(table)
    return tables


def _need(frame: pd.DataFrame, names: Sequence[str], kind: str) -> None:
    missing = [n for n in names if n not in frame]
    if missing:
        raise InputError(f"the {kind} frame must have the columns {', '.join(names)}; {', '.join(missing)} missing")


def _n_adjacent(edges: pd.DataFrame) -> int:
    """Edges of the point graph, an undirected one counted once."""
    chosen = edges.loc[edges["in_point_graph"].eq(True), ["source", "target"]]
    return len({frozenset(pair) for pair in chosen.itertuples(index=False, name=None)})


def _listing(frame: pd.DataFrame, name: str, strong: str) -> Text:
    text = Text()
    for item in _items(frame):
        text.append(", " if text else "")
        probability = "" if math.isnan(item.probability) else f" {item.probability:.2f}"
        text.append(f"{getattr(item, name)}{probability}", style="bold" if getattr(item, strong) else "")
    return text if text else Text(NOTHING)


def _items(frame: pd.DataFrame) -> Iterator[Any]:
    return frame.itertuples(index=False)
