"""A top-down generator with flat latent layers, for any number of layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hebm.hierarchy import MarkovHierarchy, posterior_of
from hebm.interfaces import Batch, InferringBackbone, PullBack
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import BernoulliPixels, GaussianPixels, PixelDistribution
from hebm.noise import Noise
from hebm_plugins.module_lists import ModuleList
from hebm_plugins.two_layer.nets import BottomUpInference, ConditionalNormal, TopDownInference


class TwoLayerBackbone(MarkovHierarchy):
    """p(x, z) = p(x|z_1) N(z_L; 0, s² I) Π_{i<L} N(z_i; μ_i(z_{i+1}), σ_i(z_{i+1})²), s = 1 + offset.

    Arguments:
        layout: flat layers, top first.
        conditionals: p(z_i | z_{i+1}) for every layer but the top, top first.
        generator: maps z_1 `(B, d_1)` to image parameters `(B, C, H, W)`.
        pixel_std: σ of the Gaussian likelihood, or None for Bernoulli logits.
        offset: constant added to every σ, the top layer's included, as in the published code.
    """

    conditionals: ModuleList[ConditionalNormal]

    def __init__(
        self,
        layout: LatentLayout,
        conditionals: Sequence[ConditionalNormal],
        generator: nn.Module,
        pixel_std: float | None,
        offset: float,
    ) -> None:
        super().__init__()
        self.layout, self.pixel_std, self.top_std = layout, pixel_std, 1 + offset
        self.conditionals, self.generator = ModuleList(conditionals), generator

    def latents_and_pullback(self, u: Tensor, context: Tensor | None = None) -> tuple[Latents, PullBack]:
        """Return T(u), and its vector-Jacobian product, see `hebm.interfaces.PullsBack`."""
        top, *rest = parts = self.layout.split(u)
        z, sigma, pullbacks = [self.top_std * top], [top.new_full((), self.top_std)], []
        for conditional, part in zip(self.conditionals, rest, strict=True):
            prior, pullback = conditional.with_pullback(z[-1])
            z.append(prior.at(part))
            sigma.append(prior.std)
            pullbacks.append(pullback)

        def pull_back(grads: Sequence[Tensor]) -> Tensor:
            *above, grad = grads
            found = []
            for part, std, pullback in zip(parts[:0:-1], sigma[:0:-1], pullbacks[::-1], strict=True):
                found.append(std * grad)
                grad = above.pop() + pullback(grad, part * grad)
            return self.layout.join([self.top_std * grad, *found[::-1]])

        return Latents(u, tuple(z), tuple(sigma)), pull_back

    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Return p(x|z_1): N(g(z_1), pixel_std² I), or Bernoulli with logits g(z_1)."""
        image = self.generator(latents.z[-1])
        return BernoulliPixels(image) if self.pixel_std is None else GaussianPixels(image, self.pixel_std)

    def generative(self) -> tuple[nn.Module, ...]:
        """List the modules of p(z_i|z_{i+1}) and p(x|z_1)."""
        return self.conditionals, self.generator


class InferringTwoLayer(TwoLayerBackbone, InferringBackbone):
    """The same generator with an inference model.

    Arguments:
        layout, conditionals, generator, pixel_std, offset: see `TwoLayerBackbone`.
        inference: q(z|x).
    """

    def __init__(
        self,
        layout: LatentLayout,
        conditionals: Sequence[ConditionalNormal],
        generator: nn.Module,
        pixel_std: float | None,
        offset: float,
        inference: TopDownInference | BottomUpInference,
    ) -> None:
        super().__init__(layout, conditionals, generator, pixel_std, offset)
        self.inference = inference

    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Draw z ~ q(z|x), with log q and KL per layer `(B, L)`, top first.

        For top-down inference the KL is analytic given the draw of the layer above. Otherwise it is the one-sample
        estimate log q(z_i) − log p(z_i | z_{i+1}).
        """
        xi = self.layout.split(noise.normal(len(batch.x), self.layout.dim))
        z, q = self.inference(batch.x, xi)
        descent = self.descend(batch.x, lambda i, _: z[i])
        top_down = isinstance(self.inference, TopDownInference)
        return posterior_of(self.standardised(descent), q, descent.priors, [top_down] * len(z))
