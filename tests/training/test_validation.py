"""Validation of priors by contrast or by their loss: what is held out, what is logged, when training ends by it."""

import math

import pytest
import torch
from real_runs import differences, in_two_processes, log, merged, model_of, newest, pairs, tiny, train

from hebm.contrasts import bce, certified_nats
from hebm.data.images import ArrayImages
from hebm.data.splits import Splits
from hebm.errors import CheckpointError
from hebm.interfaces import Contrasted
from hebm.noise import Noise
from hebm.stored_runs import read_run
from hebm.testing import ReferenceBackbone
from hebm.training import phase_run
from hebm.training.plateau import Plateau
from hebm_plugins.datasets.digits import Digits
from hebm_plugins.priors.joint import Joint, JointPrior

LOGGED = {"validation_loss", "validation_auroc", "validation_nats"}
RATIO = {
    "type": "multi-stage",
    "stages": 1,
    "energy": {"type": "mlp", "width": 6, "zero_init": False},
    "sampler": {"type": "ula", "steps": 3},
}
MOST = 60


def held_out(fraction=0.1, **tables):
    table = merged(tiny(), {"data": {"validation": fraction}, "prior": RATIO})
    return merged(table, tables)


def lines(folder, phase="stage 1"):
    return [line for line in log(folder) if line["phase"] == phase]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    assert train(held_out(), folder)
    return folder


# ---------------------------------------------------------------- what is logged


def test_a_phase_that_learns_by_contrast_logs_held_out_numbers_and_no_other_phase_does(whole):
    assert [set(line) >= LOGGED for line in lines(whole)] == [True] * 6
    assert not any(LOGGED & set(line) for line in lines(whole, "backbone"))


def test_a_phase_that_is_validated_by_its_loss_logs_it_on_held_out_images_and_ends_by_it(tmp_path):
    table = {**overfitting(), "prior": {"type": "score", "width": 64, "dropout": 0.0, "steps": 2}}
    table["train"]["prior"]["learning_rate"] = 0.03
    assert train(table, tmp_path / "tiny")
    found = lines(tmp_path / "tiny", "prior")
    assert 5 < len(found) < MOST
    *_, before, last = [line["validation_loss"] for line in found[4::5]]
    assert last >= before
    gains = sum(found[-1][f"validation_gain_layer_{i}"] for i in range(2))
    assert last == pytest.approx(-gains)


def test_a_prior_that_learns_otherwise_or_a_run_without_a_held_out_part_logs_none(tmp_path):
    assert train(tiny(data={"validation": 0.1}), tmp_path / "joint" / "tiny")
    assert train(held_out(0.0), tmp_path / "none" / "tiny")
    for name in ("joint", "none"):
        assert not any(LOGGED & set(line) for line in log(tmp_path / name / "tiny"))


def test_the_logged_numbers_are_those_of_the_averaged_weights_on_held_out_images(whole):
    run = read_run(whole)
    splits, noise = Digits(validation=0.1, binarize="target").splits(), Noise(0, "train", "validation", "stage-1")
    images = splits["validation"]
    batches = Splits(run.experiment.data, splits).held_out(0, torch.device("cpu"), torch.float32)
    model = model_of(whole).eval()
    backbone, prior, positive, negative = model.backbone.folded(), model.prior, [], []
    with torch.no_grad():
        for first in range(0, len(images), 128):
            batch, here = batches.in_order(first, min(128, len(images) - first)), noise.at(first)
            positive.append(prior.tilt(backbone.infer(batch, here.derive("posterior")).latents).sum(1))
            u = prior.root.sample(backbone, len(batch.x), here.derive("prior", "base")).u
            negative.append(prior.tilt(backbone.latents(u)).sum(1))
    positive, negative = torch.cat(positive), torch.cat(negative)
    assert len(positive) == len(images) == 150
    last = lines(whole)[-1]
    assert last["validation_loss"] == pytest.approx(float(bce(positive, negative)), rel=1e-5)
    assert last["validation_nats"] == pytest.approx(float(certified_nats(positive, negative)), abs=1e-5)
    wins = (positive[:, None] > negative[None]).double().mean()
    assert last["validation_auroc"] == pytest.approx(float(wins), abs=1e-4)


def test_validating_changes_no_weight(tmp_path, whole):
    assert train(held_out(run={"log_every": 100}), tmp_path / "tiny")
    assert all(torch.equal(x, y) for *_, x, y in pairs(newest(tmp_path / "tiny"), newest(whole)))


