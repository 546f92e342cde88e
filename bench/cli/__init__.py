"""The command line: run a suite, list and show what there is, report on a run, test a plugin, tune a method.

A user's mistake ends in one line on stderr and exit status 2; Ctrl-C says how to resume and ends in 130. Each module holds
commands that belong together, ``application`` what they share.
"""

from __future__ import annotations

import errno
import sys

from bench.cli import ablating, checking, running, showing, stored, testing
from bench.cli.application import app
from bench.errors import BenchError

__all__ = ["ablating", "app", "checking", "main", "running", "showing", "stored", "testing"]

_DISK_SAYS_NO = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR)


def main() -> None:
    """Run the command line; a mistake of the user costs one line."""
    try:
        app()
    except BenchError as reason:
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(2)
    except OSError as reason:
        if reason.errno not in _DISK_SAYS_NO:
            raise
        where = f": '{reason.filename}'" if reason.filename else ""
        print(f"error: {reason.strerror}{where}", file=sys.stderr)
        sys.exit(2)
