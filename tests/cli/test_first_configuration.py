"""`hebm init --data`: what is seen of images, and how a stated time decides the sizes of a run."""

import attrs
import numpy as np
import pytest
import tomli
from click.testing import CliRunner
from PIL import Image

from hebm.checking import Check
from hebm.cli import first_configuration
from hebm.cli.main import main
from hebm.config.experiment import Experiment
from hebm.data.looks import look
from hebm.errors import ConfigError, DataError
from hebm.estimates import Estimate


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def photographs(tmp_path):
    """Twelve JPEG files in two classes, coloured, of two sizes."""
    random = np.random.default_rng(0)
    for i in range(12):
        pixels = random.integers(0, 256, (48 if i else 80, 64, 3), dtype=np.uint8)
        save(tmp_path / "photos" / ("cat" if i % 2 else "dog") / f"{i}.jpg", pixels)
    return tmp_path / "photos"


@pytest.fixture
def digits(tmp_path):
    """Ten grey files whose pixels are black or white, stored in three equal channels."""
    for i in range(10):
        pixels = np.repeat(255 * (np.indices((28, 28)).sum(0) % (i + 2) == 0)[..., None], 3, axis=2)
        save(tmp_path / "digits" / f"{i}.png", pixels.astype(np.uint8))
    return tmp_path / "digits"


def test_sizes_and_colours_are_seen(photographs):
    looks = look(photographs)
    assert (looks.files, looks.side, looks.channels, looks.two_tone) == (12, 48, 3, False)
    assert str(looks) == "12 image files; 12 looked at: 64×48 to 64×80 pixels, colour"


def test_grey_images_in_three_channels_are_grey(digits):
    looks = look(digits)
    assert (looks.channels, looks.two_tone) == (1, True)
    assert str(looks) == "10 image files; 10 looked at: 28×28 pixels, grey, nearly all pixels black or white"


def test_greys_are_not_two_tone_and_mixed_colours_are_counted(digits):
    save(digits / "grey.png", np.full((28, 28), 128, np.uint8))
    assert look(digits).channels == 1
    save(digits / "red.png", np.stack([np.full((28, 28), v, np.uint8) for v in (200, 10, 10)], 2))
    looks = look(digits)
    assert looks.channels == 3
    assert not looks.two_tone
    assert "1 of 12 in colour, the others grey" in str(looks)


def test_a_damaged_file_is_counted_and_a_folder_of_nothing_else_is_an_error(digits, tmp_path):
    (digits / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert str(look(digits)).endswith("; 1 cannot be read")
    (tmp_path / "bad").mkdir()
    with pytest.raises(DataError, match="no image files; give a folder"):
        look(tmp_path / "bad")
    (tmp_path / "bad" / "train.parquet").touch()
    with pytest.raises(DataError, match=r"no image files; .* huggingface with data\.path = '.*bad'"):
        look(tmp_path / "bad")
    (tmp_path / "bad" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DataError, match="none of 1 files can be read as an image"):
        look(tmp_path / "bad")


# ---------------------------------------------------------------- time


@pytest.fixture
def machine(monkeypatch):
    """Trials on a machine where a step of 32×32 images takes 0.1 s, of the prior half of that, and a sample 10 ms."""
    tried = []

    def check(experiment, say=None):
        tried.append(experiment)
        pixels = (experiment.data.size / 32) ** 2
        phases = {
            "backbone": 0.1 * pixels * experiment.train.backbone.steps,
            "prior": 0.05 * pixels * experiment.train.prior.steps + 20,
        }
        estimate = Estimate(phases, 0.01 * pixels * experiment.evaluate.samples, 3)
        return Check((), "train: 9 images, test: 1 images", estimate, None, (), {})

    monkeypatch.setattr(first_configuration, "check", check)
    return tried


def write(path, *arguments):
    return CliRunner().invoke(main, ["init", str(path), *map(str, arguments)], catch_exceptions=False)


def test_the_file_takes_the_stated_time_and_says_what_was_seen(photographs, tmp_path, machine):
    result = write(tmp_path / "mine.toml", "--data", photographs, "--minutes", 5)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "mine.toml").read_text(encoding="utf-8")
    experiment = Experiment.load(tmp_path / "mine.toml")
    seconds = first_configuration.check(experiment).estimate.seconds
    assert 0.8 * 300 <= seconds <= 1.1 * 300
    assert (experiment.data.size, experiment.data.channels, experiment.data.binarize) == (32, 3, "off")
    assert experiment.backbone.blocks == 1
    assert "# 12 image files; 12 looked at: 64×48 to 64×80 pixels, colour\n# train: 9 images, test: 1" in text
    assert f"time of a run: {first_configuration.check(experiment).estimate}" in result.stdout
    assert machine[0].data.limit == 2000
    assert machine[1].data.limit is None


