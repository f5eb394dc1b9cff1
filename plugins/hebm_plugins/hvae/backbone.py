"""A convolutional hierarchical VAE with bottom-up inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hebm.interfaces import Batch, InferringBackbone, Loss, Progress
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm.normals import Normal
from hebm_plugins.hvae.inference import BottomUp, SharedPath


class HVAEBackbone(InferringBackbone):
    """p(x, z) = p(x|z_1) N(z_L; 0, I) Π_{i<L} N(z_i; μ_i(z_{i+1}), σ_i(z_{i+1})²).

    Arguments:
        layout: flat or spatial layers, top first.
        conditionals: p(z_i|z_{i+1}) for every layer but the top, top first.
        generator: maps z_1 to pixel parameters `(B, P, H, W)`.
        pixels: maps pixel parameters to p(x|z).
        inference: q(z|x).
        kl_warmup: fraction of the training steps over which the KL's weight rises from 0 to 1.
    """

    def __init__(
        self,
        layout: LatentLayout,
        conditionals: Sequence[nn.Module],
        generator: nn.Module,
        pixels: Callable[[Tensor], PixelDistribution],
        inference: BottomUp | SharedPath,
        kl_warmup: float = 0.0,
    ) -> None:
        super().__init__()
        self.layout, self.pixels, self.kl_warmup = layout, pixels, kl_warmup
        self.conditionals, self.generator, self.inference = nn.ModuleList(conditionals), generator, inference

    def _prior(self, above: Tensor | None, like: Tensor, layer: int) -> Normal:
        """Return p(z_layer|z_above); `like` sets the device and type of the top layer."""
        if above is None:
            return Normal(like.new_zeros(()), like.new_ones(()))
        prior: Normal = self.conditionals[layer - 1](above)
        return prior

    def _priors(self, z: Sequence[Tensor]) -> list[Normal]:
        """Return p(z_i|z_{i+1}) at given z, top first."""
        return [self._prior(a, part, i) for i, (a, part) in enumerate(zip((None, *z[:-1]), z, strict=True))]

    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """Return z_L = u_L, z_i = μ_i(z_{i+1}) + σ_i(z_{i+1}) u_i; u `(B, D)`."""
        z: list[Tensor] = []
        sigma: list[Tensor] = []
        for i, part in enumerate(self.layout.split(u)):
            prior = self._prior(z[-1] if z else None, part, i)
            z.append(prior.at(part))
            sigma.append(prior.std)
        return Latents(u, tuple(z), tuple(sigma))

    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        """Return u_L = z_L, u_i = (z_i − μ_i(z_{i+1})) / σ_i(z_{i+1})."""
        return self._standardised(z, self._priors(z))

    def _standardised(self, z: Sequence[Tensor], priors: Sequence[Normal]) -> Latents:
        u = [prior.standardised(part) for part, prior in zip(z, priors, strict=True)]
        return Latents(self.layout.join(u), tuple(z), tuple(prior.std for prior in priors))

    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Return p(x|z_1)."""
        return self.pixels(self.generator(latents.z[-1]))

    def decoder_features(self, latents: Latents) -> tuple[Tensor, ...]:
        """Return z_{i+1} for each layer, the only input of p(z_i|z_{i+1}); ones for the top layer."""
        return torch.ones_like(latents.u[:, :1]), *latents.z[:-1]

    def last_feature(self, latents: Latents) -> Tensor:
        """Return z_1, the only input of p(x|z_1)."""
        return latents.z[-1]

    def generative(self) -> tuple[nn.Module, ...]:
        """List the modules of p(z_i|z_{i+1}) and p(x|z_1)."""
        return self.conditionals, self.generator

    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Draw z ~ q(z|x), with log q and KL per layer `(B, L)`, top first.

        The KL is analytic where z_{i+1} is not drawn from z_i: for every layer of a shared path, and for the top layer
        of a bottom-up chain. Elsewhere it is the one-sample estimate log q(z_i|·) − log p(z_i|z_{i+1}).
        """
        xi = self.layout.split(noise.normal(len(batch.x), self.layout.dim))
        z, q = self.inference(batch.x, xi)
        priors = self._priors(z)
        log_q = [qi.log_prob(zi) for qi, zi in zip(q, z, strict=True)]
        shared = isinstance(self.inference, SharedPath)
        analytic = len(z) if shared else 1
        kl = [qi.kl(pi) for qi, pi in zip(q[:analytic], priors[:analytic], strict=True)]
        kl += [log_q[i] - priors[i].log_prob(z[i]) for i in range(analytic, len(z))]
        return Posterior(
            self._standardised(z, priors),
            torch.stack(log_q, dim=1),
            torch.stack(kl, dim=1),
            mean=tuple(qi.mean for qi in q),
            q_u=tuple(qi.in_units_of(pi) for qi, pi in zip(q, priors, strict=True)) if shared else None,
        )

    def objective(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return E_q[−log p(x|z)] + w Σ_i KL(q_i ‖ p_i), w = min(1, step / (kl_warmup · steps)), in nats per image."""
        loss = super().objective(batch, noise, progress)
        warm = self.kl_warmup * progress.total if self.kl_warmup else 0
        if progress.step >= warm or loss.posterior is None or loss.posterior.kl is None:
            return loss
        weight = progress.step / warm
        total = loss.total - (1 - weight) * loss.posterior.kl.sum(1).mean()
        return Loss(total, loss.terms, posterior=loss.posterior)
