"""Train a small VAE on handwritten digits, and a learned prior over its latents.

    python examples/own_vae.py [FOLDER]

The VAE is plain PyTorch. hebm needs the five lines of `experiment`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import hebm


class DigitsVAE(nn.Module):
    """p(x|z) = N(x; decode(z), 0.15² I) and q(z|x) for images `(B, 1, 8, 8)` in [0, 1] and z `(B, 8)`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 16))
        to_image = (nn.Linear(128, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.SiLU(), *to_image)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of the images."""
        images: Tensor = self.decoder(z)
        return images


def train_vae(images: Tensor, steps: int) -> DigitsVAE:
    """Train a VAE by its negative ELBO, in nats up to a constant."""
    torch.manual_seed(0)
    vae = DigitsVAE()
    optimizer = torch.optim.Adam(vae.parameters(), 2e-3)
    for _ in range(steps):
        x = images[torch.randint(len(images), (128,))]
        mean, log_variance = vae.encode(x)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = (vae.decode(z) - x).square().sum((1, 2, 3)) / (2 * 0.15**2)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        optimizer.zero_grad()
        (error + kl).mean().backward()
        optimizer.step()
    return vae


def experiment(vae: DigitsVAE, images: Tensor, labels: Tensor, steps: int) -> hebm.Experiment:
    """Put the VAE under a score-based prior. A deviation of 0.15 in [0, 1] is 0.3 in [−1, 1]."""
    return hebm.Experiment(
        data=hebm.Tensors(images, labels=labels, range=(0, 1)),
        backbone=hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(8,), range=(0, 1), pixel_std=0.3),
        prior=hebm.Score(),
        train=hebm.TwoPhase(prior=hebm.PhaseOptimization(steps=steps, learning_rate=2e-3, ema=0.99)),
        evaluate=hebm.EvaluateSettings(samples=2000),
    )


def main(folder: str | Path = "runs/own-vae", vae_steps: int = 1500, prior_steps: int = 800) -> hebm.Run:
    """Train both, measure the run, write its report and a grid of samples."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    vae = train_vae(images, vae_steps)
    run = hebm.train(experiment(vae, images, torch.tensor(digits.target), prior_steps), folder)
    print(run.evaluate())
    run.show().save(run.path / "samples.png")
    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