def test_a_prior_of_the_default_stage_is_validated_if_it_learns_by_contrast():
    class Contrastive(JointPrior):
        def contrasted(self, backbone, latents, noise):
            return Contrasted(latents, latents, lambda at: self.tilt(at).sum(1))

    plain = Joint().build(ReferenceBackbone())
    asked = Contrastive(plain.root, plain.energy, plain.sampler)
    assert plain.stages()[-1].contrasted is None
    assert asked.stages()[-1].contrasted is not None


# ---------------------------------------------------------------- what is held out


class Poisoned(ArrayImages):
    """Images of which some must not be read any more once they are listed."""

    forbidden = frozenset()

    def read(self, indices):
        assert not self.forbidden & set(indices.tolist()), "a held-out image was read"
        return super().read(indices)


def test_training_never_reads_a_held_out_image(tmp_path, monkeypatch):
    source = Digits.source

    def poisoned(self, split):
        images = source(self, split)
        kind = Poisoned if split == "train" else ArrayImages
        return kind(images.pixels, images.labels, images.classes)

    held = set(Digits(validation=0.5).splits()["validation"].index.tolist())
    monkeypatch.setattr(Digits, "source", poisoned)
    monkeypatch.setattr(phase_run.Validation, "of", lambda *arguments: None)
    prepare = pipeline_prepare(monkeypatch, held)
    cache = str(tmp_path / "cache")
    assert train(held_out(0.5, train={"posterior_draws": 2}, run={"cache_folder": cache}), tmp_path / "tiny")
    assert prepare == [len(held)]


def pipeline_prepare(monkeypatch, held):
    """Forbid the held-out images from the moment that training starts; the list says that it did."""
    from hebm import pipeline

    said, batches = [], pipeline.make_batches

    def forbidding(*arguments):
        monkeypatch.setattr(Poisoned, "forbidden", frozenset(held))
        said.append(len(held))
        return batches(*arguments)

    monkeypatch.setattr(pipeline, "make_batches", forbidding)
    return said


def test_a_run_does_not_resume_with_another_fraction(tmp_path):
    assert not train(held_out(), tmp_path / "tiny", stop_after=2)
    with pytest.raises(CheckpointError, match=r"data\.validation: 0\.1 → 0\.2"):
        train(held_out(0.2), tmp_path / "tiny")


# ---------------------------------------------------------------- when training ends


def overfitting():
    """A wide ratio on one fixed draw of few images: its own loss falls to the end, that of other images does not."""
    optimization = {"steps": MOST, "patience": 5, "learning_rate": 1e-2, "schedule": "constant", "ema": 0, "warmup": 0}
    return held_out(
        0.5,
        prior={"energy": {"width": 64}},
        data={"limit": 64, "batch_size": 32, "binarize": "off", "flip": False},
        train={"prior": optimization, "posterior_draws": 1},
    )


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    folder = tmp_path_factory.mktemp("early") / "tiny"
    assert train(overfitting(), folder)
    return folder


def test_training_ends_where_the_held_out_loss_no_longer_falls(early):
    found = lines(early)
    assert 5 < len(found) < MOST
    *falling, end = [line["validation_loss"] for line in found[4::5]]
    assert end >= falling[-1]
    assert falling == sorted(falling, reverse=True)


def test_a_run_without_patience_goes_on_from_there_and_overfits(tmp_path, early):
    table = overfitting()
    table["train"]["prior"]["patience"] = 0
    assert train(table, tmp_path / "tiny")
    found, stopped = lines(tmp_path / "tiny"), lines(early)
    assert len(found) == MOST
    assert found[: len(stopped)] == stopped
    assert found[-1]["validation_loss"] > 1.2 * stopped[-1]["validation_loss"]
    first, last = (sum(line["loss"] for line in part) / 10 for part in (found[:10], found[-10:]))
    assert last < first


@pytest.mark.parametrize("offset", [-3, -1, 0])
def test_a_resumed_run_ends_at_the_same_step(tmp_path, early, offset):
    train(overfitting(), tmp_path / "tiny", stop_after=newest(early).total_step + offset)
    assert train(overfitting(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", early) == []


def test_two_processes_validate_and_end_as_one_does(tmp_path, early):
    in_two_processes(overfitting(), tmp_path / "tiny")
    one, two = lines(early), lines(tmp_path / "tiny")
    assert len(one) == len(two)
    for name in LOGGED:
        assert [line[name] for line in two] == pytest.approx([line[name] for line in one], rel=1e-3, abs=1e-4)


def test_a_held_out_loss_that_is_not_finite_ends_nothing():
    plateau = Plateau(5)
    assert [plateau.closed(loss) for loss in (2.0, math.nan, 1.0, math.inf, 1.0)] == [False] * 4 + [True]
