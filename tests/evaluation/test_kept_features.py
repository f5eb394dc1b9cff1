"""Features are computed once for all evaluations that see the same images, and each batch survives a kill."""

from __future__ import annotations

import os
import threading

import pytest
import torch
from tiny_models import LinearBackbone, RootPrior, ShiftedPrior, TinyData, gathering, tiny_evaluation

from hebm.errors import NonFiniteError
from hebm.evaluation.image_identity import ImageSources
from hebm.evaluation.kept_features import FeatureBatch, FeatureStore
from hebm.testing.evaluations import StandIn
from hebm.training.listeners import Listener

SHARED = ("data", "reconstruction", "gaussian", ("gaussian", 0.7))
KINDS = (*SHARED, "prior")


class Counting(LinearBackbone):
    """Counts the images that it decodes."""

    decoded = 0

    def likelihood(self, latents):
        self.decoded += len(latents.u)
        return super().likelihood(latents)


class Diagnosed(ShiftedPrior):
    """Reports a number for each draw; the run is interrupted where it says so."""

    def __init__(self, shift, stop_at=None, **options):
        super().__init__(LinearBackbone().layout, shift, **options)
        self.stop_at = stop_at

    def shifted(self, at, noise, request):
        if noise.start == self.stop_at:
            raise KeyboardInterrupt
        moved = super().shifted(at, noise, request)
        return moved.moved(moved.u, {"weight": noise.start + torch.arange(len(at.u))})


def measuring(tmp_path, shift=1.0, prior=None, name="classifier", **options):
    """An evaluation of five batches whose features are kept, with a small extractor; its backbone counts."""
    sources = options.pop("sources", ImageSources(prior={"shift": shift}))
    store = options.pop("store", FeatureStore(tmp_path / "features"))
    options = {"backbone": Counting(), "batch_size": 64, "extractors": (), **options}
    evaluation = tiny_evaluation(tmp_path, prior or Diagnosed(shift), store=store, sources=sources, **options)
    evaluation.extractors["classifier"] = StandIn(name, 2)
    return evaluation


def decoded(evaluation, *kinds):
    """How many images the backbone decodes when features of these kinds are asked for."""
    before = evaluation.model.backbone.decoded
    [evaluation.features(kind) for kind in kinds]
    return evaluation.model.backbone.decoded - before


def test_a_second_prior_on_a_backbone_decodes_nothing_but_its_own_draws(tmp_path):
    first, second = measuring(tmp_path, 1.0), measuring(tmp_path, 2.0)
    assert decoded(first, *KINDS) == 4 * 300
    assert decoded(second, *SHARED) == 0
    assert all(torch.equal(first.features(kind), second.features(kind)) for kind in SHARED)
    assert decoded(second, "prior") == 300
    assert not torch.equal(first.features("prior"), second.features("prior"))
    assert second.distance("gaussian") == first.distance("gaussian")


def other_weights():
    backbone = Counting()
    backbone.out.data *= 0.9
    return backbone


def with_a_buffer():
    backbone = Counting()
    backbone.register_buffer("statistic", torch.ones(3))
    return backbone


@pytest.mark.parametrize(
    ("kinds", "change"),
    [
        (("reconstruction", "gaussian", "prior"), lambda: {"seed": 1}),
        (("reconstruction", "gaussian", "prior"), lambda: {"decode": "sample"}),
        (("reconstruction", "gaussian", "prior"), lambda: {"backbone": other_weights()}),
        (("reconstruction", "gaussian", "prior"), lambda: {"backbone": with_a_buffer()}),
        (("reconstruction", "gaussian", "prior"), lambda: {"sources": ImageSources({"mixtures": 3}, {"shift": 1.0})}),
        (("reconstruction", "gaussian", "prior"), lambda: {"sources": ImageSources(prior={"shift": 1.0}, code="x")}),
        (("reconstruction", "gaussian", "prior"), lambda: {"name": "other"}),
        (("reconstruction",), lambda: {"split": "test"}),
        (("reconstruction",), lambda: {"data": TinyData(rows=350)}),
        (("reconstruction",), lambda: {"data": TinyData(binarize="target")}),
        (("prior",), lambda: {"sources": ImageSources(prior={"shift": 2.0})}),
        (("prior",), lambda: {"after": "root"}),
        (("prior",), lambda: {"chain_steps": 3}),
    ],
)
def test_what_decides_the_images_of_a_kind_decides_which_features_are_found(tmp_path, kinds, change):
    decoded(measuring(tmp_path), "reconstruction", "gaussian", "prior")
    other = measuring(tmp_path, **change())
    for kind in ("reconstruction", "gaussian", "prior"):
        assert (decoded(other, kind) > 0) == (kind in kinds), kind


