"""Weights that are the same on every machine, and do not depend on where in a prior a module is kept.

Initialisers and statistics compute in float32, whose last bits depend on the processor: weights are drawn in float64
instead, and buffers are rounded.
"""

import torch

from hebm.noise import Noise

BITS = 10


@torch.no_grad()
def redraw(module, key, gain=1.0):
    """Draw every parameter of a float64 module, in place, by noise of its name within the module.

    Matrices and kernels are N(0, gain² / inputs). All else stays near the whole number where it started (a scale near
    1, a bias near 0), with a deviation of 0.1.
    """
    for name, parameter in module.named_parameters():
        flat = Noise(0, "pinned weights", key, name, dtype=torch.float64).normal(parameter.numel())
        xi = flat.view_as(parameter)
        if parameter.ndim < 2:
            parameter.copy_(parameter.round() + 0.1 * xi)
        else:
            parameter.copy_(xi * gain / (parameter.numel() / len(parameter)) ** 0.5)


@torch.no_grad()
def round_buffers(module):
    """Round floating-point buffers, in place, to 10 binary digits."""
    for buffer in module.buffers():
        if buffer.is_floating_point():
            mantissa, exponent = torch.frexp(buffer)
            buffer.copy_(torch.ldexp((mantissa * 2**BITS).round() / 2**BITS, exponent))
