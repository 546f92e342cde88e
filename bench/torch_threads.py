"""Torch on as many threads as a worker may use: one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: for matrices this small, several wait for each other longer than they compute."""
    import torch  # optional, and slow to import

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
