"""Synthetic structural models with known truth: graphs, mechanisms, noise and interventions of free choice."""

from datasets.synthetic.problem import synthetic

__all__ = ["synthetic"]
