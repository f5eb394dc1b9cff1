"""The files in `examples` run as they are, here with few steps."""

import runpy
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
    assert run.model.backbone.layout.shapes == ((16,),)
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
