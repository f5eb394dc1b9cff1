"""The ladder VAE whose layers' priors are all conditioned on one pseudo-input, DVP-VAE (arXiv 2412.01373)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from hebm.data.images import Images
from hebm.errors import ConfigError
from hebm.hierarchy import InferringHierarchy, Layer
from hebm.interfaces import Batch
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm_plugins.dvp.blocks import resized
from hebm_plugins.dvp.decoder import LadderLayer
from hebm_plugins.dvp.encoder import Encoder
from hebm_plugins.dvp.pseudo_inputs import PseudoInput
from hebm_plugins.module_lists import ModuleList


class LadderState(NamedTuple):
    """The state of a pass down the ladder, after the prior of a layer and before its z.

    Arguments:
        s: the layer's state s_l `(B, c, h, w)`.
        residual: the term that its prior net adds to the state; zeros above the top layer.
        seen: the context's image at each resolution; empty for the plain ladder.
    """

    s: Tensor
    residual: Tensor
    seen: Mapping[tuple[int, int], Tensor]


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


class DVPBackbone(InferringHierarchy[LadderState, Mapping[torch.Size, Tensor]]):
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
        layers: Sequence[LadderLayer],
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

    @override
    def start(self, like: Tensor, context: Tensor | None) -> LadderState:
        first = self.layers[0].size
        s = like.new_ones(len(like), first.channels, *first.size)
        return LadderState(s, torch.zeros_like(s), self._seen(context))

    @override
    def layer(
        self,
        index: int,
        state: LadderState,
        above: Tensor | None,
        evidence: Mapping[torch.Size, Tensor] | None,
    ) -> Layer[LadderState]:
        s = state.s if above is None else self._advanced(index - 1, state, above)
        layer = self.layers[index]
        prior, residual = layer.prior_of(s, state.seen.get(layer.size.size))
        posterior = None if evidence is None else layer.posterior_of(s, evidence[s.shape[-2:]])
        return Layer(prior, LadderState(s, residual, state.seen), posterior)

    def _advanced(self, index: int, state: LadderState, z: Tensor) -> Tensor:
        """Return the state below layer `index`, given its z."""
        return self.layers[index].advanced(state.s, state.residual, z)

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

    @override
    def likelihood(self, latents: Latents) -> PixelDistribution:
        seen = self.aggregated(latents.z) if self.aggregate else self._last_state(latents)
        return self.pixels(self.head(seen))

    def _last_state(self, latents: Latents) -> Tensor:
        return self._advanced(len(self.layers) - 1, self.state(latents), latents.z[-1])

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

    def encode(self, x: Tensor) -> dict[torch.Size, Tensor]:
        """Return the encoder's features e_l(x), by resolution."""
        return {feature.shape[-2:]: feature for feature in self.encoder(x)}

    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Draw c ~ r(c|x) and z ~ q(z|c, x), with log r, and log q and analytic KL per layer `(B, L)`, top first."""
        context = log_r = None
        if self.pseudo_input is not None:
            context, log_r = self.pseudo_input.draw(batch.x, noise.derive("context"))
        return attrs.evolve(self.draw_posterior(batch.x, noise.derive("latents"), context), log_r=log_r)
