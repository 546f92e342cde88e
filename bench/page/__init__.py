"""The page of a run: one HTML file that needs no network, no server and, to be read, no JavaScript.

``views`` turns boards and frames into plain values, the templates lay them out, ``write_page`` joins both. Every text is
escaped by the template engine: labels, messages and cards come from plugins, and are not trusted. The policy that the page
states allows its own script and style by their hashes, pictures within the file, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from bench.files import write_atomic
from bench.page import views
from bench.plots import Plots
from bench.tables import Board
from bench.texts import visible

__all__ = ["NAME", "write_page"]

NAME = "report.html"

_TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _breakable(label: str) -> Markup:
    """A label that a narrow screen may break after a comma or a bracket, and not inside a word."""
    return Markup("<wbr>").join(re.split(r"(?<=[,\[])", label))


_ENVIRONMENT.filters["breakable"] = _breakable


def write_page(
    path: Path,
    *,
    rows: pd.DataFrame,
    boards: Sequence[Board],
    plots: Plots,
    about: dict[str, Any],
    suite: str,
) -> Path:
    """Write the page of a run.

    Parameters
    ----------
    path : Path
        Of the file.
    rows : DataFrame
        The rows frame.
    boards : sequence of Board
        All tables, in the order of reading.
    plots : Plots
        Whose SVG files are put into the page.
    about : dict
        ``methods``, ``datasets`` (label to card) and ``versions``; each may be missing, as in runs of earlier versions.
    suite : str
        The suite file as run, empty where it is not at hand.

    Returns
    -------
    Path
        ``path``.
    """
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    html = _ENVIRONMENT.get_template("report.html").render(
        page=views.page(rows, boards, plots, about, suite),
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    return write_atomic(path, visible(html))


def _hash(text: str) -> str:
    """Of an inline element, as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
