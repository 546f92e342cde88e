"""Reads a page as a browser would without running anything: for the tests of the page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "input", "br", "hr", "link", "line", "rect", "wbr"}
"""Elements without an end; of SVG those that close themselves."""


class Page(HTMLParser):
    """Elements with their attributes and own texts, in order; tags that do not match are an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[self.elements[i][0] for i in self._open]}"

    @classmethod
    def of(cls, path: Path) -> Page:
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened = self.elements[self._open.pop()][0]
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        for i in self._open:  # of every element around it
            self.texts[i] = self.texts.get(i, "") + data

    def all(self, tag: str, **attributes: str) -> list[tuple[dict[str, str | None], str]]:
        """Attributes and text of each element of a kind."""
        return [
            (found, self.texts.get(i, ""))
            for i, (name, found) in enumerate(self.elements)
            if name == tag and all(found.get(k) == v for k, v in attributes.items())
        ]
