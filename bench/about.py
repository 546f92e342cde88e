"""What a run says of itself beside its numbers: cards of its methods and datasets, and with what it was made.

Written by the runner into the run directory, so that a report can be made again where the plugins are not at hand.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Mapping
from typing import Any

from bench import registry, store
from bench.cards import card
from bench.suites import Suite

DISTRIBUTION = "cadibench"

ABOUT_FILE = "about.json"
"""Its name in a run directory."""


def about(suite: Suite, made_with: Mapping[str, str] | None = None) -> str:
    """JSON text of ``methods`` and ``datasets`` (label to card, with the ``spec`` that makes it) and ``versions``.

    ``made_with`` stands in for the versions of this machine, where the run was made elsewhere.
    """
    content = {
        "methods": {item.label: {"spec": item.spec, **_card("method", item.name)} for item in suite.methods},
        "datasets": {item.label: {"spec": item.spec, **_card("dataset", item.name)} for item in suite.datasets},
        "versions": versions() if made_with is None else dict(made_with),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _card(kind: str, name: str) -> dict[str, str]:
    return card(registry.entry(kind, name))


def packages() -> list[str]:
    """What this project runs on, by its own metadata, packages of optional groups included but those of developers not."""
    required = importlib.metadata.requires(DISTRIBUTION) or []
    needed = [text for text in required if not re.search("extra *== *['\"]dev['\"]", text)]
    return sorted({re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in needed}, key=str.lower)


def versions() -> dict[str, Any]:
    """Of this program, Python, the machine, and those of :func:`packages` that are installed.

    Each cell's record has those that its method imports, whether this project names them or not.
    """
    installed = {}
    for name in packages():
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {key: text for key, text in {**store.machine(), **installed}.items() if text}
