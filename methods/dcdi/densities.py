"""Negative log densities of many variables at once: Gaussian, and the deep sigmoidal flow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FLOW_LAYERS, FLOW_UNITS = 2, 16
FLOW_PARAMETERS = FLOW_LAYERS * 3 * FLOW_UNITS
"""Of one density: slopes, shifts and weights of the sigmoids of each layer."""

_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)
SMALLEST_LOG_SCALE = math.log(1e-2)
"""Least log standard deviation of a conditional, of variables with standard deviation 1: a copy of one would have none."""


def gaussian(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Of a normal density, elementwise; the standard deviation is at least 1e-2.

    Parameters
    ----------
    x, mean, log_scale : tensor
        Of shapes that broadcast.
    """
    log_scale = log_scale.clamp_min(SMALLEST_LOG_SCALE)
    return 0.5 * ((x - mean) * (-log_scale).exp()).square() + log_scale + _HALF_LOG_2_PI


def sigmoidal_flow(x: Tensor, parameters: Tensor) -> Tensor:
    """Of the density that increasing maps turn into a standard normal one.

    A layer is ``logit(sum_k w_k sigmoid(a_k x + b_k))`` with a > 0 and weights w that sum to one, its derivative taken with it.

    Parameters
    ----------
    x : tensor (...)
    parameters : tensor (..., FLOW_PARAMETERS)

    References
    ----------
    C.-W. Huang, D. Krueger, A. Lacoste, A. Courville, "Neural autoregressive flows", ICML 2018, section 3.1.
    """
    from torch.nn.functional import logsigmoid, softplus

    log_derivative = x.new_zeros(())
    for layer in parameters.reshape(*parameters.shape[:-1], FLOW_LAYERS, 3, FLOW_UNITS).unbind(-3):
        slope, shift, weight = layer.unbind(-2)
        slope, log_weight = softplus(slope) + 1e-3, weight.log_softmax(dim=-1)
        inner = slope * x[..., None] + shift
        below, above = logsigmoid(inner), logsigmoid(-inner)
        log_mass, log_rest = (log_weight + below).logsumexp(dim=-1), (log_weight + above).logsumexp(dim=-1)
        density = (log_weight + below + above + slope.log()).logsumexp(dim=-1)
        log_derivative = log_derivative + density - log_mass - log_rest
        x = log_mass - log_rest
    return 0.5 * x.square() + _HALF_LOG_2_PI - log_derivative
