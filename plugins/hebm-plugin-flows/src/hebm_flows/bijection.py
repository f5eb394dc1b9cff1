"""Maps between u and standard normal noise v, built by zuko (https://zuko.readthedocs.io).

A flow is an invertible map v = b(u; c) with a triangular Jacobian. It states the density exactly:

    log p(u | c) = log N(b(u; c); 0, I) + log |det ∂b/∂u|

References:
    Masked Autoregressive Flow for Density Estimation, arXiv 1705.07057.
    Neural Spline Flows, arXiv 1906.04032.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch
from hebm import ConfigError, PluginError
from torch import Tensor, nn

KINDS = ("spline", "affine")
OLDEST = (1, 6)
"""The oldest release of zuko that this package was tested with."""


@attrs.frozen
class FlowShape:
    """The size of a flow; the options of `hebm_flows.recipe` say what each field means."""

    kind: str
    transforms: int
    width: int
    depth: int
    bins: int
    passes: int | None
    max_weights: int

    def weights(self, dim: int, context: int) -> int:
        """Return the number of weights of a flow over `dim` numbers, given `context` numbers."""
        outputs = dim * (3 * self.bins - 1 if self.kind == "spline" else 2)
        hidden = (self.depth - 1) * self.width**2
        return self.transforms * ((dim + context) * self.width + hidden + self.width * outputs)

    def check(self, dim: int, context: int, what: str, instead: str) -> None:
        """Raise `ConfigError` for a flow with too many weights, or whose nets are too narrow.

        Arguments:
            dim: the number of coordinates of the flow.
            context: the number of its conditions.
            what: the numbers that the flow is over, for the error.
            instead: the advice, for the error.
        """
        groups = min(dim, self.passes or dim)
        if groups > self.width + 1:
            raise ConfigError(
                f"prior.width: an autoregressive net of width {self.width} sees only {self.width} of {what}, {dim:,} "
                f"numbers; set a width of at least {groups - 1:,}, or fewer prior.passes"
            )
        weights = self.weights(dim, context)
        if weights > self.max_weights:
            raise ConfigError(
                f"prior: a fully connected flow over {what}, {dim:,} numbers, has {weights:,} weights, and "
                f"prior.max_weights allows {self.max_weights:,}; {instead}"
            )


class Bijection(nn.Module):
    """v = b(u; c), the identity at the start.

    Arguments:
        shape: the size of the flow.
        dim: the number of coordinates d of u.
        context: the number of coordinates of c; 0 for a flow without conditions.
    """

    def __init__(self, shape: FlowShape, dim: int, context: int = 0) -> None:
        super().__init__()
        flows, hidden = _zuko_flows(), (shape.width,) * shape.depth
        options: dict[str, Any] = {
            "transforms": shape.transforms,
            "passes": shape.passes,
            "hidden_features": hidden,
            "activation": nn.SiLU,
        }
        spline = shape.kind == "spline"
        flow = flows.NSF(dim, context, bins=shape.bins, **options) if spline else flows.MAF(dim, context, **options)
        self.transform: nn.Module = flow.transform  # without zuko's base, which draws from the global generator
        _start_at_identity(self.transform)

    def log_ratio(self, u: Tensor, c: Tensor | None = None) -> Tensor:
        """Return log p(u | c) − log N(u; 0, I) `(…)` of u `(…, d)`, in nats."""
        v, log_det = self.transform(c).call_and_ladj(u)
        ratio: Tensor = 0.5 * (u.square() - v.square()).sum(-1) + log_det
        return ratio

    @torch.no_grad()
    def inverse(self, v: Tensor, c: Tensor | None = None) -> Tensor:
        """Return u `(…, d)` with b(u; c) = v."""
        u: Tensor = self.transform(c).inv(v)
        return u


def _start_at_identity(transform: nn.Module) -> None:
    """Set the parameters of all maps to 0, where both kinds of maps are the identity."""
    for part in transform.modules():
        if isinstance(part, nn.Sequential):  # a net; its last layer gives the parameters of the maps
            weights = list(part[-1].parameters())
        elif isinstance(part, nn.ParameterList):  # the map of a single number, without a net
            weights = list(part)
        else:
            continue
        for weight in weights:
            nn.init.zeros_(weight)


def _zuko_flows() -> Any:
    """Return the module `zuko.flows`. Raises `PluginError` if zuko is missing or too old."""
    fix = "install it by: pip install 'zuko>=" + ".".join(map(str, OLDEST)) + "'"
    try:
        import zuko
    except ImportError as error:
        raise PluginError(f"the priors of hebm-flows need zuko, which cannot be imported ({error}); {fix}") from error
    if tuple(int(part) for part in zuko.__version__.split(".")[:2]) < OLDEST:
        raise PluginError(f"the priors of hebm-flows need a newer zuko than {zuko.__version__}; {fix}")
    return zuko.flows
