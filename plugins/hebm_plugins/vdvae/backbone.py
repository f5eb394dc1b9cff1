"""VDVAE as a backbone: p(z) by a top-down pass over maps of all resolutions, q(z|x) along the same pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from typing_extensions import override

from hebm.data.images import Images
from hebm.hierarchy import InferringHierarchy, Layer
from hebm.latents import LatentLayout, Latents
from hebm.likelihoods import PixelDistribution
from hebm_plugins.vdvae.nets import Decoder, Encoder, MapState
from hebm_plugins.vdvae.normalisation import Normalisation


class VDVAEBackbone(InferringHierarchy[MapState, Mapping[int, Tensor]]):
    """p(x, z) = p(x|z) Π_i N(z_i; μ_i(z_above), σ_i(z_above)²), σ = exp(net); q(z|x) along the same pass
    (arXiv 2011.10650). The top layer is learned too: its μ and σ come from a learned bias.

    Arguments:
        encoder, decoder: built from one `Structure`.
        layout: the latent shapes, top first.
        pixels: maps image parameters `(B, P, S, S)` to p(x|z).
        normalisation: maps x to the encoder's input.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        layout: LatentLayout,
        pixels: Callable[[Tensor], PixelDistribution],
        normalisation: Normalisation,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.layout, self.pixels, self.normalisation = layout, pixels, normalisation

    def fit_statistics(self, images: Images) -> None:
        """Measure mean and deviation of the training images, unless they are given."""
        self.normalisation.fit(images)

    @override
    def start(self, like: Tensor, context: Tensor | None) -> MapState:
        return self.decoder.start(len(like))

    @override
    def layer(
        self, index: int, state: MapState, above: Tensor | None, evidence: Mapping[int, Tensor] | None
    ) -> Layer[MapState]:
        x, maps = self.decoder.enter(index, state, above)
        block = self.decoder.dec_blocks[index]
        prior, residual = block.prior_of(x)
        posterior = None if evidence is None else block.posterior_of(x, evidence[x.shape[-1]])
        return Layer(prior, MapState(x + residual, maps), posterior, feature=x)

    @override
    def encode(self, x: Tensor) -> dict[int, Tensor]:
        maps: dict[int, Tensor] = self.encoder(self.normalisation(x))
        return maps

    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Return p(x|z), from the last layer's map; without it, the top-down pass runs again."""
        return self.pixels(self.decoder.image(self.last_feature(latents)))

    def last_feature(self, latents: Latents) -> Tensor:
        """Return the map of the image's resolution after the last layer, `(B, W, S, S)`."""
        return self.decoder.dec_blocks[-1].absorb(self.state(latents).x, latents.z[-1])

    def generative(self) -> tuple[nn.Module, ...]:
        """List the modules of p(x, z): of every layer all but the posterior's net."""
        decoder = self.decoder
        blocks = [part for block in decoder.dec_blocks for part in (block.prior, block.z_proj, block.resnet)]
        return *blocks, decoder.bias_xs, decoder.out_net, nn.ParameterList([decoder.gain, decoder.bias])
