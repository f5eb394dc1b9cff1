"""The classifier two-sample test: how well a new classifier tells posterior draws from draws of a prior.

Images that no run made are told from those of the data.

References:
    Revisiting classifier two-sample tests, Lopez-Paz and Oquab 2017, arXiv 1610.06545.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.contrasts import certified_nats, certified_nats_error
from hebm.errors import ConfigError
from hebm.evaluation.auroc import auroc, auroc_error
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import DATA, PRIOR, RECONSTRUCTION
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.evaluation.plan import EvaluationPlan
from hebm.noise import Noise
from hebm.trained import finite
from hebm_plugins.metrics.two_sample_classifier import FEWEST, LogRatios, sizes, tell_apart

_ERROR = "± is the standard error over held-out pairs (DeLong); the 95 % interval is ± 1.96 times it"
_BOUND = "a lower bound on KL({} ‖ these {}); ± is its standard error over held-out pairs"
_ROOT = "the prior is the backbone's own; nothing is learned"


@recipe
class TwoSample(MetricRecipe):
    """AUROC, P(f(q) > f(p)), of a new classifier f that separates posterior draws q from draws p of a prior.

    0.5 means that it cannot separate them. One classifier is trained for the learned prior, and one for the backbone's
    own. Given images that no run made are separated from the data instead. Of the N samples of each side, a quarter is
    held out for the measurements and an eighth decides when to stop. A better classifier or a larger N can only find
    more differences, so the AUROC is a lower bound. Source: arXiv 1610.06545.

    The classifier of images has the net of the extractor `classifier`, and sees 8-bit images, averaged down to 64
    pixels a side if they are larger. The classifier of latents is an MLP of u, without the context. If the decoder
    ignores most of u, it needs many more samples than the classifier of images.

    Example:
        >>> TwoSample(epochs=10).epochs
        10
    """

    space: str = option(
        "images",
        choices=("images", "latents"),
        doc="what is told apart: decoded images, reconstructions against draws, or the latents u themselves",
    )
    epochs: int = option(20, low=1, doc="largest number of passes over the training part")

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Raise `ConfigError` for too few samples or images, and for latents without a model."""
        if self.space == "latents":
            plan.require(RECONSTRUCTION)
        settings = plan.settings
        most = len(plan.images[settings.split])
        if plan.given is not None and len(plan.given) < FEWEST:
            raise ConfigError(
                f"evaluate.metrics: two-sample needs {FEWEST} images to measure, and there are {len(plan.given)}; "
                "give more, or leave it out"
            )
        if min(most, settings.samples) < FEWEST:
            fix = f"use evaluate.samples of {FEWEST} or more" if most >= FEWEST else "bring more images"
            raise ConfigError(
                f"evaluate.metrics: two-sample needs {FEWEST} samples and as many images of the split; there are "
                f"evaluate.samples = {settings.samples} and {most} images in {settings.split!r}; {fix}"
            )
        return []

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `two-sample-auroc` and `two-sample-nats` of each prior; of a root, as the Gaussian alone."""
        of_model = RECONSTRUCTION in evaluation.kinds
        is_root = of_model and evaluation.model.prior.root is None
        left_out = (RECONSTRUCTION, PRIOR) if is_root else (RECONSTRUCTION,)
        positive, found = self._samples(evaluation, RECONSTRUCTION if of_model else DATA), []
        bound = _BOUND.format(*(("posterior draws", "draws") if of_model else ("the data", "images")))
        for kind in (kind for kind in evaluation.kinds if kind not in left_out):
            negative = self._samples(evaluation, kind)
            n = min(len(positive), len(negative))
            found += self._measurements(kind, self._told_apart(evaluation, kind, positive[:n], negative[:n]), bound)
        return [_noted(each) for each in found] if is_root else found

    def _samples(self, evaluation: Evaluation, kind: str) -> Tensor:
        return evaluation.pixels(kind) if self.space == "images" else _latents(evaluation, kind)

    def _told_apart(self, evaluation: Evaluation, kind: str, positive: Tensor, negative: Tensor) -> LogRatios:
        """Train in the first process and return its log ratios on every process."""
        model, processes = evaluation.model, evaluation.processes
        f = torch.zeros(2 * sizes(len(positive))[0], dtype=torch.float64)
        if processes.rank == 0:
            noise = Noise(model.seed, "two-sample", self.space, kind, device=model.device)
            f = torch.cat(tell_apart(positive, negative, self.epochs, noise))
        if processes.gather is not None:
            f = processes.from_first(f.to(model.device)).cpu()
        return LogRatios(*f.chunk(2))

    def _measurements(self, kind: str, f: LogRatios, bound: str) -> list[Measurement]:
        area = Measurement(
            "two-sample-auroc",
            auroc(*f),
            "two-sample AUROC",
            error=auroc_error(*f) or None,  # 0: the sets do not overlap, and the formula says nothing
            kind=kind,
            part=self.space,
            better="lower",
            conditions={"pairs": len(f.positive), "space": self.space},
            note=_ERROR,
        )
        nats = attrs.evolve(
            area,
            name="two-sample-nats",
            value=float(certified_nats(*f)),
            title="two-sample certified nats",
            error=float(certified_nats_error(*f)),
            unit="nats",
            note=bound,
        )
        return [area, nats]


def _noted(measurement: Measurement) -> Measurement:
    return attrs.evolve(measurement, note=f"{measurement.note}; {_ROOT}")


def _latents(evaluation: Evaluation, kind: str) -> Tensor:
    """Return u of all samples of a kind, float32 `(N, D)` on the CPU.

    Raises `NonFiniteError` if any is not finite.
    """
    count, rows = evaluation.count(kind), evaluation.rows
    parts = [_u(evaluation, kind, *span).float() for span in evaluation.batches(f"latents of {kind}", count)]
    empty = torch.empty(0, evaluation.model.backbone.layout.dim, device=evaluation.model.device)
    return finite(evaluation.processes.join(parts, empty, count, rows).cpu(), f"latents of kind {kind!r}")


def _u(evaluation: Evaluation, kind: str, start: int, rows: int) -> Tensor:
    if kind != RECONSTRUCTION:
        return evaluation.draw(kind, start, rows).u
    batch = evaluation.batch(evaluation.references, start, rows)
    return evaluation.model.infer(batch, evaluation.noise(kind, start)).latents.u
