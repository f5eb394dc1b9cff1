"""Measure the information that q(z|x) stores in u of each layer: KL, and the part of the variance that is signal.

The signal is the part of u that depends on the image. Its variance in coordinate d is

    s_d = Var_x(E_q[u_d | x, z_above])    if the backbone returns the mean of q,
    s_d = Cov(u_d, u_d')                  otherwise, for two independent draws u, u' of one image.

The first also contains the variance of the mean due to z_above, so it is larger. For each layer,

    active share                    Σ_d s_d / Σ_d Var(u_d),
    effective number of dimensions  (Σ_d s_d)² / Σ_d s_d²,

In the latter, the two factors of each product come from different halves of the images, which removes the bias of a
finite number of images.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from hebm.errors import ConfigError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import RECONSTRUCTION
from hebm.interfaces import Batch
from hebm.latents import LatentLayout, Posterior
from hebm.noise import Noise
from hebm.trained import TrainedModel

_MOST_BYTES = 8 * 2**30


class Pair(NamedTuple):
    """Two tensors `(N, D)` whose covariance over images is that of the signal. Both are E_q[u|x] if it is known."""

    first: Tensor
    second: Tensor

    def variances(self, rows: slice = slice(None)) -> Tensor:
        """Return s_d of every coordinate, float64 `(D,)`, estimated from the selected images."""
        first, second = (each[rows].double() for each in self)
        products = (first - first.mean(0)) * (second - second.mean(0))
        return products.sum(0) / max(1, len(first) - 1)


@attrs.frozen(eq=False)
class InferredU:
    """One draw of q for each of N images, on the CPU.

    Arguments:
        u: the draws, `(N, D)`.
        pair: tensors with the covariance of the signal.
        kl: KL(q_i ‖ p_i) of each layer in nats, `(N, L)`; None if the backbone does not return it.
        context: context of each image, `(N, *context)`, or None.
    """

    u: Tensor
    pair: Pair
    kl: Tensor | None
    context: Tensor | None

    @classmethod
    def joined(cls, parts: list[InferredU]) -> InferredU:
        """Concatenate the draws of several batches."""
        pair = Pair(torch.cat([part.pair.first for part in parts]), torch.cat([part.pair.second for part in parts]))
        kl = [part.kl for part in parts if part.kl is not None]
        contexts = [part.context for part in parts if part.context is not None]
        u = torch.cat([part.u for part in parts])
        return cls(u, pair, torch.cat(kl) if kl else None, torch.cat(contexts) if contexts else None)


@attrs.frozen
class LayerSignal:
    """Measures of the information that q stores in one layer.

    Arguments:
        size: number of coordinates.
        kl: mean KL(q_i ‖ p_i) in nats; None if unknown.
        share: active share.
        dimensions: effective number of dimensions; None without a signal.
    """

    size: int
    kl: float | None
    share: float
    dimensions: float | None


def infer_u(evaluation: Evaluation) -> InferredU:
    """Infer u of the reference images, with the noise of the evaluation's reconstructions.

    Raises `ConfigError` if the latents need more than 8 GiB.
    """
    n, rows = len(evaluation.references), evaluation.rows
    _require_memory(n, evaluation.model.backbone.layout.dim)
    parts = []
    for start in range(0, n, rows):
        batch = evaluation.batch(evaluation.references, start, min(rows, n - start))
        parts.append(_inferred(evaluation.model, batch, evaluation.noise(RECONSTRUCTION, start)))
    return InferredU.joined(parts)


def _require_memory(n: int, dim: int) -> None:
    needed = 3 * 4 * n * dim
    if needed > _MOST_BYTES:
        most = n * _MOST_BYTES // needed
        raise ConfigError(
            f"hole.samples: latents of {n} images with D = {dim} need {needed / 2**30:.0f} GiB; use at most {most}"
        )


def _inferred(model: TrainedModel, batch: Batch, noise: Noise) -> InferredU:
    posterior = model.infer(batch, noise)
    u, mean = posterior.latents.u, _mean_of_u(posterior, model.backbone.layout)
    pair = Pair(u, model.infer(batch, noise.derive("second")).latents.u) if mean is None else Pair(mean, mean)
    kl, context = (None if each is None else each.cpu() for each in (posterior.kl, posterior.latents.context))
    return InferredU(u.cpu(), Pair(pair.first.cpu(), pair.second.cpu()), kl, context)


def _mean_of_u(posterior: Posterior, layout: LatentLayout) -> Tensor | None:
    """Return E_q[u_i | x, z_above] = u_i + (E_q[z_i | x, z_above] − z_i) / σ_i, `(B, D)`; None if unknown."""
    latents = posterior.latents
    if posterior.mean is None:
        return None
    u = layout.split(latents.u)
    parts = zip(u, posterior.mean, latents.z, latents.sigma, strict=True)
    return layout.join([u_i + (mean - z) / sigma for u_i, mean, z, sigma in parts])


def layer_signals(found: InferredU, layout: LatentLayout) -> list[LayerSignal]:
    """Measure the information that q stores in each layer, top layer first."""
    kl = [None] * len(layout) if found.kl is None else found.kl.double().mean(0).tolist()
    total, whole = found.u.double().var(0), found.pair.variances()
    halves = [found.pair.variances(slice(half, None, 2)) for half in (0, 1)]
    signals = []
    for i, size in enumerate(layout.sizes):
        here = layout.place(i)
        a, b = (half[here] for half in halves)
        dimensions = float(a.sum() * b.sum() / (a * b).sum())
        known = 0 < dimensions < math.inf
        share = float(whole[here].sum() / total[here].sum())
        signals.append(LayerSignal(size, kl[i], share, dimensions if known else None))
    return signals
