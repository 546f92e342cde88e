"""Synthetic structural models with known truth: graphs, mechanisms, noise and interventions of free choice."""

from datasets.synthetic.problem import synthetic
from datasets.synthetic.protocols import bacadi, dcdi, gnies, utigsp

__all__ = ["bacadi", "dcdi", "gnies", "synthetic", "utigsp"]
