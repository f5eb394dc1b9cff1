"""Whether a distance can be trusted: it must rise with every damage to the images, step by step."""

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
        damage: its name.
        strength: 0 for none; of temperatures, τ − 1.
        fd: Fréchet distance to undamaged images; None where an image is not finite.
        error: its standard error.
    """

    damage: str
    strength: float
    fd: float | None
    error: float | None


@recipe
class Sanity(AnalysisRecipe):
    """Fréchet distance of damaged real images to other real images, in each extractor of `evaluate.extractors`.

    Two parts of the split, N images each: one is left as it is, the other is damaged. An extractor whose distance falls
    as the damage grows rewards it, and a prior whose draws have it looks better than it is.

        blur            Gaussian, deviation in pixels; of a 32-pixel image where images are larger
        noise           x + s ε, clamped
        contrast        m + (1 + s)(x − m), clamped, m the mean
        modes dropped   the share of classes without images; without labels, of the darkest images
        temperature     T(τ u) with inferred u, strength τ − 1: what a Gaussian prior of that temperature does to images
    """

    samples: int = option(2000, low=16, doc="N, images of each part, if the split has 2 N")
    blur: tuple[float, ...] = option(
        (0.5, 1.0, 2.0), above=0, doc="deviations in pixels; of a 32-pixel image where images are larger"
    )
    noise: tuple[float, ...] = option((0.1, 0.2, 0.4), above=0, doc="deviations, where images are in [−1, 1]")
    contrast: tuple[float, ...] = option((0.25, 0.5, 1.0), above=0, doc="gains s; 1 doubles the contrast")
    dropped: tuple[float, ...] = option((0.2, 0.4, 0.6), above=0, high=1, doc="shares of the classes")
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
    """Measures images against undamaged ones, in one extractor.

    Arguments:
        evaluation: shows the progress.
        extractor: extractor of the features.
        whole: the undamaged images, in batches.
    """

    def __init__(self, evaluation: Evaluation, extractor: Extractor, whole: Iterator[Tensor]) -> None:
        self.evaluation, self.extractor = evaluation, extractor
        self.whole = moments(torch.cat([self._features(few) for few in whole]))

    def __call__(self, images: Iterator[Tensor]) -> tuple[float | None, float | None]:
        """Return the Fréchet distance of images and its standard error; None where one of them is not finite."""
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
    """Yield T(τ u) of the undamaged part's inferred u, with the noise of its reconstructions."""
    model, images = evaluation.model, evaluation.references
    for start, rows in evaluation.batches(f"{TEMPERATURE} {temperature:g}", len(images)):
        noise = evaluation.noise(RECONSTRUCTION, start)
        latents = model.infer(evaluation.batch(images, start, rows), noise).latents
        yield model.images(Draw(temperature * latents.u, latents.context), noise)


class _Parts:
    """Two parts of a split without a common image: the evaluation's references, and as many of the others.

    Arguments:
        evaluation: its split, batch size and noise.
        most_dropped: the largest share of modes that is dropped; that many images are left even then.
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
        """Return a number for each other image, equal within a mode, and how many modes there are."""
        labels = self.images.labels
        if labels is not None and self.images.classes:
            found, mode = torch.unique(labels[self.others], return_inverse=True)
            return mode, len(found)
        brightness = torch.cat([few.flatten(1).mean(1) for few in self.read("brightness", self.others)])
        return brightness.argsort().argsort(), len(brightness)

    def _kept(self, dropped: float) -> Tensor:
        """Return places of all other images, without the first modes; at least one mode is left."""
        first = min(math.floor(dropped * self.modes), self.modes - 1)
        return self.others[self.mode >= first]

    def other(self, dropped: float = 0.0) -> Tensor:
        """Return places of the other part's images, without a share of the modes, always the same number of them."""
        kept = self._kept(dropped)
        return kept[even_places(len(kept), self.count)]

    def damaged(self, name: str, damage: Damage, strength: float) -> Iterator[Tensor]:
        """Yield the other part's images with a damage, a batch at a time, whose noise does not depend on batches."""
        start = 0
        for few in self.read(name, self.other()):
            yield damage(few, strength, self.evaluation.noise("sanity", start).derive(name))
            start += len(few)

    def read(self, what: str, places: Tensor) -> Iterator[Tensor]:
        """Yield the images at these places, a batch at a time, `(B, C, H, W)` in [−1, 1].

        Arguments:
            what: name of the measurement, for the progress display.
            places: positions in the split.
        """
        for start, rows in self.evaluation.batches(what, len(places)):
            yield self.images.read(places[start : start + rows])


# ---------------------------------------------------------------- the section

_TITLE = "Do distances rise with damage?"
_TEXT = (
    "Real images are damaged, step by step, and compared with other real images. A distance that falls rewards the "
    "damage: a prior whose draws have it looks better than it is."
)
_CAPTION = "Each distance is divided by that of the strongest damage. A line that falls rewards the damage."


def rewarded(steps: Sequence[Step]) -> list[str]:
    """Return the damages in which some step is less far than the step before, by more than two standard errors."""
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
    """Return a line for each extractor, by damage: distances over that of the strongest."""
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
