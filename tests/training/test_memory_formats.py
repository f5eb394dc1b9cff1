"""The memory format of a backbone's training: chosen once, recorded, kept on resume, without effect on results."""

import copy
import json

import pytest
import torch
from real_runs import Recording, differences, newest, tiny, train
from torch import nn

from hebm.training import memory_formats
from hebm.training.memory_formats import Seconds
from hebm.training.saved_state import saved_state
from hebm_plugins.hvae.recipe import HVAE

CONVOLUTIONAL = {"backbone": {"type": "hvae", "channels": 4, "units": 8}, "train": {"prior": {"steps": 0}}}


def table(memory_format="auto", cache=None, **tables):
    made = tiny("two-phase", "joint", **copy.deepcopy({**CONVOLUTIONAL, **tables}))
    for key in set(made["backbone"]) - set(CONVOLUTIONAL["backbone"]):
        del made["backbone"][key]
    made["run"] |= {"memory_format": memory_format} | ({} if cache is None else {"cache_folder": str(cache)})
    return made


def chosen(folder):
    return saved_state(newest(folder)).memory_format


@pytest.fixture
def short(monkeypatch):
    """Measure in tiny phases too."""
    monkeypatch.setattr(memory_formats, "FEWEST_STEPS", 1)


@pytest.fixture
def measured(monkeypatch, short):
    """The measurements, which say that channels-last is twice as fast; each one is counted."""
    found = []

    def measure(run, backbone, batch):
        found.append(batch.x.shape)
        return Seconds(2.0, 1.0)

    monkeypatch.setattr(memory_formats, "_measured", measure)
    return found


def test_both_formats_train_the_same_weights_up_to_rounding(tmp_path):
    for name in memory_formats.FORMATS:
        assert train(table(name, run={"dtype": "float64"}), tmp_path / name)
        assert chosen(tmp_path / name) == name
    ours, theirs = (newest(tmp_path / name).tensors["backbone"] for name in memory_formats.FORMATS)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    assert any(tensor.ndim == 4 for tensor in ours.values())


@pytest.mark.parametrize("stop", [2, 5])
def test_a_run_in_channels_last_that_was_stopped_equals_one_that_was_not(tmp_path, stop):
    assert train(table("channels-last"), tmp_path / "whole")
    assert not train(table("channels-last"), tmp_path / "parts", stop_after=stop)
    assert train(table("channels-last"), tmp_path / "parts")
    assert differences(tmp_path / "parts", tmp_path / "whole") == []


def test_a_resumed_run_keeps_the_format_that_it_started_with(tmp_path, measured, monkeypatch):
    assert not train(table(cache=tmp_path / "cache"), tmp_path / "run", stop_after=2)
    monkeypatch.setattr(memory_formats, "_measured", lambda *_: Seconds(1.0, 2.0))
    assert train(table(cache=tmp_path / "other cache"), tmp_path / "run")
    assert chosen(tmp_path / "run") == "channels-last"


def test_a_device_is_measured_once_for_each_net_and_batch(tmp_path, measured):
    cache, listener = tmp_path / "cache", Recording()
    assert train(table(cache=cache), tmp_path / "a", listener=listener)
    assert train(table(cache=cache, seed=1), tmp_path / "b")
    assert len(measured) == 1
    assert train(table(cache=cache, data={"batch_size": 64}), tmp_path / "c")
    assert [shape[0] for shape in measured] == [128, 64]
    assert ("said", ("the backbone is trained in channels-last format, 2.00 times as fast here",)) in listener.heard
    files = sorted((cache / "memory-formats").iterdir())
    assert [json.loads(file.read_text()) for file in files] == [{"contiguous": 2.0, "channels_last": 1.0}] * 2


@pytest.mark.parametrize("content", ["", "{", '{"contiguous": "a", "channels_last": 1.0}', "[]"])
def test_a_damaged_measurement_is_measured_again(tmp_path, measured, content):
    cache = tmp_path / "cache"
    assert train(table(cache=cache), tmp_path / "a")
    (file,) = (cache / "memory-formats").iterdir()
    file.write_text(content)
    assert train(table(cache=cache), tmp_path / "b")
    assert len(measured) == 2
    assert json.loads(file.read_text()) == {"contiguous": 2.0, "channels_last": 1.0}


@pytest.mark.parametrize(("gain", "faster"), [(0.9, "contiguous"), (1.02, "contiguous"), (1.04, "channels-last")])
def test_channels_last_must_win_by_more_than_the_noise(gain, faster):
    assert Seconds(gain, 1.0).faster == faster


def test_measuring_leaves_no_trace(tmp_path, short, monkeypatch):
    times = []

    def measure(run, backbone, batch, whole=memory_formats._measured):
        times.append(whole(run, backbone, batch))
        return Seconds(1.0, 1.0)

    monkeypatch.setattr(memory_formats, "_measured", measure)
    assert train(table(cache=tmp_path / "cache"), tmp_path / "measured")
    assert train(table("contiguous"), tmp_path / "plain")
    assert differences(tmp_path / "measured", tmp_path / "plain") == []
    assert all(0 < seconds < 10 for found in times for seconds in (found.contiguous, found.channels_last))
    assert len(times) == 1


def test_short_phases_are_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_formats, "_measured", None)
    assert train(table(), tmp_path / "run")
    assert chosen(tmp_path / "run") == "contiguous"


def test_nets_without_maps_are_not_measured(tmp_path, short, monkeypatch):
    monkeypatch.setattr(memory_formats, "_measured", None)
    assert train(tiny(), tmp_path / "run")
    assert chosen(tmp_path / "run") == "contiguous"


def test_only_phases_that_train_the_backbone_choose(tmp_path):
    assert train(table("contiguous"), tmp_path / "first")
    prior_only = table("channels-last", train={"backbone_from": str(tmp_path / "first"), "prior": {"steps": 2}})
    assert train(prior_only, tmp_path / "second")
    assert chosen(tmp_path / "second") is None


@pytest.mark.parametrize(("stride", "format"), [(2, "contiguous"), (1, "channels-last")])
def test_a_net_that_onednn_may_compute_wrongly_stays_contiguous(tmp_path, measured, monkeypatch, stride, format):
    build = HVAE.build

    def with_a_convolution(self, images):
        backbone = build(self, images)
        backbone.unused = nn.Conv2d(4, 8, 1, stride)
        return backbone

    monkeypatch.setattr(HVAE, "build", with_a_convolution)
    assert train(table(cache=tmp_path / "cache"), tmp_path / "run")
    assert chosen(tmp_path / "run") == format
