"""NVAE as a backbone: T and T⁻¹ by its prior's top-down pass, q(z|x) along the same pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from hebm.hierarchy import InferringHierarchy, Layer
from hebm.interfaces import Batch, Loss, Progress
from hebm.latents import LatentLayout, Latents
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm_plugins.nvae.convolutions import kernel_of, shared_kernels
from hebm_plugins.nvae.decoder import Decoder
from hebm_plugins.nvae.encoder import Encoder
from hebm_plugins.nvae.folding import folded
from hebm_plugins.nvae.objective import NVAEObjective
from hebm_plugins.nvae.recalibration import Recalibration, recalibrate
from hebm_plugins.nvae.spectral import SpectralSum, batch_norm_penalty
from hebm_plugins.nvae.structure import Structure
from hebm_plugins.pixels.bits import reduce_bits


class NVAEBackbone(InferringHierarchy[Tensor, Sequence[Tensor]]):
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

    def start(self, like: Tensor, context: Tensor | None) -> Tensor:
        """Return the constant feature above the first group."""
        return self.decoder.first(len(like))

    def layer(
        self, index: int, state: Tensor, above: Tensor | None, evidence: Sequence[Tensor] | None
    ) -> Layer[Tensor]:
        """Compute group `index`. The state is the feature from which its prior is computed."""
        feature = self.decoder.enter(index, state, above)
        raw, prior = self.decoder.groups[index].prior(feature)
        if evidence is None:
            return Layer(prior, feature, feature=feature)
        posterior = self.encoder.posterior(index, evidence[index], feature, raw)
        flow = self.encoder.groups[index].transport if self.structure.flows else None
        return Layer(prior, feature, posterior, feature, flow)

    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Return p(x|z), from the last group's feature; without it, the top-down pass runs again."""
        return self.pixels(self._cropped(self.decoder.image(self.state(latents), latents.z[-1])))

    def last_feature(self, latents: Latents) -> Tensor:
        """Return the last group's feature combined with its z, from which the image is computed."""
        return self.decoder.last_feature(self.state(latents), latents.z[-1])

    def _cropped(self, image: Tensor) -> Tensor:
        return F.pad(image, (-self.pad,) * 4)

    # ------------------------------------------------------------ inference

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the encoder's feature for each group, top-down."""
        features: list[Tensor] = self.encoder(self._input(x))
        return features

    def _input(self, x: Tensor) -> Tensor:
        x = x if self.bits == 8 else reduce_bits(x, self.bits)
        return F.pad(x, (self.pad,) * 4, value=-1.0)

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
