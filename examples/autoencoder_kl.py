"""Learn a prior over the spatial latents of diffusers' `AutoencoderKL`, as latent diffusion models do.

    pip install 'hebm[examples]'
    python examples/autoencoder_kl.py [FOLDER [PATH]]

Without PATH, a small autoencoder is trained on handwritten digits for some seconds. PATH is a folder that
`AutoencoderKL.save_pretrained` wrote, for images of 1 channel and 16×16 pixels. Its KL weight is tiny, so the scale of
its latents is arbitrary, and `standardise` fits it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import hebm

KL_WEIGHT = 1e-6


class Wrapped(nn.Module):
    """`AutoencoderKL` with the two methods that hebm needs, for images in [−1, 1]."""

    def __init__(self, net: AutoencoderKL) -> None:
        super().__init__()
        self.net = net

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), `(B, 4, 4, 4)`."""
        q = self.net.encode(x).latent_dist
        return q.mean, q.logvar

    def decode(self, z: Tensor) -> Tensor:
        """Return the images `(B, 1, 16, 16)`."""
        images: Tensor = self.net.decode(z).sample
        return images


def new_autoencoder() -> AutoencoderKL:
    """Build a small autoencoder: 16×16 pixels become 4×4 positions of 4 channels."""
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        mid_block_add_attention=False,
    )


def trained_autoencoder(images: Tensor, steps: int) -> AutoencoderKL:
    """Train a new autoencoder on images in [−1, 1] by squared error and a tiny KL term."""
    torch.manual_seed(0)
    net = new_autoencoder()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(steps):
        x = images[torch.randint(len(images), (32,))]
        q = net.encode(x).latent_dist
        loss = F.mse_loss(net.decode(q.sample()).sample, x) + KL_WEIGHT * q.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def main(
    folder: str | Path = "runs/autoencoder-kl",
    path: str | None = None,
    autoencoder_steps: int = 300,
    prior_steps: int = 1000,
) -> hebm.Run:
    """Train both, measure the run, write its report and a grid of samples."""
    digits = load_digits()
    small = torch.tensor(digits.images / 8 - 1, dtype=torch.float32).unsqueeze(1)
    images = F.interpolate(small, (16, 16), mode="bilinear")
    net = trained_autoencoder(images, autoencoder_steps) if path is None else AutoencoderKL.from_pretrained(path)
    vae = Wrapped(net)
    experiment = hebm.Experiment(
        data=hebm.Tensors(images, labels=torch.tensor(digits.target), range=(-1, 1)),
        backbone=hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(4, 4, 4), standardise="channel"),
        prior=hebm.Score(net="mlp"),
        train=hebm.TwoPhase(prior=hebm.PhaseOptimization(steps=prior_steps, learning_rate=2e-3, ema=0.99)),
        evaluate=hebm.EvaluateSettings(samples=2000),
    )
    run = hebm.train(experiment, folder)
    print(run.evaluate())
    run.show().save(run.path / "samples.png")
    return run


if __name__ == "__main__":
    main(*sys.argv[1:3])