def test_reconstructions_that_depend_on_the_prior_are_its_own(tmp_path):
    class ByChain(type(measuring(tmp_path).model.scheme)):
        infers_by_q = False

    def inferring(shift):
        return measuring(tmp_path, shift, scheme=ByChain())

    assert decoded(inferring(1.0), "reconstruction") == 300
    assert decoded(inferring(2.0), "reconstruction") == 300
    assert decoded(inferring(1.0), "reconstruction") == 0


def test_a_root_priors_draws_are_the_gaussians(tmp_path):
    decoded(measuring(tmp_path), "gaussian")
    alone = measuring(tmp_path, prior=RootPrior(LinearBackbone().layout))
    assert decoded(alone, "prior") == 0


def test_an_interrupted_evaluation_goes_on_from_its_last_batch(tmp_path):
    whole = measuring(tmp_path / "whole")
    expected = whole.features("prior")
    with pytest.raises(KeyboardInterrupt):
        measuring(tmp_path, prior=Diagnosed(1.0, stop_at=192)).features("prior")
    again = measuring(tmp_path)
    assert decoded(again, "prior") == 300 - 192
    assert torch.equal(again.features("prior"), expected)
    assert again.diagnostics() == whole.diagnostics() == {"weight": 149.5}


def test_a_listener_learns_how_many_images_are_done_and_how_many_were_before(tmp_path):
    decoded(measuring(tmp_path, samples=128), "gaussian")
    heard = []

    class Hears(Listener):
        def counted(self, what, done, total):
            heard.append((what, done, total))

    evaluation = measuring(tmp_path, listener=Hears())
    decoded(evaluation, "gaussian", ("gaussian", 0.7))
    assert heard[:5] == [("gaussian", done, 300) for done in (128, 192, 256, 300)] + [
        ("gaussian at temperature 0.7", 0, 300)
    ]
    heard.clear()
    decoded(measuring(tmp_path, listener=Hears()), "gaussian")
    assert heard == [("gaussian", 300, 300)]


def test_diagnostics_of_draws_are_kept_with_their_features(tmp_path):
    first, again = measuring(tmp_path), measuring(tmp_path)
    assert decoded(first, "prior") > decoded(again, "prior") == 0
    assert again.diagnostics() == first.diagnostics() == {"weight": 149.5}


def test_more_images_go_on_after_the_full_batches_of_fewer(tmp_path):
    decoded(measuring(tmp_path, samples=128), "prior", "gaussian")
    more = measuring(tmp_path)
    assert decoded(more, "prior", "gaussian") == 2 * (300 - 128)
    assert torch.equal(more.features("prior"), measuring(tmp_path / "alone").features("prior"))


def test_a_second_extractor_is_measured_on_the_same_draws_and_kept_by_itself(tmp_path):
    decoded(measuring(tmp_path), "prior")
    other = measuring(tmp_path, name="other")
    assert decoded(other, "prior") == 300
    assert torch.equal(other.features("prior"), measuring(tmp_path / "alone", name="other").features("prior"))
    assert decoded(measuring(tmp_path, name="other"), "prior") == 0


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-9] + b"x" + data[-8:], lambda _: b""])
def test_a_damaged_batch_is_made_again(tmp_path, damage):
    expected = measuring(tmp_path).features("prior")
    (file,) = (tmp_path / "features").glob("prior-*/00000064-64.safetensors")
    file.write_bytes(damage(file.read_bytes()))
    again = measuring(tmp_path)
    assert decoded(again, "prior") == 64
    assert torch.equal(again.features("prior"), expected)
    assert decoded(measuring(tmp_path), "prior") == 0


