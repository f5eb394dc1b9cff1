"""The layer-wise score prior: each layer is denoised given the decoder's feature at that layer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hebm.interfaces import (
    Backbone,
    Draw,
    Exact,
    Fixed,
    HeldOutLoss,
    LatentLayout,
    Loss,
    Noise,
    Posterior,
    PriorLearner,
    Progress,
    Request,
    RowCache,
    Transition,
    seen_by,
)
from hebm.normals import Normal
from hebm.perturbations import view
from hebm_plugins.priors.score.denoiser import Denoisers
from hebm_plugins.priors.score.process import Level, gain, residual_of_normal, residual_of_point, stepped

STATISTICS_FROM = 512
"""Number of root draws from which the mean and standard deviation of the features are estimated."""
HELD_OUT_LEVELS = 4
"""Number of noise levels per held-out image over which the held-out gain is averaged."""


class ScorePrior(PriorLearner):
    """p(u) = Π_i p(u_i | feature_i(z_above)), each factor a diffusion from N(0, I); see `process`.

    It has neither a density nor a tilt: draws are ancestral.

    Arguments:
        root: draws the context. Its conditionals in u are N(0, I).
        nets: n_i of each layer.
        layout: the backbone's latent layout.
        steps: T, the number of steps per layer of a draw; a request may set another number.
    """

    root: PriorLearner

    def __init__(self, root: PriorLearner, nets: Denoisers, layout: LatentLayout, steps: int) -> None:
        super().__init__()
        self.reads = ("u", "q_u")
        self.root, self.nets, self.layout, self.steps = root, nets, layout, steps

    # ------------------------------------------------------------ drawing

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List one transition per layer, top first: T denoising steps from the root's draw, given the layers above."""
        return tuple(self._transition(i, backbone) for i in range(len(self.layout)))

    def _transition(self, i: int, backbone: Backbone) -> Transition:
        def drawn(at: Draw, noise: Noise, request: Request) -> Draw:
            at = at.fixed_as(request.fixed)
            here, latents = self.layout.place(i), seen_by(self.nets, backbone, at.u, at.context)
            u = at.u.clone()
            u[:, here] = self._denoised(i, latents.features[i], at.u[:, here], noise, request)
            return at.moved(u)

        return Exact(name=f"layer {i}", apply=drawn, key=("layer", i), length=self.steps)

    @torch.no_grad()
    def _denoised(self, i: int, feature: Tensor, start: Tensor, noise: Noise, request: Request) -> Tensor:
        """Return u_i `(n, d)` after T steps from `start`; fixed coordinates follow the forward process."""
        net, u = self.nets.layers[i], start
        encoded, steps = net.encoded(feature), self.steps if request.steps is None else request.steps
        for k in range(steps, 0, -1):
            here, below = (Level.of_step(j, steps) for j in (k, k - 1))
            residual = net(u, encoded, u.new_full((1,), k / steps))
            u = stepped(u, residual, here, below, noise.derive("step", k).normal(*u.shape))
            u = self._held(u, i, below, noise.derive("held", k), request.fixed)
        return u

    def _held(self, u: Tensor, i: int, level: Level, noise: Noise, fixed: Fixed | None) -> Tensor:
        """Return u_t of layer i with the fixed coordinates at their given values plus the noise of this level."""
        place = self.layout.place(i)
        if fixed is None or not bool(fixed.mask[place].any()):
            return u
        return torch.where(fixed.mask[place], level.noised(fixed.u[:, place], noise.normal(*u.shape)), u)

    # ------------------------------------------------------------ learning

    def prepare(self, backbone: Backbone, noise: Noise, cache: RowCache) -> None:
        """Set the mean and standard deviation of the features from draws of the root."""
        with torch.no_grad():
            draw = self.root.sample(backbone, STATISTICS_FROM, noise)
            self.nets.standardise(seen_by(self.nets, backbone, draw.u, draw.context).features)

    def objective(
        self,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """Return −Σ_i E_t[w_t (2 ⟨n_i, n_i*⟩ − |n_i|²)], in nats, with t uniform per sample. It is 0 for N(0, I).

        If the backbone has q(u_i | x, z_above) in closed form, n_i* is replaced by E[n_i* | x], which has a lower
        variance than n_i* at the drawn u_0.
        """
        return self._loss(view(self.nets, noise.derive("nets")), posterior, noise)

    def held_out(self, backbone: Backbone, posterior: Posterior, noise: Noise) -> HeldOutLoss:
        """Return the loss on held-out images, without dropout, at several noise levels per image."""

        def loss() -> Loss:
            found = [self._loss(self.nets, posterior, noise.derive("level", k)) for k in range(HELD_OUT_LEVELS)]
            terms = {name: torch.stack([each.terms[name] for each in found]).mean() for name in found[0].terms}
            return Loss(torch.stack([each.total for each in found]).mean(), terms)

        return HeldOutLoss(len(posterior.latents), loss)

    def _loss(self, nets: Denoisers, posterior: Posterior, noise: Noise) -> Loss:
        u = posterior.latents.u
        t = 1 - noise.derive("time").uniform(len(u))
        level, eps = Level.of(t), noise.derive("forward").normal(*u.shape)
        noised = level.noised(u, eps)
        features = posterior.latents.features
        gains = []
        for i, (net, wanted) in enumerate(zip(nets.layers, self._targets(posterior, noised, level), strict=True)):
            found = net(noised[:, self.layout.place(i)], net.encoded(features[i]), t)
            gains.append(gain(found, wanted, level).mean())
        terms = {f"gain_layer_{i}": each.detach() for i, each in enumerate(gains)}
        return Loss(-torch.stack(gains).sum(), terms)

    def _targets(self, posterior: Posterior, noised: Tensor, level: Level) -> Iterator[Tensor]:
        """Yield n_i* `(B, d)` of each layer, computed from q's mean and deviation if they are known, or from u_0."""
        for i in range(len(self.layout)):
            place = self.layout.place(i)
            if posterior.q_u is None:
                yield residual_of_point(noised[:, place], posterior.latents.u[:, place], level)
            else:
                q = Normal(*(part.flatten(1) for part in posterior.q_u[i]))
                yield residual_of_normal(noised[:, place], q, level)
