"""The errors that cadibench raises on purpose, and how a misspelt name is answered.

One root, :class:`BenchError`. A message is one line: what was expected, what came, and the nearest known name. The
command line prints such a message alone; anything else that escapes is a defect and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """Root of every error that cadibench raises on purpose."""


class InputError(BenchError, ValueError):
    """The caller's input is wrong: a value, a shape, a file, a name."""


class InvalidEstimate(InputError):
    """An estimate breaks the contract of :class:`bench.types.Estimate`; the cell gets the status ``invalid``."""


class UnknownName(InputError):
    """A name that nothing is registered under.

    Parameters
    ----------
    kind : str
        What the name should have been, e.g. ``"method"``.
    name : str
        What came.
    known : iterable of str
        Every name that would have done.

    Examples
    --------
    >>> print(UnknownName("method", "gis", ["gies", "ut_igsp"]))
    unknown method 'gis'; did you mean 'gies'? Known: gies, ut_igsp
    >>> print(UnknownName("dataset", "sach", ["linear, hard", "sachs"]))
    unknown dataset 'sach'; did you mean 'sachs'? Known: 'linear, hard', sachs
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = nearest(name, names)
        hint = f"; did you mean '{close}'?" if close else "."
        listed = ", ".join(f"'{n}'" if "," in n else n for n in names)
        super().__init__(f"unknown {kind} '{name}'{hint} Known: {listed or 'none'}")
        self.kind, self.name, self.known = kind, name, names

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, list[str]]]:
        return type(self), (self.kind, self.name, self.known)


class MissingDependency(BenchError, ImportError):
    """A plugin needs an optional package that is not installed."""


class MissingData(BenchError):
    """A data file is neither in the data directory nor could it be downloaded."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``name``, or None where none is close.

    Examples
    --------
    >>> nearest("ut-igsp", ["gies", "ut_igsp"])
    'ut_igsp'
    >>> nearest("zzz", ["gies"]) is None
    True
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None
