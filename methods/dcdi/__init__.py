"""DCDI-style differentiable causal discovery from interventional data, targets told or estimated (torch).

Everything is learned at once by gradients: a conditional density for each variable, the probability of each edge and, for
each environment, of each target; an augmented Lagrangian drives the expected graph to acyclicity. From small to large:

- ``acyclicity``: the constraint, and the DAG that is answered.
- ``gates``: Bernoulli gates of edges and targets.
- ``densities``: Gaussian and deep sigmoidal flow, of many variables at once.
- ``neural`` and ``linear``: the conditionals; networks on minibatches, regressions on second moments.
- ``training``: the augmented Lagrangian and its schedule.
- ``method``: what is registered.
"""

from methods.dcdi.method import DCDI as DCDI
