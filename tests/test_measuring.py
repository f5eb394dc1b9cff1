"""Images that no run made are measured as torch-fidelity measures them, and refused where they do not fit.

A seeded stand-in with six features takes the place of the classifier, which would have to be trained.
"""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

import hebm
from hebm.data.sample_files import read_samples
from hebm.data.splits import Splits
from hebm.errors import ConfigError, DataError, NeedsModelError
from hebm.evaluation.given_images import GivenImages
from hebm.evaluation.kinds import DATA, SAMPLES
from hebm.evaluation.result import evaluate
from hebm.evaluation.settings import EvaluateSettings
from hebm.pixel_levels import to_pixels
from hebm.testing.evaluations import FEATURES, StandIn
from hebm_plugins.extractors.classifier import Classifier
from hebm_plugins.extractors.inception import Inception
from hebm_plugins.metrics.distances import FrechetDistance
from hebm_plugins.metrics.inception import KID
from hebm_plugins.metrics.prdc import PRDC

SHAPE = (1, 8, 8)
RUN = """
[data]
type = "digits"
[backbone]
type = "two-layer"
[prior]
type = "joint"
[evaluate]
samples = 120
"""


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    for recipe, name in ((Classifier, "classifier"), (Inception, "inception")):
        monkeypatch.setattr(recipe, "check_weights", lambda self: None)
        monkeypatch.setattr(recipe, "build", lambda self, context, name=name: StandIn(name, 10))


@pytest.fixture(scope="module")
def pixels():
    """100 digits of the test split, uint8 `(100, 1, 8, 8)`."""
    return to_pixels(hebm.Digits().load("test").read(torch.arange(100))).numpy()


@pytest.fixture
def samples(tmp_path, pixels):
    path = tmp_path / "samples.npz"
    np.savez(path, arr_0=pixels)
    return path


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(f'{RUN}[run]\ncache_folder = "{tmp_path}/cache"\n')
    return path


def _png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def _write_folder(folder, pixels):
    folder.mkdir()
    for i, image in enumerate(pixels):
        (folder / f"{i:03}.png").write_bytes(_png(image[0]))
    return folder


def _write_zip(path, pixels):
    with zipfile.ZipFile(path, "w") as archive:
        for i, image in enumerate(pixels):
            archive.writestr(f"images/{i:03}.png", _png(image[0]))
    return path


def test_a_folder_a_zip_and_both_layouts_of_arrays_are_the_same_images(tmp_path, pixels):
    np.savez(tmp_path / "first.npz", arr_0=pixels)
    np.savez(tmp_path / "last.npz", images=pixels.transpose(0, 2, 3, 1))
    sources = [tmp_path / "first.npz", tmp_path / "last.npz"]
    sources += [_write_folder(tmp_path / "folder", pixels), _write_zip(tmp_path / "all.zip", pixels), pixels]
    for source in sources:
        read = read_samples(source, SHAPE)
        assert np.array_equal(to_pixels(read.read(torch.arange(len(read)))).numpy(), pixels), source


def test_distances_precision_and_recall_are_those_of_torch_fidelity_on_the_same_features(pixels):
    data = hebm.Digits()
    splits = Splits(data, {split: data.load(split) for split in ("train", "test")})
    metrics = FrechetDistance(), PRDC(), KID(subsets=5, subset_size=40)
    settings = EvaluateSettings(samples=100, metrics=metrics)
    evaluation = GivenImages(read_samples(pixels, SHAPE), splits, settings, 0, torch.device("cpu"))
    found = evaluate(evaluation)
    given, real = evaluation.features(SAMPLES), evaluation.features(DATA)
    statistics = fid_features_to_statistics(given), fid_features_to_statistics(real)
    distance = fid_statistics_to_metric(*statistics, False)[KEY_METRIC_FID]
    theirs = prc_features_to_metric(
        given, real, prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, verbose=False
    )
    assert found.get("fd", SAMPLES).value == pytest.approx(distance, rel=1e-5)
    assert found.get("precision", SAMPLES).value == pytest.approx(theirs[KEY_METRIC_PRECISION])
    assert found.get("recall", SAMPLES).value == pytest.approx(theirs[KEY_METRIC_RECALL])
    both = (evaluation.features(kind, extractor="inception") for kind in (SAMPLES, DATA))
    kid = kid_features_to_metric(*both, kid_subsets=5, kid_subset_size=40, rng_seed=2020, verbose=False)
    assert found.get("kid", SAMPLES).value == pytest.approx(kid[KEY_METRIC_KID_MEAN])


def test_a_run_file_is_enough_and_its_default_metrics_are_those_that_need_no_model(samples, run_file):
    found = hebm.measure(samples, run_file, changes=["evaluate.split=test"])
    assert [each.name for each in found] == ["fd"]
    assert found.get("fd", SAMPLES).error > 0
    assert "images measured" in str(found)
    assert (found.results.conditions["n"], found.results.conditions["n_reference"]) == (100, 120)


