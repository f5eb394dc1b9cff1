"""A hierarchy of three latent layers in one file: one method per layer gives T, T⁻¹, inference and the ELBO."""

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hebm
from hebm.interfaces import InferringHierarchy, Layer
from hebm.likelihoods import GaussianPixels
from hebm.normals import Normal

DIMS, WIDTH = (4, 8, 16), 64  # sizes of the latent layers, top first, and of the state


def normal(parameters: Tensor) -> Normal:
    """Split a net's output `(B, 2d)` into mean and log σ, which is softly clamped."""
    mean, log_std = parameters.chunk(2, dim=1)
    return Normal(mean, (3 * torch.tanh(log_std / 3)).exp())


class ThreeLayers(InferringHierarchy[Tensor, Tensor]):
    """p(x|z) Π p(z_i | z_above), with a deterministic state h that each layer reads and updates."""

    def __init__(self, images: hebm.ImageSpec) -> None:
        super().__init__()
        self.layout = hebm.LatentLayout(tuple((d,) for d in DIMS), image=images.shape)
        pixels = images.channels * images.height * images.width
        self.top = nn.Parameter(torch.zeros(1, WIDTH))
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 256), nn.SiLU(), nn.Linear(256, WIDTH), nn.SiLU())
        self.prior = nn.ModuleList(nn.Linear(WIDTH, 2 * d) for d in DIMS)
        self.posterior = nn.ModuleList(nn.Linear(2 * WIDTH, 2 * d) for d in DIMS)
        self.step = nn.ModuleList(nn.Linear(WIDTH + d, WIDTH) for d in DIMS)
        self.image = nn.Sequential(nn.Linear(WIDTH, 256), nn.SiLU(), nn.Linear(256, pixels), nn.Tanh())

    def start(self, like: Tensor, context: Tensor | None) -> Tensor:
        return self.top.expand(len(like), -1)

    def layer(self, index: int, state: Tensor, above: Tensor | None, evidence: Tensor | None) -> Layer[Tensor]:
        h = state if above is None else self.merged(index - 1, state, above)
        q = None if evidence is None else normal(self.posterior[index](torch.cat([h, evidence], 1)))
        return Layer(normal(self.prior[index](h)), state=h, posterior=q)

    def merged(self, index: int, h: Tensor, z: Tensor) -> Tensor:
        return h + F.silu(self.step[index](torch.cat([h, z], 1)))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def generative(self) -> tuple[nn.Module, ...]:
        return self.prior, self.step, self.image, nn.ParameterList([self.top])

    def likelihood(self, latents: hebm.Latents) -> GaussianPixels:
        h = self.merged(len(DIMS) - 1, self.state(latents), latents.z[-1])
        return GaussianPixels(self.image(h).unflatten(1, self.layout.image), std=0.1)


@hebm.register("hebm_backbones", "three-layers")
@hebm.recipe
class ThreeLayersRecipe(hebm.BackboneRecipe):
    """Three flat layers of 4, 8 and 16 numbers."""

    def build(self, images: hebm.ImageSpec) -> ThreeLayers:
        return ThreeLayers(images)


def main(folder: str, steps: int = 1500) -> hebm.Run:
    """Train the backbone and an energy-based prior on it, measure both, and write samples."""
    experiment = hebm.Experiment(
        data=hebm.Digits(batch_size=100),
        backbone=ThreeLayersRecipe(),
        prior=hebm.Joint(sampler=hebm.ULA(steps=20)),
        train=hebm.TwoPhase(
            backbone=hebm.PhaseOptimization(steps=steps),
            prior=hebm.PhaseOptimization(steps=steps // 3, ema=0.99),
        ),
        evaluate=hebm.EvaluateSettings(samples=2000),
    )
    run = hebm.train(experiment, folder, progress=False)
    print(run.evaluate())
    run.model.show(run.model.sample(64)).save(f"{folder}/samples.png")
    return run


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/three-layers")
