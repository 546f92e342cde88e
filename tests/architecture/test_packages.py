"""Every folder of code is installed: setuptools takes a list, which nobody remembers."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_is_listed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    modules = (path for folder in ("bench", "methods", "datasets") for path in (ROOT / folder).rglob("*.py"))
    assert sorted(listed) == sorted({".".join(path.parent.relative_to(ROOT).parts) for path in modules})