def test_metrics_of_images_measure_them_and_those_of_models_are_refused_with_the_others_named(samples, run_file):
    change = 'evaluate.metrics=[{type = "two-sample", epochs = 1}, "prdc", "class-shares"]'
    found = hebm.measure(samples, run_file, changes=[change, "evaluate.samples=200"])
    assert found.get("class-shares", SAMPLES).found
    assert found.get("two-sample-auroc", SAMPLES, "images").conditions["pairs"] == 25
    every = '["gap-closed", "fd", "likelihood", "active-units", "label-agreement", "prdc"]'
    with pytest.raises(
        ConfigError, match=r'gap-closed needs a trained model .*use evaluate\.metrics = \["fd", "prdc"\]'
    ):
        hebm.measure(samples, run_file, changes=[f"evaluate.metrics={every}"])
    with pytest.raises(NeedsModelError, match="two-sample needs a trained model"):
        hebm.measure(samples, run_file, changes=['evaluate.metrics=[{type = "two-sample", space = "latents"}]'])


def test_a_change_of_what_is_not_used_is_refused(samples, run_file):
    with pytest.raises(ConfigError, match=r"prior\.energy.*without a model; set only keys of data"):
        hebm.measure(samples, run_file, changes=["prior.energy=mlp"])


def test_stored_moments_replace_the_reference_and_have_pytorch_fids_keys(tmp_path, samples, run_file):
    stats = tmp_path / "stats.npz"
    hebm.measure(samples, run_file, save_stats=stats)
    with np.load(stats) as file:
        assert (file["mu"].shape, file["sigma"].shape) == ((FEATURES,), (FEATURES, FEATURES))
    found = hebm.measure(samples, run_file, stats=stats)
    assert found.get("frechet-distance", SAMPLES).value == pytest.approx(0, abs=1e-6)
    assert "reference moments in stats.npz" in str(found)
    np.savez(stats, mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(DataError, match=r"has 6 features; set evaluate\.extractors"):
        hebm.measure(samples, run_file, stats=stats)


@pytest.mark.parametrize(
    ("shape", "message"), [((5, 3, 8, 8), "has 3 channel"), ((5, 1, 9, 8), "is 8×9 pixels, the data's images are 8×8")]
)
def test_other_sizes_and_channels_are_refused(tmp_path, shape, message):
    array = np.zeros(shape, np.uint8)
    np.savez(tmp_path / "array.npz", arr_0=array)
    with pytest.raises(DataError, match=message):
        read_samples(tmp_path / "array.npz", SHAPE)
    (tmp_path / "image.png").write_bytes(_png(array[0].transpose(1, 2, 0).squeeze()))
    with pytest.raises(DataError, match=message):
        read_samples(tmp_path, SHAPE).read(torch.arange(1))


@pytest.mark.parametrize("name", ["images.npz", "images.zip", "folder/0.png"])
def test_damaged_files_are_named(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match=path.name):
        read_samples(path.parent if name.startswith("folder") else path, SHAPE).read(torch.arange(1))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": np.zeros((2, 1, 8, 8))}, "float64, expected uint8"),
        ({"labels": np.zeros(2, np.uint8)}, "expected an array 'images' or 'arr_0'"),
        ({"mu": np.zeros(2), "sigma": np.eye(2)}, "give it to --stats"),
        ({"arr_0": np.array([None, {}])}, r"cannot be read as \.npy or \.npz \(it holds Python objects\)"),
    ],
)
def test_arrays_of_something_else_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "array.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_samples(tmp_path / "array.npz", SHAPE)


def test_one_image_is_too_few(run_file, pixels):
    with pytest.raises(DataError, match="1 image to measure; at least 2"):
        hebm.measure(pixels[:1], run_file)


def test_a_broken_image_is_an_error_before_anything_is_measured(tmp_path, pixels, run_file):
    folder = _write_folder(tmp_path / "folder", pixels[:70])
    (folder / "069.png").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"069\.png: cannot be read as an image"):
        hebm.measure(folder, run_file)


def test_files_that_are_left_out_are_named(tmp_path, pixels, run_file, capsys):
    folder = _write_folder(tmp_path / "folder", pixels[:70])
    (folder / ".hidden.png").write_bytes(b"")
    assert hebm.measure(folder, run_file).results.conditions["n"] == 70
    assert "left out (hidden)" in capsys.readouterr().err


def test_an_empty_folder_and_another_file_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("images")
    for name, message in (("empty", "no image files"), ("text.txt", "is not a folder"), ("none", "no such folder")):
        with pytest.raises(DataError, match=message):
            read_samples(tmp_path / name, SHAPE)


def test_features_of_the_data_are_kept_and_those_of_the_images_are_not(tmp_path, samples, run_file):
    hebm.measure(samples, run_file)
    kept = {path.name.partition("-")[0] for path in (tmp_path / "cache" / "features").iterdir()}
    assert kept == {"data"}
