"""NVAE as a backbone: T and T⁻¹ by its prior's top-down pass, q(z|x) along the same pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm.interfaces import Batch, InferringBackbone, Loss, Progress
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm.normals import Normal
from hebm_plugins.nvae.convolutions import kernel_of, shared_kernels
from hebm_plugins.nvae.decoder import Decoder, Descent, Point
from hebm_plugins.nvae.encoder import Encoder
from hebm_plugins.nvae.folding import folded
from hebm_plugins.nvae.objective import NVAEObjective
from hebm_plugins.nvae.recalibration import Recalibration, recalibrate
from hebm_plugins.nvae.spectral import SpectralSum, batch_norm_penalty
from hebm_plugins.nvae.structure import Structure
from hebm_plugins.pixels.bits import reduce_bits


class NVAEBackbone(InferringBackbone):
    """p(x, z) = p(x|z) N(z_0; 0, 1.01²) Π_i N(z_i; μ_i(z_above), σ_i(z_above)²), μ = 5 tanh(·/5),
    σ = exp(5 tanh(·/5)) + 0.01; q(z|x) along the same pass (arXiv 2007.03898).

    Arguments:
        structure: the sizes.
        encoder, decoder: built from it.
        layout: the latent shapes, top first.
        pixels: maps image parameters `(B, channels, H, W)` to p(x|z).
        bits: bits per colour to which images are reduced first.
        pad: black pixels on each side of the image, which the likelihood does not score.
        settings: settings of the training objective.
        recalibration: settings for measuring BatchNorm statistics after training.
    """

    def __init__(
        self,
        structure: Structure,
        encoder: Encoder,
        decoder: Decoder,
        layout: LatentLayout,
        pixels: Callable[[Tensor], PixelDistribution],
        bits: int,
        pad: int,
        settings: NVAEObjective,
        recalibration: Recalibration,
    ) -> None:
        super().__init__()
        self.structure, self.layout, self.pixels = structure, layout, pixels
        self.bits, self.pad, self.settings, self.recalibration = bits, pad, settings, recalibration
        self.encoder, self.decoder = encoder, decoder
        self.spectral = SpectralSum([conv.weight.shape for conv in self.convolutions()])

    def convolutions(self) -> list[nn.Conv2d]:
        """List all convolutions of encoder and decoder, whose spectral norms are penalised."""
        return [module for module in self.modules() if isinstance(module, nn.Conv2d)]

    # ------------------------------------------------------------ generation

    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """Return z_i = μ_i(z_above) + σ_i(z_above) u_i, groups top-down; u `(B, D)`. The image net is not run."""
        parts = self.layout.split(u)
        return _latents(u, self.decoder.descend(len(u), lambda point: point.prior.at(parts[point.group])))

    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        """Return u_i = (z_i − μ_i(z_above)) / σ_i(z_above)."""
        return self._standardised(self.decoder.descend(len(z[0]), lambda point: z[point.group]))

    def _standardised(self, descent: Descent) -> Latents:
        u = [prior.standardised(z) for prior, z in zip(descent.priors, descent.z, strict=True)]
        return _latents(self.layout.join(u), descent)

    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Return p(x|z), from the last group's feature; without it, the top-down pass runs again."""
        return self.pixels(self._cropped(self.decoder.image(self._last_carried(latents), latents.z[-1])))

    def decoder_features(self, latents: Latents) -> tuple[Tensor, ...]:
        """Return the feature from which each group's prior is computed. If it was not kept, the pass runs again."""
        carried: tuple[Tensor, ...] = latents.carried or ()
        if len(carried) == len(self.layout):
            return carried
        return self.decoder.descend(len(latents), lambda point: latents.z[point.group], keep=True).features

    def last_feature(self, latents: Latents) -> Tensor:
        """Return the last group's feature combined with its z, from which the image is computed."""
        return self.decoder.last_feature(self._last_carried(latents), latents.z[-1])

    def _last_carried(self, latents: Latents) -> Tensor:
        """Return the feature from which the last group's prior is computed."""
        carried: tuple[Tensor, ...] = latents.carried or self.invert(latents.z).carried
        return carried[-1]

    def _cropped(self, image: Tensor) -> Tensor:
        return F.pad(image, (-self.pad,) * 4)

    # ------------------------------------------------------------ inference

    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Draw z ~ q(z|x) through the flows, with log q and KL per group `(B, G)`.

        Without flows the KL is analytic. With flows it is the one-sample estimate log q(z before flows) − log p(z
        after), which may be negative; log |det| of a flow is 0.
        """
        xi = self.layout.split(noise.normal(len(batch.x), self.layout.dim))
        features = self.encoder(self._input(batch.x))
        before: list[Tensor] = []
        posteriors: list[Normal] = []

        def draw(point: Point) -> Tensor:
            posteriors.append(self.encoder.posterior(features[point.group], point))
            before.append(posteriors[-1].at(xi[point.group]))
            return self.encoder.groups[point.group].transport(before[-1])

        descent = self.decoder.descend(len(batch.x), draw)
        log_q = torch.stack([q.log_prob(z) for q, z in zip(posteriors, before, strict=True)], dim=1)
        latents, kl = self._standardised(descent), self._kl(posteriors, log_q, descent)
        if self.structure.flows:
            return Posterior(latents, log_q, kl)
        q_u = tuple(q.in_units_of(prior) for q, prior in zip(posteriors, descent.priors, strict=True))
        return Posterior(latents, log_q, kl, mean=tuple(q.mean for q in posteriors), q_u=q_u)

    def _input(self, x: Tensor) -> Tensor:
        x = x if self.bits == 8 else reduce_bits(x, self.bits)
        return F.pad(x, (self.pad,) * 4, value=-1.0)

    def _kl(self, posteriors: list[Normal], log_q: Tensor, descent: Descent) -> Tensor:
        if self.structure.flows:
            log_p = [prior.log_prob(z) for prior, z in zip(descent.priors, descent.z, strict=True)]
            return log_q - torch.stack(log_p, dim=1)
        return torch.stack([q.kl(prior) for q, prior in zip(posteriors, descent.priors, strict=True)], dim=1)

    # ------------------------------------------------------------ training

    def objective(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return −log p(x|z) + β Σ_i c_i KL_i + λ (Σ spectral norms + Σ max |γ|), see `NVAEObjective`."""
        with shared_kernels():
            posterior = self.infer(batch, noise)
            log_likelihood = self.likelihood(posterior.latents).log_prob(batch.target)
            return self.settings.loss(log_likelihood, posterior, self.structure.groups, self.penalty, progress)

    def penalty(self, iterations: int) -> Tensor:
        """Return the spectral norms of all kernels plus max |γ| of every BatchNorm; the power iteration advances."""
        kernels = [kernel_of(conv) for conv in self.convolutions()]
        penalty: Tensor = self.spectral(kernels, iterations) + batch_norm_penalty(self.modules())
        return penalty

    def generative(self) -> tuple[nn.Module, ...]:
        """List the only generative module, the decoder."""
        return (self.decoder,)

    def finalize(self, noise: Noise) -> None:
        """Estimate the decoder's BatchNorm statistics again, from samples, if `recalibration` asks for it."""
        recalibrate(self, noise, self.recalibration)

    def folded(self) -> NVAEBackbone:
        """Return a copy for evaluation, with eval BatchNorm and weight norm folded into plain convolutions."""
        return folded(self)


def _latents(u: Tensor, descent: Descent) -> Latents:
    return Latents(u, descent.z, tuple(prior.std for prior in descent.priors), carried=descent.features)
