import torch
from sklearn.datasets import load_digits

from hebm_plugins.datasets import digits
from hebm_plugins.datasets.digits import Digits


def test_the_split_is_fixed_and_covers_every_digit():
    train, test = Digits().load("train"), Digits().load("test")
    assert (len(train), len(test)) == (1498, 299)
    assert train.shape == test.shape == (1, 8, 8)
    assert train.classes == tuple("0123456789")
    assert torch.bincount(test.labels).min() >= 25
    truth = load_digits()
    everything = torch.from_numpy(truth.images / 8 - 1).float()
    assert (test.read(torch.arange(299))[:, 0] - everything[5::6]).abs().max() < 0.004
    assert test.labels.tolist() == truth.target[5::6].tolist()
    assert len(train.labels) == len(truth.target) - 299


def test_its_fingerprints_are_the_same_anywhere():
    assert Digits().load("train").fingerprint() == Digits().load("train").fingerprint()
    assert Digits().load("train").fingerprint() != Digits().load("test").fingerprint()
    assert Digits().load("train").fingerprint() != Digits(limit=100).load("train").fingerprint()


def test_scikit_learn_reads_the_table_if_it_has_moved(monkeypatch):
    here = Digits().load("train")
    monkeypatch.setattr(digits, "_FILE", "moved/digits.csv.gz")
    moved = Digits().load("train")
    assert moved.fingerprint() == here.fingerprint()
