import csv

import numpy as np
import pytest
import torch
from learned import evaluation, every_file_is_there
from tiny_models import TinyData

from hebm.data.images import ArrayImages
from hebm.errors import ConfigError, DataError
from hebm.evaluation.detection import Detection
from hebm.registry import register, unregister
from hebm_plugins.analyses.detection_scores import (
    ALONE,
    CONTROL,
    INFERENCE,
    LOG_PRIOR,
    REGENERATED,
    against_control,
    in_words,
)
from hebm_plugins.analyses.ood import OutOfDistribution
from hebm_plugins.datasets.arrays import Arrays


@pytest.fixture(autouse=True)
def registered():
    register("hebm_datasets", "tiny-data", TinyData)
    yield
    unregister("hebm_datasets", "tiny-data")


@pytest.mark.parametrize(
    ("prior", "kinds"),
    [
        ("joint", {INFERENCE, LOG_PRIOR, CONTROL}),
        ("diffusion", {INFERENCE, REGENERATED, CONTROL}),
        ("multi-stage", {INFERENCE, LOG_PRIOR, CONTROL, ALONE.format("stage 1"), ALONE.format("stage 2")}),
    ],
)
def test_every_kind_of_score_has_figures_for_every_k(tmp_path, prior, kinds):
    made = evaluation(prior)
    recipe = OutOfDistribution(images=100)
    assert recipe.unsupported(made) is None
    section = recipe.run(made, tmp_path)
    assert set(section.numbers) == kinds
    assert all(set(ks) == {"0", "1"} for ks in section.numbers.values())
    assert [table.title for table in section.tables] == ["AUROC", "AUPRC", "FPR95"]
    assert section.tables[0].header == ("", "L>0", "L>1")
    assert every_file_is_there(section, tmp_path)
    with open(tmp_path / "detection.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(kinds)
    first = next(row for row in rows if row["score"] == INFERENCE)
    assert float(first["auroc"]) == section.numbers[INFERENCE]["0"]["auroc"]


def test_the_same_images_cannot_be_told_apart_and_others_can(tmp_path):
    made = evaluation()
    same = OutOfDistribution(data=TinyData(), images=400).run(made, tmp_path)
    assert all(ks["0"]["auroc"] == pytest.approx(0.5) for ks in same.numbers.values())
    other = OutOfDistribution(images=400).run(
        made, tmp_path
    )  # upside down: nearly orthogonal to the generator's images
    assert other.numbers[CONTROL]["0"]["auroc"] < 0.2  # their projections are short: this control fails, and says so


def test_a_data_set_of_other_proportions_is_a_clear_error(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(144, dtype=np.uint8).reshape(3, 8, 6))
    data = Arrays(train=str(tmp_path / "x.npy"), test=str(tmp_path / "x.npy"))
    with pytest.raises(DataError, match="arrays: its images are 6×8 pixels, the model's 8×8"):
        OutOfDistribution(data=data).run(evaluation(), tmp_path)


def test_one_energy_over_all_layers_gives_one_column(tmp_path):
    made = evaluation()
    made.model.prior.energy = Whole()
    section = OutOfDistribution(images=64).run(made, tmp_path)
    assert section.tables[0].header == ("", "L>0")
    assert "auroc.png" not in [picture.file for picture in section.pictures]


class Whole(torch.nn.Module):
    def forward(self, latents, t=None):
        return latents.u.sum(1).view(-1, 1, 1)


def test_a_prior_without_a_tilt_or_a_set_without_test_images_is_refused(tmp_path):
    assert "no tilt" in OutOfDistribution().unsupported(evaluation("root"))
    made = evaluation()
    made.splits.images["test"] = ArrayImages(torch.zeros(0, 1, 8, 8))
    with pytest.raises(ConfigError, match="no test images"):
        OutOfDistribution().run(made, tmp_path)


def test_failures_are_said_in_words():
    good, bad = Detection(0.8, 0.5, 0.5), Detection(0.3, 0.5, 0.5)
    assert "It fails at L>0" in in_words({0: bad, 1: good})
    assert in_words({0: bad}).startswith("it fails")
    assert "fails" not in in_words({0: good})
    assert "f alone does not beat the control" in against_control({INFERENCE: {0: bad}, CONTROL: {0: good}})
    said = against_control({INFERENCE: {0: good}, CONTROL: {0: bad}})
    assert f"by inference, 0.800; {CONTROL}, 0.300. f beats the control." in said


def test_latents_that_overflow_are_counted_and_score_lowest(tmp_path):
    made = evaluation()
    infer = made.model.backbone.infer

    def overflowing(batch, noise):
        posterior = infer(batch, noise)
        if noise.path[-2] == "outside":
            posterior.latents.u[:3] = float("inf")
        return posterior

    made.model.backbone.infer = overflowing
    section = OutOfDistribution(images=40).run(made, tmp_path)
    assert "Scores of 3 outside images overflow" in section.text[0]
    assert all(0 <= ks["0"]["auroc"] <= 1 for ks in section.numbers.values())
