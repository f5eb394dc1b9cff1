"""Fixtures of all tests. One thread per test process: the suite runs in as many processes as there are cores."""

import io
import os
import tempfile

import pytest
from written_images import encoded, tree, write

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=os.path.join(tempfile.gettempdir(), "hebm-tests-huggingface"))


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory):
    """A file with an Inception of seeded random weights."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("inception") / "random.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        empty = io.BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        net = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=empty)
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def make_tree():
    return tree


@pytest.fixture
def write_files():
    return write


@pytest.fixture
def encode():
    return encoded