def test_more_time_makes_images_larger_but_not_larger_than_they_are(photographs, digits, tmp_path, machine):
    for source in (photographs, digits):
        write(tmp_path / f"{source.name}.toml", "--data", source, "--minutes", 600)
        assert Experiment.load(tmp_path / f"{source.name}.toml").data.size == 32
    for i in range(40):
        save(photographs / "cat" / f"large{i}.png", np.zeros((130, 140, 3), np.uint8))
    write(tmp_path / "large.toml", "--data", photographs, "--minutes", 600)
    experiment = Experiment.load(tmp_path / "large.toml")
    assert (experiment.data.size, experiment.backbone.blocks) == (128, 3)
    assert 0.8 * 36000 <= first_configuration.check(experiment).estimate.seconds <= 1.1 * 36000


def test_two_tone_images_are_binarised_and_settings_of_the_data_are_taken(digits, tmp_path, machine):
    changes = ["--set", "data.holdout=0.2", "--set", "data.limit=8", "--set", "data.size=64"]
    write(tmp_path / "d.toml", "--data", digits, *changes)
    data = Experiment.load(tmp_path / "d.toml").data
    assert (data.binarize, data.channels, data.holdout, data.limit, data.size) == ("both", 1, 0.2, 8, 64)
    assert [experiment.data.limit for experiment in machine] == [8] * len(machine)


def test_too_little_time_is_an_error_and_nothing_is_written(photographs, tmp_path, machine, monkeypatch):
    slow = attrs.evolve(first_configuration.check(Experiment.from_table(tomli.loads(SLOW))))
    monkeypatch.setattr(first_configuration, "check", lambda experiment: slow)
    result = write(tmp_path / "a.toml", "--data", photographs, "--minutes", 1)
    assert result.exit_code == 2
    assert "the smallest run of these images takes about" in result.stderr
    assert not (tmp_path / "a.toml").exists()


SLOW = """
data = { type = "image-folder", root = ".", size = 128 }
backbone.type = "nvae-tiny"
prior.type = "score"
train.backbone.steps = 9999
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--minutes", "5"), "--minutes needs --data FOLDER"),
        (("--set", "data.size=32"), "--set needs --data FOLDER"),
        (("--data", "photos", "--set", "seed=1"), "--data allows only keys of [data]; edit other keys in the file"),
        (("--data", "photos", "--set", "data.size=40"), "--data allows 32, 64, 128; edit the file for other sizes"),
        (("--data", "photos", "--plugin", "x"), "--data cannot be combined with --plugin"),
        (("--minutes", "5", "--plugin", "x"), "--minutes cannot be combined with --plugin"),
        (("--set", "data.size=32", "--plugin", "x"), "--set cannot be combined with --plugin"),
        (("--data", "missing"), "no such folder or archive"),
    ],
)
def test_options_that_do_not_fit_are_refused(photographs, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = write("x.toml", *arguments)
    assert result.exit_code == (1 if "missing" in arguments else 2)  # data that cannot be read, and a wrong command
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "x.toml").exists()


def test_images_that_are_too_small_are_refused(tmp_path):
    save(tmp_path / "tiny" / "a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(
        (ConfigError, DataError),
        match=r"a side of 8 pixels, but --data needs at least 16; .* hebm init FILE --from quickstart",
    ):
        first_configuration.first_configuration(tmp_path / "tiny", 5, "a.toml", "a", {})


@pytest.mark.slow
def test_the_written_file_is_ready_to_run(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = write("real.toml", "--data", digits, "--minutes", 3)
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(main, ["check", "real.toml"]).exit_code == 0
