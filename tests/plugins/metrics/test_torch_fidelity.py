from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from PIL import Image
from tiny_models import LinearBackbone, ShiftedPrior, numbers, tiny_evaluation

from hebm.errors import ConfigError
from hebm.evaluation.extractors import Extractor
from hebm.evaluation.result import evaluate
from hebm_plugins.extractors.inception import Inception
from hebm_plugins.metrics.inception import FID, KID, InceptionScore


@pytest.fixture
def weights(inception_weights):
    """An Inception file with seeded random weights."""
    return inception_weights


def inception_evaluation(tmp_path, weights, **settings):
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    return tiny_evaluation(tmp_path, extractors=(Inception(weights=str(weights), sha256=sha256),), **settings)


def as_pngs(pixels, folder):
    folder.mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image[0].numpy()).save(folder / f"{i:05d}.png")
    return str(folder)


def fidelity(tmp_path, weights, evaluation, *options):
    """torch-fidelity's own command on PNGs of the same images."""
    folders = [as_pngs(evaluation.pixels(kind), tmp_path / kind) for kind in ("prior", "data")]
    command = [sys.executable, "-m", "torch_fidelity.fidelity", "--cpu", "--json", "--silent", "--no-cache"]
    command += ["--feature-extractor-weights-path", str(weights), "--input1", folders[0], "--input2", folders[1]]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_kid_and_inception_score_equal_torch_fidelitys_command(tmp_path, weights):
    metrics = (KID(subsets=4, subset_size=5), InceptionScore(splits=2))
    evaluation = inception_evaluation(tmp_path, weights, samples=6, metrics=metrics)
    found = evaluate(evaluation)
    options = ["--kid", "--kid-subsets", "4", "--kid-subset-size", "5", "--isc", "--isc-splits", "2"]
    expected = fidelity(tmp_path, weights, evaluation, *options)
    assert found.get("kid", "prior").value == pytest.approx(
        expected["kernel_inception_distance_mean"], rel=1e-4, abs=1e-7
    )
    assert found.get("kid-std", "prior").value == pytest.approx(
        expected["kernel_inception_distance_std"], rel=1e-4, abs=1e-7
    )
    assert found.get("inception-score", "prior").value == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert found.get("inception-score-std", "prior").value == pytest.approx(
        expected["inception_score_std"], rel=1e-4, abs=1e-7
    )
    assert found.extractors["inception"]["standard"] is False
    assert found.get("kid", "prior").conditions == {"extractor": "inception", "subsets": 4, "subset_size": 5}


@pytest.mark.slow
def test_fid_equals_torch_fidelitys_command(tmp_path, weights):
    evaluation = inception_evaluation(tmp_path, weights, samples=64, metrics=(FID(),))
    found = evaluate(evaluation).get("fid", "prior").value
    expected = fidelity(tmp_path, weights, evaluation, "--fid")["frechet_inception_distance"]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert evaluation.distance("prior") == pytest.approx(expected, rel=1e-3, abs=1e-5)


class RawPixels(Extractor):
    """The pixels themselves, in Inception's place: what FID does with features, without their cost."""

    name = "inception"
    widths = {"features": 64, "logits": 64}
    sha256 = "none"

    def __call__(self, pixels):
        flat = pixels.flatten(1).float() / 255
        return {"features": flat, "logits": flat}


def test_fid_is_the_frechet_distance_of_inceptions_features(tmp_path):
    evaluation = tiny_evaluation(tmp_path, extractors=(Inception(),), metrics=(FID(),))
    evaluation.extractors["inception"] = RawPixels()
    found = numbers(evaluate(evaluation).measurements)
    assert found["fid.prior"] == pytest.approx(evaluation.distance("prior"), rel=1e-4)
    assert found["fid.reconstruction"] < found["fid.prior"] < found["fid.gaussian"]


def test_kid_of_too_few_images_names_its_option(tmp_path):
    prior = ShiftedPrior(LinearBackbone().layout, 1.0)
    with pytest.raises(ConfigError, match="subset_size = 300"):
        KID().compute(tiny_evaluation(tmp_path, prior=prior))


def test_the_error_of_kid_is_the_deviation_over_subsets_by_the_root_of_their_number(tmp_path):
    def measured(**options):
        evaluation = tiny_evaluation(tmp_path, extractors=(Inception(),), metrics=(KID(**options),))
        evaluation.extractors["inception"] = RawPixels()
        found = evaluate(evaluation)
        return found.get("kid", "prior"), found.get("kid-std", "prior")

    kid, deviation = measured(subsets=9, subset_size=100)
    assert kid.error == pytest.approx(deviation.value / 3)
    assert kid.note.startswith("± is the standard deviation over 9 subsets / √9; the subsets share images")
    assert (deviation.error, deviation.note) == (None, "")
    assert "share images" not in measured(subsets=3, subset_size=100)[0].note
    assert measured(subsets=1, subset_size=300)[0].error is None
