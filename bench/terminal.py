"""The console that everything is printed on: no terminal obeys what a plugin, a file or a stored run has it say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from bench.texts import visible


class SafeConsole(Console):
    """A console that writes control characters out; brackets are those of ``name[param=value]`` and no markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Strings, before their width is measured: rich would drop some control characters and keep others."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever else is printed. Segments with ``control`` are rich's own moves of the cursor."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
