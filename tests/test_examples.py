"""The files in `examples` run, here with few steps."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import hebm

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """Leave out the measurements, which train a classifier."""
    monkeypatch.setattr(hebm.Run, "evaluate", lambda run: run.model.elbo(run.model.sample(4)))


def main_of(name):
    return runpy.run_path(str(FOLDER / name))["main"]


def test_a_vae_written_in_the_file(tmp_path):
    run = main_of("own_vae.py")(tmp_path / "own", vae_steps=30, prior_steps=4)
    assert run.reached.finished
    assert run.model.backbone.layout.shapes == ((8,),)
    assert Image.open(run.path / "samples.png").width > 50


def test_an_autoencoder_of_diffusers(tmp_path):
    pytest.importorskip("diffusers")
    run = main_of("autoencoder_kl.py")(tmp_path / "kl", autoencoder_steps=8, prior_steps=4)
    backbone = run.model.backbone
    assert backbone.layout.shapes == ((4, 4, 4),)
    assert backbone.scale.shape == (4, 1, 1)
    backbone.vae.net.save_pretrained(tmp_path / "saved")
    again = main_of("autoencoder_kl.py")(tmp_path / "again", str(tmp_path / "saved"), prior_steps=4)
    assert again.experiment.backbone.fingerprint == run.experiment.backbone.fingerprint


def test_a_hierarchy_of_three_layers(tmp_path):
    """In a process of its own, since the file registers its backbone."""
    code = (
        f"import hebm, runpy; main = runpy.run_path({str(FOLDER / 'three_layers.py')!r})['main']; "
        "hebm.Run.evaluate = lambda run: run.reached.finished; main('three', steps=6)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"
    assert Image.open(tmp_path / "three" / "samples.png").width > 50
