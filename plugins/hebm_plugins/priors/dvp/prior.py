"""A root prior that draws its context from a diffusion model: c ~ p(c), and u ~ N(0, I) given c."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import torch
from torch import Tensor

from hebm.errors import ConfigError
from hebm.gaussian import GaussianPrior
from hebm.interfaces import Backbone, Draw, Loss, Progress, Request, Stage
from hebm.latents import LatentLayout, Posterior
from hebm.noise import Noise
from hebm_plugins.priors.dvp.process import Diffusion, Terms, stratified
from hebm_plugins.priors.dvp.unet import UNet

STAGE = "context"


class DVPPrior(GaussianPrior):
    """p(u, c) = N(u; 0, I) p(c), where p(c) is a variational diffusion model (DVP-VAE's amortised VampPrior).

    Arguments:
        layout: the backbone's latent layout.
        diffusion: p(c).
        stable: draw the times of a batch from strata instead of independently.
        temperature: factor of the noise in draws of c; 1 draws from the model.
        recipe: the recipe of the diffusion, for `Stage.recipe`.
    """

    def __init__(
        self,
        layout: LatentLayout,
        diffusion: Diffusion,
        stable: bool = False,
        temperature: float = 1.0,
        recipe: object | None = None,
    ) -> None:
        super().__init__(layout)
        self.diffusion, self.stable, self.temperature, self.recipe = diffusion, stable, temperature, recipe

    @property
    def context(self) -> tuple[int, ...] | None:
        """Return the shape of the context c."""
        return self.layout.context

    # ------------------------------------------------------------ drawing

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = Request()) -> Draw:
        """Draw c by ancestral sampling, unless the request has a context, and u ~ N(0, I).

        The request's `steps` are ignored: the number of diffusion steps T is fixed.
        """
        if request.context is None:
            request = attrs.evolve(request, context=self._context(n, noise.derive("context")))
        return super().sample(backbone, n, noise.derive("latents"), request)

    @torch.no_grad()
    def _context(self, n: int, noise: Noise) -> Tensor:
        start = noise.derive("start").normal(n, *self._shape)
        return self.diffusion.drawn(start, partial(_noise, noise, start), self.temperature)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.layout.context or ()

    # ------------------------------------------------------------ learning

    def objective(
        self,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """Return −log p̂(c), the bound at one time per row, for the context c of the posterior draw.

        c is not detached: the gradient reaches the modules that computed it.
        """
        c = _given(posterior.latents.context)
        times = self._times(len(c), noise.derive("time"), progress.rows)
        terms = self._terms(c, times, noise)
        bound = terms.log_prob.mean()
        parts = zip(("context_first", "context_middle", "context_last"), terms, strict=True)
        metrics = {name: part.detach().flatten(1).sum(1).mean() for name, part in parts}
        return Loss(-bound, {"log_p_context": bound.detach(), **metrics})

    def _terms(self, c: Tensor, times: Tensor, noise: Noise) -> Terms:
        rows, shape = len(c), c.shape[1:]
        eps_0, eps = (noise.derive(name).normal(rows, *shape) for name in ("first", "middle"))
        return self.diffusion.terms(c, eps_0, times, eps, self._kept(rows, noise.derive("dropout")))

    def _times(self, rows: int, noise: Noise, of: int | None) -> Tensor:
        if not self.stable:
            return noise.uniform(rows)
        return stratified(noise.at(0).uniform(1), rows, 0 if of is None else noise.start, of)

    def _kept(self, rows: int, noise: Noise) -> Tensor | None:
        net = self.diffusion.net
        if not (self.diffusion.training and isinstance(net, UNet) and net.dropout):
            return None
        return noise.uniform(rows, net.masks, net.channels, *self._shape[1:])

    def stages(self) -> tuple[Stage, ...]:
        """Return the one stage, the diffusion. Its loss is a term of the ELBO and is trained with the backbone."""
        return (Stage(STAGE, self.diffusion, self.objective, with_backbone=True, recipe=self.recipe),)

    # ------------------------------------------------------------ log p(c)

    def context_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """Return −(L0 + Lt + L1) at one random time per row, `(B,)`; its mean over noise is the training bound."""
        times = noise.derive("time").uniform(len(context))
        return self._terms(context, times, noise).log_prob

    def context_weight(self, context: Tensor, noise: Noise) -> Tensor:
        """Return the log importance weight of a trajectory, `(B,)`; the mean of its exponential is the chain's p(c)."""
        return self.diffusion.trajectory_weight(context, partial(_noise, noise.derive("trajectory"), context))

    def published_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """Return log p̂(c) as the published evaluation computes it, `(B,)`: T steps with the training weight.

        It is not a bound on log p(c).
        """
        return self._summed(context, noise, self.diffusion.weight)

    def chain_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """Return one sample of the T-step chain's bound on log p(c), `(B,)`."""
        return self._summed(context, noise, self.diffusion.chain_weight)

    def _summed(self, context: Tensor, noise: Noise, weight: Callable[[Tensor], Tensor]) -> Tensor:
        eps_0 = noise.derive("first").normal(*context.shape)
        eps = [_noise(noise.derive("middle"), context, k) for k in range(1, self.diffusion.steps + 1)]
        return self.diffusion.summed(context, eps_0, eps, weight).log_prob


def _given(context: Tensor | None) -> Tensor:
    if context is None:
        raise ConfigError(
            'prior: "dvp" models a context c, and these latents have no context; use backbone.type = "dvp" with a '
            'pseudo_input, or prior.type = "gaussian"'
        )
    return context


def _noise(noise: Noise, like: Tensor, k: int) -> Tensor:
    """Return ξ_k, of the shape of `like`."""
    return noise.derive(k).normal(*like.shape)
