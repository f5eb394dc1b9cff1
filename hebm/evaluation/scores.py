"""Score images by the log tilt of their latents, summed over the layers above layer k.

    s_k(x) = Σ_{i > k} f_i(z_i),    z ~ q(z|x),    layers counted from the bottom, k = 0 … E − 1

High scores are like the training data. s_0 is the whole tilt, and s_{E−1} that of the top layer alone. One energy over
all layers together (E = 1) has only s_0.

References:
    Learning Latent Space Hierarchical EBM Diffusion Models, arXiv 2405.13910, section 5.3.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.errors import ConfigError, NonFiniteError
from hebm.evaluation.evaluation import Evaluation
from hebm.interfaces import Batch, Regenerates, Request, context_of
from hebm.latents import Latents
from hebm.noise import Noise
from hebm.tilts import Tilt
from hebm.trained import TrainedModel, evaluating


def above(tilts: Tensor) -> Tensor:
    """Return s_k in column k, `(B, E)`, from tilts `(B, E)` in the order of layers, top first."""
    return tilts.cumsum(1).flip(1)


@attrs.frozen(eq=False, repr=False)
class Scores:
    """Log tilts f of images, in nats. High scores are like the training data.

    Arguments:
        energy: f of each energy, `(N, E)`: one per layer, top first, or one over all layers.
        layer: f of each layer, `(N, L)`, top first; None if one energy sees all layers.
        total: Σ f, `(N,)`.
    """

    energy: Tensor
    layer: Tensor | None
    total: Tensor

    @classmethod
    def of(cls, tilts: Tensor, layers: int) -> Scores:
        """Build scores from tilts `(N, E)` of a model with L layers. Raises `NonFiniteError` unless all are finite."""
        finite_scores(tilts, "the given images")
        return cls(tilts, tilts if tilts.shape[1] == layers else None, tilts.sum(1))

    @property
    def above(self) -> Tensor:
        """The scores s_k, in column k of `(N, E)`."""
        return above(self.energy)

    def __len__(self) -> int:
        """Return N, the number of images."""
        return len(self.total)

    def __repr__(self) -> str:
        f = self.total
        spread = f"total from {float(f.min()):.3g} to {float(f.max()):.3g}, mean {float(f.mean()):.3g}"
        return f"<scores of {len(self)} images by {self.energy.shape[1]} energies: {spread}; high is like the data>"


@attrs.frozen(eq=False)
class Scorer:
    """Scores batches of images.

    Arguments:
        model: the trained model.
        draws: number of posterior draws over which a score is averaged.
    """

    model: TrainedModel
    draws: int = 1

    @property
    def has_density(self) -> bool:
        """Whether f − |u|²/2 is the prior's log density up to a constant. It is not for a chain of conditionals."""
        prior = self.model.prior
        return context_of(prior) is None and prior.density(self.model.generator) is not None

    def inferred(self, batch: Batch, noise: Noise) -> Latents:
        """Infer the latents of a batch: one draw from the posterior of each image."""
        return self.model.infer(batch, noise).latents

    def scores(self, batch: Batch, noise: Noise, tilt: Tilt | None = None) -> Tensor:
        """Return s_k averaged over posterior draws, `(B, E)`.

        Arguments:
            batch: the images.
            noise: noise with one row per image.
            tilt: the tilt to score by; None for the prior's.

        Raises `ConfigError` for a prior without a tilt.
        """
        return above(self.tilts(batch, noise, tilt))

    def tilts(self, batch: Batch, noise: Noise, tilt: Tilt | None = None) -> Tensor:
        """Return f of each energy averaged over posterior draws, `(B, E)`."""
        score = tilt or self.require_tilt()
        found = [score.at(self.model.backbone, self.inferred(batch, noise.derive(i))) for i in range(self.draws)]
        return torch.stack(found).mean(0)

    def require_tilt(self) -> Tilt:
        """Return the prior's tilt. Raises `ConfigError` if it has none."""
        if self.model.tilt is None:
            raise ConfigError("scores: this prior has no tilt to score by; use a run with a learned prior")
        return self.model.tilt

    def gaussian(self, batch: Batch, noise: Noise) -> Tensor:
        """Return the unlearned control: −½ Σ |u_i|² over the layers above k, in column k of `(B, L)`."""
        layers = self.model.generator.layout.split(self.inferred(batch, noise.derive(0)).u)
        squares = torch.stack([layer.flatten(1).square().sum(1) for layer in layers], dim=1)
        return above(-0.5 * squares)

    def regenerated(self, batch: Batch, noise: Noise, k: int) -> Tensor:
        """Return s_k of latents whose layers above k are inferred and fixed, and whose others are redrawn, `(B,)`.

        A prior that `Regenerates` moves the fixed layers too.
        """
        prior, generator, source = self.model.prior, self.model.generator, noise.derive("regenerate", k)
        latents = self.inferred(batch, noise.derive(0))
        fixed = generator.layout.fix(latents.u, range(len(generator.layout) - k))
        if isinstance(prior, Regenerates):
            u = prior.regenerate(generator, latents, fixed, source, self.model.path_to(None))
        else:
            u = self.model.draw(len(latents), source, Request(context=latents.context, fixed=fixed)).u
        return above(self.require_tilt().at(generator, generator.latents(u, latents.context)))[:, k]


def scan(
    evaluation: Evaluation,
    images: Images,
    score: Callable[[Batch, Noise], Tensor],
    name: str,
    unlike: bool = False,
) -> Tensor:
    """Return a score of each image, float64 `(N, …)` on the CPU, computed by this process alone.

    Arguments:
        evaluation: the evaluation, which makes batches.
        images: images of the model's shape.
        score: maps a batch and its noise to scores `(B, …)`.
        name: name of these images, from which their noise is derived.
        unlike: whether images may be so unlike the training data that their latents overflow. NaN scores then become
            −∞, the lowest score, and infinite ones stay.

    Raises `NonFiniteError` if a score is not finite, unless `unlike`.
    """
    rows = evaluation.rows
    parts = []
    with evaluating(evaluation.model.backbone, evaluation.model.prior):
        for start in range(0, len(images), rows):
            batch = evaluation.batch(images, start, min(rows, len(images) - start))
            parts.append(score(batch, evaluation.noise("scores", start).derive(name)).double().cpu())
    scores = torch.cat(parts)
    return lowest_where_no_number(scores) if unlike else finite_scores(scores, name)


def lowest_where_no_number(scores: Tensor) -> Tensor:
    """Return the scores with −∞ in place of NaN. Infinite scores stay."""
    return torch.where(scores.isnan(), -torch.inf, scores)


def finite_scores(scores: Tensor, name: str) -> Tensor:
    """Return the scores `(N, …)` unchanged. Raises `NonFiniteError` if any is not finite."""
    bad = int((~scores.flatten(1).isfinite().all(1) if scores.ndim > 1 else ~scores.isfinite()).sum())
    if bad:
        raise NonFiniteError(
            f"{bad} of {len(scores)} scores of {name} are not finite, so no scores are returned; lower the step size "
            "if a chain diverges, or use a penalty (l2) or fewer training steps if the tilt is unbounded"
        )
    return scores
