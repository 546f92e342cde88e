"""Files written whole or not at all.

What goes into a file, and in which format, is the caller's business.
"""

from __future__ import annotations

import os
import uuid
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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
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
