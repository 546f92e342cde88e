"""Simulated gene expression in single cells, with perturbed genes."""

from datasets.gene_expression.problem import gene_expression

__all__ = ["gene_expression"]
