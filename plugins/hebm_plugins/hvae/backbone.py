"""A convolutional hierarchical VAE with bottom-up inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from hebm.hierarchy import MarkovHierarchy, posterior_of
from hebm.interfaces import Batch, InferringBackbone, Loss, Progress
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm_plugins.hvae.inference import BottomUp, SharedPath


class HVAEBackbone(MarkovHierarchy, InferringBackbone):
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

    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Return p(x|z_1)."""
        return self.pixels(self.generator(latents.z[-1]))

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
        descent = self.descend(batch.x, lambda i, _: z[i])
        shared = isinstance(self.inference, SharedPath)
        analytic = [shared or layer == 0 for layer in range(len(z))]
        return posterior_of(self.standardised(descent), q, descent.priors, analytic)

    def objective(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return E_q[−log p(x|z)] + w Σ_i KL(q_i ‖ p_i), w = min(1, step / (kl_warmup · steps)), in nats per image."""
        loss = super().objective(batch, noise, progress)
        warm = self.kl_warmup * progress.total if self.kl_warmup else 0
        if progress.step >= warm or loss.posterior is None or loss.posterior.kl is None:
            return loss
        weight = progress.step / warm
        total = loss.total - (1 - weight) * loss.posterior.kl.sum(1).mean()
        return Loss(total, loss.terms, posterior=loss.posterior)
