"""Tables as files: CSV with the unrounded numbers, Markdown and LaTeX with the texts of the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import jinja2

from bench.files import write_atomic
from bench.labels import NOTHING
from bench.tables import Board, Cell, Column


def to_csv(board: Board) -> str:
    """The numbers of a board, tidy and unrounded."""
    return str(board.numbers().to_csv(index=False, lineterminator="\n"))


_MARKDOWN = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined).from_string(
    """\
### {{ title }}

| {{ heads | join(" | ") }} |
| {{ rules | join(" | ") }} |
{% for row in rows -%}
| {{ row | join(" | ") }} |
{% endfor %}
{% for note in notes -%}
- {{ note }}
{% endfor -%}
"""
)

_LATEX = jinja2.Environment(
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
).from_string(
    r"""% needs the package booktabs
\begin{table}
\centering
\caption{<< title >>}
\begin{tabular}{<< rules | join("") >>}
\toprule
<< heads | join(" & ") >> \\
\midrule
<% for numbers, intervals in rows -%>
<< numbers | join(" & ") >> \\
<< intervals | join(" & ") >> \\
<% endfor -%>
\bottomrule
\end{tabular}
\par\smallskip\footnotesize
<% for note in notes -%>
<< note >>\par
<% endfor -%>
\end{table}
"""
)


def to_markdown(board: Board) -> str:
    """A board as a GitHub-flavoured table with its footnotes."""
    shown = board.columns()

    def text(cell: Cell, column: Column) -> str:
        if column.left:
            name = cell.text.replace("|", r"\|")
            return f"`{name}`{cell.mark}"
        return f"{cell.text}{cell.mark} {cell.interval}".strip()

    return _MARKDOWN.render(
        title=board.title,
        heads=[c.head for c in shown],
        rules=["---" if c.left else "---:" for c in shown],
        rows=[[text(c.cells[i], c) for c in shown] for i in range(len(shown[0].cells))],
        notes=[*board.notes, *board.how_to_read()],
    )


def to_latex(board: Board) -> str:
    """A board as a LaTeX table (booktabs), intervals in small type under the means."""
    shown = board.columns()

    def number(cell: Cell, column: Column) -> str:
        return escape_latex(cell.text + cell.mark, minus=not column.left)

    def interval(cell: Cell) -> str:
        return rf"{{\scriptsize {escape_latex(cell.interval, minus=True)}}}" if cell.interval else ""

    return _LATEX.render(
        title=escape_latex(board.title),
        heads=[escape_latex(c.head) for c in shown],
        rules=["l" if c.left else "r" for c in shown],
        rows=[
            ([number(c.cells[i], c) for c in shown], [interval(c.cells[i]) for c in shown]) for i in range(len(shown[0].cells))
        ],
        notes=[escape_latex(note) for note in [*board.notes, *board.how_to_read()]],
    )


_LATEX_CHARACTERS = {
    **{c: rf"\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "…": r"\dots{}",
    "·": r"$\cdot$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
    "≈": r"$\approx$",
    "Δ": r"$\Delta$",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "×": r"$\times$",
    "²": r"$^{2}$",
    "ᵇ": r"$^{\mathrm{b}}$",
    "ˢ": r"$^{\mathrm{s}}$",
    "ᵖ": r"$^{\mathrm{p}}$",
}


def escape_latex(text: str, *, minus: bool = False) -> str:
    r"""Text that LaTeX prints as it stands; ``minus`` turns hyphens into minus signs.

    Examples
    --------
    >>> print(escape_latex("ut_igsp ≈ 5 %"))
    ut\_igsp $\approx$ 5 \%
    >>> print(escape_latex("-0.4", minus=True))
    $-$0.4
    """
    escaped = "".join(_LATEX_CHARACTERS.get(c, c) for c in text)
    return escaped.replace("-", "$-$") if minus and NOTHING not in text else escaped


Format = Literal["csv", "md", "tex"]
_WRITERS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


def write_tables(boards: Iterable[Board], directory: Path, formats: Sequence[Format] = ("csv", "md", "tex")) -> list[Path]:
    """Write each board in each format, whole or not at all; return the paths.

    Boards whose names coincide (labels that differ in punctuation only) are numbered.
    """
    paths, seen = [], Counter[str]()
    for board in boards:
        seen[board.name] += 1
        stem = board.name if seen[board.name] == 1 else f"{board.name}-{seen[board.name]}"
        paths += [write_atomic(directory / f"{stem}.{f}", _WRITERS[f](board)) for f in formats]
    return paths
