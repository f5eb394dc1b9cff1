"""The kit can fail for analyses: each broken one is caught by the check that names its promise, and by no other."""

from pathlib import Path

import pytest
import torch
from catching import catching, expect_caught, names_of

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import recipe
from hebm.errors import ConfigError
from hebm.evaluation.kinds import PRIOR
from hebm.report.grids import save_grid
from hebm.testing import ConformanceError, check_analysis


class Sound(AnalysisRecipe):
    """Shows a few draws of the prior, and the mean of their pixels."""

    def run(self, evaluation, folder):
        images = evaluation.draws(PRIOR, 4)
        save_grid(images, folder / "draws.png", 2)
        write_csv(folder / "means.csv", ("image", "mean"), list(enumerate(images.mean((1, 2, 3)).tolist())))
        table = Table("Means", ("image", "mean"), (("0", f"{images[0].mean():.4f}"),))
        numbers = {"mean": float(images.mean()), "seconds": len(RUNS)}
        RUNS.append(1)
        return Section("Draws", ("Four draws.",), (Picture("draws.png", "Draws", pixels=True),), (table,), numbers)


RUNS = []


class SupportsNothing(Sound):
    def unsupported(self, evaluation):
        return "there is nothing that it supports"


class AsksForLabels(Sound):
    def unsupported(self, evaluation):
        return None if evaluation.splits["test"].labels.ndim == 1 else "it needs classes, not attributes"


class SaysTrue(Sound):
    def unsupported(self, evaluation):
        return evaluation.splits["test"].labels is None


class SaysAWord(Sound):
    def unsupported(self, evaluation):
        return "labels" if evaluation.splits["test"].labels is None else None


class ReturnsNumbers(Sound):
    def run(self, evaluation, folder):
        return {"mean": 0.5}


class Untitled(Sound):
    def run(self, evaluation, folder):
        return Section("", ("Nothing.",))


class Empty(Sound):
    def run(self, evaluation, folder):
        return Section("Nothing")


class Uneven(Sound):
    def run(self, evaluation, folder):
        return Section("Table", tables=(Table("Means", ("image", "mean"), (("0",),)),))


class NoPicture(Sound):
    def run(self, evaluation, folder):
        return Section("Draws", pictures=(Picture("draws.png", "Draws"),))


class NoPNG(Sound):
    def run(self, evaluation, folder):
        (folder / "draws.png").write_bytes(b"<svg/>")
        return Section("Draws", pictures=(Picture("draws.png", "Draws"),))


class WithItsFolder(Sound):
    def run(self, evaluation, folder):
        (folder / "pictures").mkdir()
        save_grid(evaluation.draws(PRIOR, 4), folder / "pictures" / "draws.png", 2)
        return Section("Draws", pictures=(Picture("pictures/draws.png", "Draws"),))


class UntitledPicture(Sound):
    def run(self, evaluation, folder):
        save_grid(evaluation.draws(PRIOR, 4), folder / "draws.png", 2)
        return Section("Draws", pictures=(Picture("draws.png", ""),))


class HoldsTensors(Sound):
    def run(self, evaluation, folder):
        return Section("Draws", ("Draws.",), numbers={"mean": torch.zeros(1)})


class WritesItself(Sound):
    def run(self, evaluation, folder):
        section = Section("Draws", ("Draws.",))
        section.write(folder, {})
        return section


class WritesHere(Sound):
    def run(self, evaluation, folder):
        Path("notes.txt").write_text("mean 0.5")
        return super().run(evaluation, folder)


class WritesBeside(Sound):
    def run(self, evaluation, folder):
        (folder.parent / "notes.txt").write_text("mean 0.5")
        return super().run(evaluation, folder)


class Counts(Sound):
    def run(self, evaluation, folder):
        RUNS.append(1)
        return Section("Runs", (f"This is run {len(RUNS)}.",))


class WritesAnotherFile(Sound):
    def run(self, evaluation, folder):
        RUNS.append(1)
        write_csv(folder / "runs.csv", ("run",), [(len(RUNS),)])
        return Section("Runs", ("It ran.",))


class DrawsGlobally(Sound):
    def run(self, evaluation, folder):
        torch.rand(1)
        return super().run(evaluation, folder)


class SetsModes(Sound):
    def run(self, evaluation, folder):
        evaluation.model.prior.train()
        return super().run(evaluation, folder)


class NeedsATilt(Sound):
    def run(self, evaluation, folder):
        draw = evaluation.model.draw(4, evaluation.noise(PRIOR))
        f = evaluation.model.of_latents(draw, lambda z: evaluation.model.tilt.at(evaluation.model.generator, z))
        return Section("Tilts", (f"On average {float(f.mean()):g}.",))


class RefusesWithAnError(Sound):
    def run(self, evaluation, folder):
        if evaluation.model.tilt is None:
            raise ConfigError("sound: this prior has no tilt")
        return super().run(evaluation, folder)


EVERYTHING = names_of(recipe(type("Made", (Sound,), {"__doc__": "…"}))()) - {"unsupported"}
RUNNING = {"pictures", "stored", "repeats", "supported"}

CONTROLS = [
    (SupportsNothing, "unsupported", EVERYTHING),
    (AsksForLabels, "unsupported", ("supported",)),
    (SaysTrue, "unsupported", ()),
    (SaysAWord, "unsupported", ()),
    (ReturnsNumbers, "section", RUNNING),
    (Untitled, "section", ()),
    (Empty, "section", ()),
    (Uneven, "section", ()),
    (NoPicture, "pictures", ()),
    (NoPNG, "pictures", ()),
    (WithItsFolder, "pictures", ()),
    (UntitledPicture, "pictures", ()),
    (HoldsTensors, "stored", ("repeats",)),
    (WritesItself, "stored", ()),
    (WritesHere, "folder", ()),
    (WritesBeside, "folder", ()),
    (Counts, "repeats", ()),
    (WritesAnotherFile, "repeats", ()),
    (DrawsGlobally, "no-global-rng", ()),
    (SetsModes, "leaves-the-model", ()),
    (NeedsATilt, "supported", ()),
]


def of(kind):
    """A recipe of the class."""
    return recipe(type("Made", (kind,), {"__doc__": kind.__doc__ or "An analysis that is broken in one way."}))()


@pytest.mark.parametrize(("kind", "name", "also"), CONTROLS, ids=[f"{c[0].__name__}-{c[1]}" for c in CONTROLS])
def test_the_named_check_alone_catches(kind, name, also):
    expect_caught(of(kind), name, also)


@pytest.mark.parametrize("kind", [Sound, RefusesWithAnError])
def test_the_sound_originals_pass(kind):
    assert catching(of(kind)) == set()


def test_an_analysis_that_supports_no_small_model_is_told_the_reasons():
    with pytest.raises(ConformanceError, match="full: there is nothing that it supports"):
        check_analysis(of(SupportsNothing))


def test_every_check_has_a_control():
    assert names_of(of(Sound)) == {name for _, name, _ in CONTROLS}
