"""The command line: run a suite, list and show what there is, report on a run, test a plugin, tune a method.

A user's mistake ends in one line on stderr and exit status 2; Ctrl-C says how to resume and ends in 130. Each module holds
commands that belong together, ``application`` what they share.
"""

from __future__ import annotations

import errno
import sys
from typing import Any

import typer

from bench.cli import ablating, checking, running, showing, stored, testing
from bench.cli.application import app, complain, name_of_program
from bench.errors import BenchError

__all__ = ["ablating", "app", "checking", "main", "running", "showing", "stored", "testing"]

UsageError: Any = typer.BadParameter.__mro__[1]
"""What typer raises for wrong arguments: its own class or that of click, by its version."""

_DISK_SAYS_NO = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR)


def main() -> None:
    """Run the command line; a mistake of the user costs one line."""
    try:
        sys.exit(app(standalone_mode=False))
    except UsageError as reason:
        if sys.argv[1:]:
            complain(_usage(reason))
        else:
            reason.show()  # all of the help
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    except BenchError as reason:
        complain(str(reason))
        sys.exit(2)
    except OSError as reason:
        if reason.errno not in _DISK_SAYS_NO:
            raise
        where = f": '{reason.filename}'" if reason.filename else ""
        complain(f"{reason.strerror}{where}")
        sys.exit(2)


def _usage(reason: Any) -> str:
    """What is wrong with the arguments, of which command, and where its help is."""
    command = [reason.ctx.info_name] if reason.ctx and reason.ctx.parent else []
    message = " ".join(reason.format_message().split()).removesuffix(".")
    where = " ".join([name_of_program(), *command, "--help"])
    return ": ".join([*command, f"{message[:1].lower()}{message[1:]} (see {where})"])
