"""Files and folders written whole or not at all.

What goes into one, and in which format, is the caller's business.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


def write_atomic(path: Path, content: bytes | str) -> Path:
    """Write a file so that a reader, or a crash, sees the old one or the new one and never a part.

    Parameters
    ----------
    path : Path
        Where it goes; missing folders are made.
    content : bytes or str
        Text is written as UTF-8 with its line ends as they are.

    Returns
    -------
    Path
        ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name ``path`` once the block ends well, and is gone where it does not.

    Raises
    ------
    OSError
        If there is a folder of that name by then, with something in it.
    """
    temporary = beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder so that a reader, or a crash, sees it whole or not at all; none is no error."""
    temporary = beside(path)
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def beside(path: Path) -> Path:
    """A hidden name of its own for what is to become, or was, ``path``."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
