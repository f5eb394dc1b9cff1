"""Check whether distances can be trusted: they must increase with the strength of every damage to the images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.plots import Line, save_curves
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import option, recipe
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.extractors import Extractor
from hebm.evaluation.frechet import frechet_distance, moments, standard_error
from hebm.evaluation.kinds import RECONSTRUCTION
from hebm.evaluation.references import even_places
from hebm.interfaces import Draw, InferringBackbone
from hebm.pixel_levels import to_pixels
from hebm.report.numbers import significant, with_deviation
from hebm.trained import count_nonfinite
from hebm_plugins.analyses.damages import DAMAGES, Damage

DROPPED, TEMPERATURE = "modes dropped", "temperature"
_MOST_OTHERS = 8
_LEAST = 1e-12


@attrs.frozen
class Step:
    """One strength of a damage, in one extractor.

    Arguments:
        damage: name of the damage.
        strength: strength of the damage, 0 for none; for temperatures, τ − 1.
        fd: Fréchet distance to undamaged images; None if an image is not finite.
        error: standard error of `fd`.
    """

    damage: str
    strength: float
    fd: float | None
    error: float | None


@recipe
class Sanity(AnalysisRecipe):
    """Fréchet distance of damaged real images to other real images, in each extractor of `evaluate.extractors`.

    Two disjoint parts of N images are taken from the split, and one of them is damaged. An extractor whose distance
    decreases with stronger damage rewards the damage: a prior whose draws show it looks better than it is.

        blur            Gaussian, deviation in pixels; scaled with the side of images larger than 32 pixels
        noise           x + s ε, clamped
        contrast        m + (1 + s)(x − m), clamped, with the mean m of the image
        modes dropped   the share of classes that are left out; without labels, of the darkest images
        temperature     T(τ u) with inferred u and strength τ − 1, which shows the effect of a temperature on images
    """

    samples: int = option(2000, low=16, doc="N, images of each part, at most half of the split")
    blur: tuple[float, ...] = option(
        (0.5, 1.0, 2.0), above=0, doc="deviations in pixels, scaled with the side of images larger than 32 pixels"
    )
    noise: tuple[float, ...] = option((0.1, 0.2, 0.4), above=0, doc="deviations s, for images in [−1, 1]")
    contrast: tuple[float, ...] = option((0.25, 0.5, 1.0), above=0, doc="gains s; 1 doubles the contrast")
    dropped: tuple[float, ...] = option((0.2, 0.4, 0.6), above=0, high=1, doc="shares of classes to leave out")
    temperatures: tuple[float, ...] = option((1.25, 1.5, 2.0), above=1, doc="temperatures τ of inferred latents")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason for images that the extractor does not take."""
        return evaluation.unsuited

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Return a table and a plot for each extractor, and which damages it rewards."""
        evaluation = evaluation.measured_on(min(self.samples, len(evaluation.splits[evaluation.settings.split]) // 2))
        parts = _Parts(evaluation, max(self.dropped, default=0.0))
        names = evaluation.settings.extractor_names
        found = {name: self._steps(evaluation, parts, evaluation.extractor(name)) for name in names}
        return _section(found, parts.count, folder)

    def _steps(self, evaluation: Evaluation, parts: _Parts, extractor: Extractor) -> list[Step]:
        measure = _Measure(evaluation, extractor, parts.read("undamaged", parts.whole))
        none, steps = measure(parts.read("others", parts.other())), list[Step]()
        for name, damage in DAMAGES.items():
            steps.append(Step(name, 0.0, *none))
            for strength in getattr(self, name):
                steps.append(Step(name, strength, *measure(parts.damaged(name, damage, strength))))
        steps.append(Step(DROPPED, 0.0, *none))
        for share in self.dropped:
            steps.append(Step(DROPPED, share, *measure(parts.read(DROPPED, parts.other(share)))))
        if isinstance(evaluation.model.backbone, InferringBackbone):
            for temperature in (1.0, *self.temperatures):
                steps.append(Step(TEMPERATURE, temperature - 1, *measure(_scaled(evaluation, temperature))))
        return steps


class _Measure:
    """Measures the distance of images to undamaged ones with one extractor.

    Arguments:
        evaluation: evaluation of the model.
        extractor: extractor of the features.
        whole: the undamaged images, in batches.
    """

    def __init__(self, evaluation: Evaluation, extractor: Extractor, whole: Iterator[Tensor]) -> None:
        self.evaluation, self.extractor = evaluation, extractor
        self.whole = moments(torch.cat([self._features(few) for few in whole]))

    def __call__(self, images: Iterator[Tensor]) -> tuple[float | None, float | None]:
        """Return the Fréchet distance of images and its standard error; None if an image is not finite."""
        features = []
        for few in images:
            if count_nonfinite(few):
                return None, None
            features.append(self._features(few))
        found = torch.cat(features)
        return frechet_distance(moments(found), self.whole), standard_error(found, self.whole)

    def _features(self, images: Tensor) -> Tensor:
        return self.extractor(to_pixels(images))["features"].cpu()


def _scaled(evaluation: Evaluation, temperature: float) -> Iterator[Tensor]:
    """Yield T(τ u) for inferred u of the undamaged part, with the noise of its reconstructions."""
    model, images = evaluation.model, evaluation.references
    for start, rows in evaluation.batches(f"{TEMPERATURE} {temperature:g}", len(images)):
        noise = evaluation.noise(RECONSTRUCTION, start)
        latents = model.infer(evaluation.batch(images, start, rows), noise).latents
        yield model.images(Draw(temperature * latents.u, latents.context), noise)


class _Parts:
    """Two disjoint parts of a split: the references of the evaluation, and other images.

    Arguments:
        evaluation: evaluation with the split, the batch size and the noise.
        most_dropped: largest share of modes to drop. It limits `count`, the size of the other part at every share.
    """

    def __init__(self, evaluation: Evaluation, most_dropped: float) -> None:
        self.evaluation, self.images = evaluation, evaluation.splits[evaluation.settings.split]
        self.whole, wanted = evaluation.references.index, len(evaluation.references)
        left = torch.ones(len(self.images), dtype=torch.bool)
        left[self.whole] = False
        others = left.nonzero().flatten()
        self.others = others[even_places(len(others), _MOST_OTHERS * wanted)]
        self.mode, self.modes = self._modes()
        self.count = min(wanted, len(self._kept(most_dropped)))

    def _modes(self) -> tuple[Tensor, int]:
        """Return the number of the mode of each other image, and the number of modes."""
        labels = self.images.labels
        if labels is not None and self.images.classes:
            found, mode = torch.unique(labels[self.others], return_inverse=True)
            return mode, len(found)
        brightness = torch.cat([few.flatten(1).mean(1) for few in self.read("brightness", self.others)])
        return brightness.argsort().argsort(), len(brightness)

    def _kept(self, dropped: float) -> Tensor:
        """Return the places of the other images without the first modes. At least one mode is kept."""
        first = min(math.floor(dropped * self.modes), self.modes - 1)
        return self.others[self.mode >= first]

    def other(self, dropped: float = 0.0) -> Tensor:
        """Return the places of `count` images of the other part, without a share of the modes."""
        kept = self._kept(dropped)
        return kept[even_places(len(kept), self.count)]

    def damaged(self, name: str, damage: Damage, strength: float) -> Iterator[Tensor]:
        """Yield damaged images of the other part in batches. The noise does not depend on the batch size."""
        start = 0
        for few in self.read(name, self.other()):
            yield damage(few, strength, self.evaluation.noise("sanity", start).derive(name))
            start += len(few)

    def read(self, what: str, places: Tensor) -> Iterator[Tensor]:
        """Yield the images at these places in batches `(B, C, H, W)` in [−1, 1].

        Arguments:
            what: name of the measurement, for the progress display.
            places: positions in the split.
        """
        for start, rows in self.evaluation.batches(what, len(places)):
            yield self.images.read(places[start : start + rows])


# ---------------------------------------------------------------- the section

_TITLE = "Do distances increase with damage?"
_TEXT = (
    "Real images are damaged with increasing strength and compared with other real images. A distance that decreases "
    "rewards the damage: a prior whose draws show it looks better than it is."
)
_CAPTION = "Distances relative to the strongest damage. A line that falls rewards the damage."


def rewarded(steps: Sequence[Step]) -> list[str]:
    """Return the damages and strengths at which the distance decreases by more than two standard errors."""
    falls = []
    for before, after in zip(steps, steps[1:], strict=False):
        if before.damage == after.damage and before.fd is not None and after.fd is not None:
            if after.fd < before.fd - 2 * _both(before, after):
                falls.append(f"{after.damage} {significant(after.strength)}")
    return falls


def _both(first: Step, second: Step) -> float:
    return math.hypot(first.error or 0.0, second.error or 0.0)


def _in_words(extractor: str, steps: Sequence[Step]) -> str:
    falls = rewarded(steps)
    if not falls:
        return f"{extractor}: the distance falls at no step of any damage."
    return f"{extractor} rewards {', '.join(falls)}: the distance is smaller than at the step before."


def _section(found: Mapping[str, Sequence[Step]], count: int, folder: Path) -> Section:
    rows = [(name, *attrs.astuple(step)) for name, steps in found.items() for step in steps]
    write_csv(folder / "sanity.csv", ("extractor", "damage", "strength", "fd", "fd_error"), rows)
    save_curves(folder / "sanity.png", _panels(found), "strength")
    return Section(
        _TITLE,
        (_TEXT, *(_in_words(name, steps) for name, steps in found.items())),
        (Picture("sanity.png", _TITLE, _CAPTION),),
        tuple(_table(name, steps, count) for name, steps in found.items()),
        {"n": count, "rewarded": {name: rewarded(steps) for name, steps in found.items()}},
    )


def _panels(found: Mapping[str, Sequence[Step]]) -> dict[str, dict[str, Line]]:
    """Return the lines of each extractor by damage: distances relative to that of the strongest damage."""
    panels: dict[str, dict[str, Line]] = {}
    for extractor, steps in found.items():
        for damage in dict.fromkeys(step.damage for step in steps):
            of_damage = [step for step in steps if step.damage == damage]
            fd = [math.nan if step.fd is None else step.fd for step in of_damage]
            line = Line([step.strength for step in of_damage], [value / max(fd[-1], _LEAST) for value in fd])
            panels.setdefault(damage, {})[extractor] = line
    return panels


def _table(extractor: str, steps: Sequence[Step], count: int) -> Table:
    rows = tuple(
        (f"{step.damage} {significant(step.strength)}", with_deviation(step.fd, step.error, "")) for step in steps
    )
    caption = f"N = {count}. ±: standard error of N images. Temperature: T(τ u) of inferred u at τ − 1."
    return Table(f"Fréchet distance in {extractor}", ("damage", "FD"), rows, caption)
