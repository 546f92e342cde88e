"""MetaCaDI: one causal graph from many environments with unknown targets, in closed form."""
