"""Checks of a user's VAE on one batch of training images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from hebm.errors import ConfigError, HebmError
from hebm_plugins.auto_encoder.pixels import GAUSSIAN, outside

if TYPE_CHECKING:
    from hebm_plugins.auto_encoder.backbone import AutoEncoderBackbone

T = TypeVar("T")

ROWS = 64
"""Number of images in the batch that is checked."""
_SLACK = 0.25
"""How far decoded images may reach beyond their range, as a share of its width; they are clamped to it."""
_CLOSE = 1e-3
"""Largest relative difference of two results that should be equal up to rounding."""
_MODES = "the modules already compute in eval mode; pass training=self.training to functions of torch.nn.functional"


def checked(backbone: AutoEncoderBackbone, x: Tensor) -> float:
    """Check the VAE on images, and return 1 − MSE / variance of its reconstructions.

    Arguments:
        backbone: the backbone of the VAE.
        x: training images `(B, C, H, W)` in [−1, 1].

    Raises `ConfigError` for the first check that fails: device and type, shapes, finite values, equal results of two
    calls, independent rows, the range of decoded images, and gradients that reach u.
    """
    with torch.no_grad():
        encoded = torch.cat(_called("encode", x, lambda: tuple(backbone.posterior(x))), dim=1)
        z = backbone.posterior(x).mean
        _require_like("encode", encoded, x)
        _require_finite("encode", encoded)
        _require_function("encode", encoded, lambda rows: torch.cat(tuple(backbone.posterior(x[rows])), dim=1))
        means = _called("decode", x, lambda: _mean(backbone, z))
        _require_like("decode", means, x)
        _require_finite("decode", means)
        _require_function("decode", means, lambda rows: _mean(backbone, z[rows]))
        if backbone.pixels.likelihood == GAUSSIAN:
            _require_range(backbone.decoded(z), x, backbone)
    _require_gradient(backbone, z)
    return 1 - float((means - x).square().mean() / (x - x.mean(0)).square().mean().clamp_min(1e-12))


def _mean(backbone: AutoEncoderBackbone, z: Tensor) -> Tensor:
    return backbone.likelihood(backbone.invert((z,))).mean


def _called(name: str, x: Tensor, call: Callable[[], T]) -> T:
    """Return the result of a part; an error in the user's code gets its context."""
    try:
        return call()
    except HebmError:
        raise
    except Exception as error:
        raise ConfigError(
            f"AutoEncoder: {name} failed on {len(x)} images of shape {tuple(x.shape[1:])}, {x.dtype} on {x.device} "
            f"({type(error).__name__}: {error}); its modules must be registered as sub-modules, so that they move with "
            "the run to its device and type"
        ) from error


def _require_like(name: str, found: Tensor, x: Tensor) -> None:
    if (found.dtype, found.device) != (x.dtype, x.device):
        raise ConfigError(
            f"AutoEncoder: {name} returns {found.dtype} on {found.device} for {x.dtype} on {x.device}; compute in the "
            "type and on the device of the input: create tensors by x.new_zeros(…), and do not cast the result"
        )


def _require_finite(name: str, found: Tensor) -> None:
    bad = int((~found.flatten(1).isfinite().all(1)).sum())
    if bad:
        raise ConfigError(
            f"AutoEncoder: {name} returns NaN or infinity for {bad} of {len(found)} training images; bound the "
            "log-variance, and check the weights and the range"
        )


def _require_function(name: str, found: Tensor, again: Callable[[slice], Tensor]) -> None:
    """Require equal results of a second call, and of a single row."""
    if _differ(again(slice(None)), found):
        raise ConfigError(
            f"AutoEncoder: {name} returns different results for the same input; it must use no random numbers, such "
            f"as dropout or a draw of z: {_MODES}"
        )
    if _differ(again(slice(0, 1)), found[:1]):
        raise ConfigError(
            f"AutoEncoder: {name} returns other results for an image alone than in a batch; it must not use batch "
            f"statistics: {_MODES}"
        )


def _differ(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) > _CLOSE * max(1.0, float(b.abs().max()))


def _require_range(decoded: Tensor, x: Tensor, backbone: AutoEncoderBackbone) -> None:
    """Require means in the stated range, and images of its lower half if the data has them."""
    span, given = backbone.pixels.span, backbone.pixels.span.of(x)
    low, high = float(decoded.min()), float(decoded.max())
    upper = low >= span.middle and high > span.middle + span.half / 2
    dark = float(given.min()) < span.middle - span.half / 2
    if outside(decoded, span) > _SLACK or (upper and dark):
        raise ConfigError(
            f"AutoEncoder: decode returns means from {low:.3g} to {high:.3g} for training images in "
            f"[{float(given.min()):.3g}, {float(given.max()):.3g}], and the range is [{span.low:g}, {span.high:g}]; "
            "set the range of images that encode reads and decode returns, such as range = (0, 1), or train the VAE"
        )


def _require_gradient(backbone: AutoEncoderBackbone, z: Tensor) -> None:
    """Require that decoded images are differentiable in u."""
    u = backbone.invert((z,)).u.detach().requires_grad_()
    with torch.enable_grad():
        total = backbone.likelihood(backbone.latents(u)).mean.sum()
    grad = torch.autograd.grad(total, u, allow_unused=True)[0] if total.requires_grad else None
    if grad is None or not bool(grad.any()):
        raise ConfigError(
            "AutoEncoder: the decoded images have no gradient in the latents, which chains need; decode must not use "
            "torch.no_grad, torch.inference_mode, detach or rounding"
        )
    if not bool(grad.isfinite().all()):
        raise ConfigError("AutoEncoder: the gradient of the decoded images in the latents is NaN or infinite")