def test_images_that_are_not_finite_are_refused_again_without_drawing_them(tmp_path):
    for expected in (300, 0):
        evaluation = measuring(tmp_path, prior=Diagnosed(1.0, broken=[3, 70, 299]))
        with pytest.raises(NonFiniteError, match="3 of 300 images of kind 'prior'"):
            evaluation.features("prior")
        assert evaluation.model.backbone.decoded == expected


def test_several_processes_find_what_one_process_kept_and_the_other_way_round(tmp_path):
    expected = measuring(tmp_path).features("prior")
    found = {}

    def process(rank, gather):
        shared = measuring(tmp_path, world=2, rank=rank, gather=gather)
        found[rank] = decoded(shared, "prior", "gaussian"), shared.features("prior")

    threads = [threading.Thread(target=process, args=pair) for pair in enumerate(gathering(2))]
    [thread.start() for thread in threads]
    [thread.join(timeout=120) for thread in threads]
    assert found[0][0] + found[1][0] == 300  # the Gaussian's alone
    assert all(torch.equal(features, expected) for _, features in found.values())
    assert decoded(measuring(tmp_path), "gaussian") == 0


def test_distances_need_no_features_once_the_moments_are_kept(tmp_path):
    first = measuring(tmp_path)
    expected = [first.distance(kind) for kind in ("gaussian", ("gaussian", 0.7), "prior")]
    for file in (tmp_path / "features").glob("g*/0*.safetensors"):
        file.unlink()
    again = measuring(tmp_path)
    assert [again.distance(kind) for kind in ("gaussian", ("gaussian", 0.7), "prior")] == expected
    assert again.model.backbone.decoded == 0
    assert again.diagnostics() == {"weight": 149.5}
    assert decoded(measuring(tmp_path, samples=128), "gaussian") == 128  # other moments


def test_processes_that_do_not_find_the_same_files_measure_the_same(tmp_path):
    expected = measuring(tmp_path / "0").distance("gaussian")
    found = {}

    def process(rank, gather):
        store = FeatureStore(tmp_path / str(rank) / "features")
        found[rank] = measuring(tmp_path, world=2, rank=rank, gather=gather, store=store).distance("gaussian")

    threads = [threading.Thread(target=process, args=pair) for pair in enumerate(gathering(2))]
    [thread.start() for thread in threads]
    [thread.join(timeout=120) for thread in threads]
    assert found == {0: expected, 1: expected}


def test_a_folder_that_cannot_be_written_to_costs_time_alone(tmp_path, caplog):
    (tmp_path / "features").write_text("a file")
    evaluation = measuring(tmp_path)
    assert torch.equal(evaluation.features("prior"), measuring(tmp_path / "other").features("prior"))
    assert "cannot be stored and will be computed again" in caplog.text


def batch(value):
    return FeatureBatch({"features": torch.full((64, 4), value)}, torch.ones(64, dtype=torch.bool), {})


def test_batches_that_were_not_used_for_the_longest_time_make_room(tmp_path):
    kept = FeatureStore(tmp_path).of("prior", {"seed": 0})
    for number in range(3):
        kept.write(64 * number, 64, batch(float(number)))
    files = sorted(tmp_path.rglob("*.safetensors"))
    for age, file in zip((20, 10, 30), files, strict=True):  # the second was used last
        os.utime(file, (1e9 - age, 1e9 - age))
    assert kept.read(0, 64) is not None
    size = files[0].stat().st_size
    small = FeatureStore(tmp_path, 3.5 * size / 2**30).of("prior", {"seed": 0})
    small.write(192, 64, batch(3.0))
    assert [small.read(start, 64) is not None for start in (0, 64, 128, 192)] == [True, True, False, True]


def test_a_batch_that_is_larger_than_the_limit_removes_nothing_and_is_not_kept(tmp_path):
    FeatureStore(tmp_path).of("prior", {}).write(0, 64, batch(0.0))
    none = FeatureStore(tmp_path, 1e-9).of("prior", {})
    none.write(64, 64, batch(1.0))
    assert none.read(0, 64) is not None
    assert none.read(64, 64) is None
