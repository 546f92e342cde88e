"""MetaCaDI: one causal graph from many environments with unknown targets, in closed form."""

from methods.metacadi.method import MetaCaDI

__all__ = ["MetaCaDI"]
