"""The ladder VAE whose layers' priors are all conditioned on one pseudo-input, DVP-VAE (arXiv 2412.01373)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from hebm.data.images import Images
from hebm.errors import ConfigError
from hebm.interfaces import Batch, InferringBackbone
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm.normals import Normal
from hebm_plugins.dvp.blocks import resized
from hebm_plugins.dvp.decoder import Layer
from hebm_plugins.dvp.encoder import Encoder
from hebm_plugins.dvp.pseudo_inputs import PseudoInput
from hebm_plugins.module_lists import ModuleList

Choose = Callable[[int, Normal, Tensor], Tensor]
"""Maps a layer, its prior and the state above it to z_l."""


class Walk(NamedTuple):
    """The results of one pass down the ladder.

    Arguments:
        z: z_l per layer, top first.
        priors: p(z_l | s_l, c) per layer, top first.
        features: inputs of the last state: the state above and the last layer's residual; None with aggregation.
    """

    z: tuple[Tensor, ...]
    priors: tuple[Normal, ...]
    features: tuple[Tensor, Tensor] | None


class Head(nn.Module):
    """Map latents, or the state below them, to pixel parameters by two convolutions without an activation.

    Arguments:
        inputs, channels, outputs: channels before, between and after a 1×1 and a 3×3 convolution.
    """

    def __init__(self, inputs: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.mix, self.out = nn.Conv2d(inputs, channels, 1), nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """Map h `(B, inputs, H, W)` to `(B, outputs, H, W)`."""
        parameters: Tensor = self.out(self.mix(h))
        return parameters


class DVPBackbone(InferringBackbone):
    """p(x, z | c) = p(x|z_1 … z_L) Π_l N(z_l; μ_l(s_l, c), σ_l(s_l, c)²),   s_1 = 1,  s_{l+1} = s_l(z_l, c);

    q(z, c | x) = r(c|x) Π_l q(z_l | s_l, e_l(x)): q depends on c only through the state, and p(x|z) does not depend on
    c. Layers are numbered top down. With aggregation p(x|z) sees only (1/√L) Σ_l up(z_l), as in the published code;
    the paper has their average. Without aggregation it sees the last state.

    Arguments:
        layout: z_l `(w, h_l, w_l)`, top first, and the context `(C, S, S)`, if any.
        pseudo_input: r(c|x) and the context's image; None for the plain ladder.
        encoder: e_l.
        layers: top first.
        head: returns pixel parameters.
        pixels: maps pixel parameters to p(x|z).
        size: H, W of x.
        aggregate: whether p(x|z) sees all latents instead of the last state.
        statistics: number of training images for the pseudo-input's statistics, None for all.
    """

    def __init__(
        self,
        layout: LatentLayout,
        pseudo_input: PseudoInput | None,
        encoder: Encoder,
        layers: Sequence[Layer],
        head: Head,
        pixels: Callable[[Tensor], PixelDistribution],
        size: tuple[int, int],
        aggregate: bool = True,
        statistics: int | None = None,
    ) -> None:
        super().__init__()
        self.layout, self.pixels, self.size = layout, pixels, size
        self.aggregate, self.statistics = aggregate, statistics
        self.pseudo_input, self.encoder = pseudo_input, encoder
        self.layers, self.head = ModuleList(layers), head

    def fit_statistics(self, images: Images) -> None:
        """Set the pseudo-input's scale."""
        if self.pseudo_input is not None:
            self.pseudo_input.fit(images, self.statistics)

    # ------------------------------------------------------------ the top-down path

    def _walk(self, context: Tensor | None, like: Tensor, choose: Choose) -> Walk:
        """Choose z_1 … z_L, each given its prior; `like` gives the number of rows, device and type."""
        first = self.layers[0].size
        s = like.new_ones(len(like), first.channels, *first.size)
        seen = self._seen(context)
        z: list[Tensor] = []
        priors: list[Normal] = []
        for i, layer in enumerate(self.layers):
            prior, residual = layer.prior_of(s, seen.get(layer.size.size))
            z.append(choose(i, prior, s))
            priors.append(prior)
            if i + 1 < len(self.layers):
                s = layer.advanced(s, residual, z[-1])
        return Walk(tuple(z), tuple(priors), None if self.aggregate else (s, residual))

    def _standardised(self, walk: Walk, context: Tensor | None) -> Latents:
        u = [prior.standardised(part) for prior, part in zip(walk.priors, walk.z, strict=True)]
        return self._latents(walk, self.layout.join(u), context)

    def _latents(self, walk: Walk, u: Tensor, context: Tensor | None) -> Latents:
        return Latents(u, walk.z, tuple(prior.std for prior in walk.priors), context, walk.features)

    def _seen(self, context: Tensor | None) -> dict[tuple[int, int], Tensor]:
        """Average the context's image to each resolution of the ladder; empty for the plain ladder."""
        if self.pseudo_input is None:
            return {}
        if context is None or context.shape[1:] != self.layout.context:
            shape, given = (
                ", ".join(map(str, self.pseudo_input.shape)),
                None if context is None else tuple(context.shape),
            )
            raise ConfigError(
                f"backbone 'dvp': its priors need a context of shape (B, {shape}), not {given}; pass the draw's context"
            )
        image = self.pseudo_input.image(context)
        sizes = {layer.size.size for layer in self.layers}
        return {size: F.avg_pool2d(image, self.size[0] // size[0]) for size in sizes}

    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """Return z_l = μ_l + σ_l u_l; u `(B, D)`, context `(B, C, S, S)`."""
        parts = self.layout.split(u)
        return self._latents(self._walk(context, u, lambda i, prior, _: prior.at(parts[i])), u, context)

    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        """Return u_l = (z_l − μ_l) / σ_l."""
        return self._standardised(self._walk(context, z[0], lambda i, *_: z[i]), context)

    @override
    def likelihood(self, latents: Latents) -> PixelDistribution:
        seen = self.aggregated(latents.z) if self.aggregate else self._last_state(latents)
        return self.pixels(self.head(seen))

    def _last_state(self, latents: Latents) -> Tensor:
        above, residual = latents.carried
        return self.layers[-1].advanced(above, residual, latents.z[-1])

    def aggregated(self, z: Sequence[Tensor]) -> Tensor:
        """Return (1/√L) Σ_l up(z_l), `(B, w, H, W)`; layers of one resolution are summed before interpolation."""
        sums: dict[torch.Size, Tensor] = {}
        for part in z:
            sums[part.shape] = sums[part.shape] + part if part.shape in sums else part
        return torch.stack([resized(part, self.size) for part in sums.values()]).sum(0) / math.sqrt(len(z))

    def generative(self) -> tuple[nn.Module, ...]:
        """List the prior, zup and res of each layer, and the head."""
        parts = [part for layer in self.layers for part in (layer.prior, layer.zup, layer.res)]
        return *parts, self.head

    # ------------------------------------------------------------ inference

    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Draw c ~ r(c|x) and z ~ q(z|c, x), with log r, and log q and analytic KL per layer `(B, L)`, top first."""
        context = log_r = None
        if self.pseudo_input is not None:
            context, log_r = self.pseudo_input.draw(batch.x, noise.derive("context"))
        xi = self.layout.split(noise.derive("latents").normal(len(batch.x), self.layout.dim))
        features = {feature.shape[-2:]: feature for feature in self.encoder(batch.x)}
        log_q: list[Tensor] = []
        kl: list[Tensor] = []
        means: list[Tensor] = []
        q_u: list[Normal] = []

        def choose(i: int, prior: Normal, s: Tensor) -> Tensor:
            q = self.layers[i].posterior_of(s, features[s.shape[-2:]])
            z = q.at(xi[i])
            log_q.append(q.log_prob(z))
            kl.append(q.kl(prior))
            means.append(q.mean)
            q_u.append(q.in_units_of(prior))
            return z

        latents = self._standardised(self._walk(context, batch.x, choose), context)
        return Posterior(latents, torch.stack(log_q, dim=1), torch.stack(kl, dim=1), log_r, tuple(means), tuple(q_u))
