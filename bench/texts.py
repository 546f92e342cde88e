"""Words for a number of things, and text of others made safe to print. It knows nothing of what it prints."""

from __future__ import annotations

import re

_UNPRINTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but for newline and tab, which a terminal may obey, and lone surrogates, which no file takes."""


def counted(n: int | float, what: str) -> str:
    """A number of things, in the singular where it is one.

    Examples
    --------
    >>> counted(1, "sample"), counted(2, "sample")
    ('1 sample', '2 samples')
    """
    return f"{n} {what}{'s' * (n != 1)}"


def visible(text: str) -> str:
    r"""The text with control characters written out: a method's message may hold any, and no terminal should obey them.

    Newlines and tabs stay, and so does all that is escaped already.

    Examples
    --------
    >>> print(visible("\x1b[31mred\r\n\u03bb"))
    \x1b[31mred\r
    λ
    """
    return _UNPRINTED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
