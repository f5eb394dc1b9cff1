"""Scores of images: the log tilt of their latents, summed over the layers above one.

    s_k(x) = Σ_{i > k} f_i(z_i),    z ~ q(z|x),    layers counted from the bottom, k = 0 … E − 1

High is like the training data. s_0 is the whole tilt, s_{E−1} that of the top layer alone. An energy over all layers
together (E = 1) has s_0 only.

References:
    Learning Latent Space Hierarchical EBM Diffusion Models, arXiv 2405.13910, section 5.3.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.densities import Tilt
from hebm.errors import NonFiniteError
from hebm.evaluate.evaluation import Evaluation, evaluating
from hebm.interfaces import Backbone, Batch, PriorLearner
from hebm.latents import Latents
from hebm.noise import Noise
from hebm.training.phases import SchemeRecipe


def above(tilts: Tensor) -> Tensor:
    """s_k in column k, `(B, E)`, of tilts `(B, E)` that are listed top first."""
    return tilts.cumsum(1).flip(1)


def has_tilt(prior: PriorLearner) -> bool:
    """Whether a prior has learned a tilt: a root has none, and some priors have none that can be evaluated."""
    return prior.base is not None and type(prior).tilt is not PriorLearner.tilt


def regenerates(prior: PriorLearner) -> bool:
    """Whether a prior moves the coordinates that are held when it draws the others anew."""
    return type(prior).regenerate is not PriorLearner.regenerate


@attrs.frozen(eq=False)
class Scorer:
    """Scores of batches.

    Arguments:
        backbone, prior, scheme: of the trained model, in eval mode.
        generator: the backbone's folded copy.
        draws: posterior draws that a score is the mean of.
    """

    backbone: Backbone
    prior: PriorLearner
    scheme: SchemeRecipe
    generator: Backbone
    draws: int = 1

    @classmethod
    def of(cls, evaluation: Evaluation, draws: int = 1) -> Scorer:
        """The scorer of an evaluation's model."""
        return cls(evaluation.backbone, evaluation.prior, evaluation.scheme, evaluation.generator, draws)

    @property
    def has_density(self) -> bool:
        """Whether f − |u|²/2 is the prior's log density up to a constant: not so for a chain of conditionals."""
        return self.prior.context is None and self.prior.density(self.generator) is not None

    def inferred(self, batch: Batch, noise: Noise) -> Latents:
        """One posterior draw."""
        return self.scheme.posterior(self.backbone, self.prior, batch, noise).latents

    def scores(self, batch: Batch, noise: Noise, tilt: Tilt | None = None) -> Tensor:
        """s_k by inference, `(B, E)`, the mean over posterior draws; of another tilt than the prior's if given."""
        score = tilt or self.prior.tilt
        tilts = [score(self.inferred(batch, noise.derive(i))) for i in range(self.draws)]
        return above(torch.stack(tilts).mean(0))

    def gaussian(self, batch: Batch, noise: Noise) -> Tensor:
        """The control in which nothing is learned: −½ Σ |u_i|² over the layers above k, `(B, L)`."""
        layers = self.generator.layout.split(self.inferred(batch, noise.derive(0)).u)
        squares = torch.stack([layer.flatten(1).square().sum(1) for layer in layers], dim=1)
        return above(-0.5 * squares)

    def regenerated(self, batch: Batch, noise: Noise, k: int) -> Tensor:
        """s_k of latents whose layers above k are held and the others drawn by the prior, `(B,)`.

        A prior with levels of noise moves what is held, too: see `PriorLearner.regenerate`.
        """
        layout = self.generator.layout
        latents = self.inferred(batch, noise.derive(0))
        held = layout.hold(latents.u, range(len(layout) - k)).held
        drawn = self.prior.regenerate(self.generator, latents, held, noise.derive("regenerate", k))
        return above(self.prior.tilt(self.generator.latents(drawn, latents.context)))[:, k]


def scan(
    evaluation: Evaluation,
    images: Images,
    score: Callable[[Batch, Noise], Tensor],
    name: str,
    unlike: bool = False,
) -> Tensor:
    """A score of each image, float64 `(N, …)` on the CPU, computed by this process alone.

    Arguments:
        evaluation: makes batches.
        images: any of the model's shape.
        score: of a batch and its noise, `(B, …)`.
        name: of these images, for their noise.
        unlike: images may be so unlike the training data that their latents overflow: a score that is no number is then
            −∞, the lowest; one that is infinite stays so.

    Raises `NonFiniteError` if a score is not finite, unless `unlike`.
    """
    rows = evaluation.settings.rows
    parts = []
    with evaluating(evaluation.backbone, evaluation.prior):
        for start in range(0, len(images), rows):
            batch = evaluation.batch(images, start, min(rows, len(images) - start))
            parts.append(score(batch, evaluation.noise("scores", start).derive(name)).double().cpu())
    scores = torch.cat(parts)
    return lowest_where_no_number(scores) if unlike else finite_scores(scores, name)


def lowest_where_no_number(scores: Tensor) -> Tensor:
    """The same scores, −∞ in place of NaN; infinite ones stay."""
    return torch.where(scores.isnan(), -torch.inf, scores)


def finite_scores(scores: Tensor, name: str) -> Tensor:
    """The same scores `(N, …)`. Raises `NonFiniteError` if any is not finite."""
    bad = int((~scores.flatten(1).isfinite().all(1) if scores.ndim > 1 else ~scores.isfinite()).sum())
    if bad:
        raise NonFiniteError(
            f"{bad} of {len(scores)} scores of {name} are not finite: nothing is said of the rest; a chain that "
            "diverges needs a smaller step size, and a tilt without bounds a penalty (l2) or fewer training steps"
        )
    return scores
