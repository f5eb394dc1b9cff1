from __future__ import annotations

import pickle
import socket

import pytest
import torch
from tiny_models import tiny_evaluation

from hebm.errors import ConfigError, HebmError
from hebm.evaluation.extractors import Extractor
from hebm_plugins.extractors.inception import STANDARD, Inception
from hebm_plugins.metrics.inception import FID


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_another_files_hash_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    path, mark = tmp_path / "weights.pth", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(ConfigError, match="not opened"):
        tiny_evaluation(tmp_path, extractors=(Inception(weights=str(path)),)).extractor()
    assert not mark.exists()


def test_a_pickle_with_the_expected_hash_does_not_run(tmp_path):
    import hashlib

    path, mark = tmp_path / "weights.pth", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ConfigError, match="tensors only"):
        STANDARD.verified(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert not mark.exists()


def test_a_missing_file_names_the_option_and_the_classifier(tmp_path):
    with pytest.raises(HebmError, match=r"evaluate\.extractors = .*weights = .*classifier"):
        STANDARD.verified(tmp_path / "none.pth", STANDARD.sha256)


def test_no_network_names_the_option_and_the_classifier(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(HebmError, match=r"cannot download.*evaluate\.extractors = .*weights = .*classifier"):
        tiny_evaluation(tmp_path, extractors=(Inception(),)).extractor()


def test_the_standard_hash_is_that_of_the_files_name():
    assert f"-{STANDARD.sha256[:8]}.pth" in STANDARD.url


@pytest.mark.parametrize("of_metric", [True, False])
def test_fid_takes_the_inception_of_its_own_key_else_that_of_the_settings(tmp_path, monkeypatch, of_metric):
    class Fake(Extractor):
        name, sha256 = "inception", "none"
        widths = {"features": 64}

        def __call__(self, pixels):
            return {"features": pixels.flatten(1).float()}

    built = []
    monkeypatch.setattr(Inception, "build", lambda self, context: built.append(self) or Fake())
    own = Inception(weights="a copy")
    metric, settings = (FID(inception=own), {}) if of_metric else (FID(), {"extractors": (own,)})
    metric.compute(tiny_evaluation(tmp_path, **settings))
    assert built == [own]
