"""Which parent sets sampled graphs give each variable. Not here: what they are worth (``evidence``)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.types import BoolArray, FloatArray
from methods.metacadi.model import IntArray


class ParentSets(NamedTuple):
    """The distinct parent sets of one variable among S graphs.

    Parameters
    ----------
    sets : bool (m, d)
        In lexicographic order.
    of_sample : int (S,)
        Which of them each graph has.
    """

    sets: BoolArray
    of_sample: IntArray

    def shares(self, weights: FloatArray) -> FloatArray:
        """Of the parent sets, float64 (m,), where graphs have ``weights``, float64 (S,)."""
        return np.asarray(np.bincount(self.of_sample, weights, len(self.sets)), dtype=np.float64)


def distinct_parent_sets(graph_samples: BoolArray) -> list[ParentSets]:
    """Of each of d variables among graphs, bool (S, d, d). Most variables have one in all graphs, which is seen first."""
    n_samples, d = graph_samples.shape[:2]
    vary = (graph_samples != graph_samples[:1]).any(axis=(0, 1))
    found = []
    for i in range(d):
        if vary[i]:
            each = [column.tobytes() for column in graph_samples[:, :, i]]
            place = {key: k for k, key in enumerate(sorted(set(each)))}
            sets = np.frombuffer(b"".join(place), dtype=np.bool_).reshape(len(place), d)
            found.append(ParentSets(sets, np.array([place[key] for key in each])))
        else:
            found.append(ParentSets(graph_samples[:1, :, i], np.zeros(n_samples, dtype=np.intp)))
    return found
