"""Stored posterior draws: m of each image, inferred once and shared by runs. Only what is read of them is stored."""

import shutil

import pytest
import torch
from real_runs import differences, in_two_processes, log, tiny, train
from torch import nn

from hebm.data.batches import Batches
from hebm.errors import ConfigError
from hebm.interfaces import EnergyFn, Posterior, Progress, Stage
from hebm.latents import LatentLayout
from hebm.noise import Noise
from hebm.pixel_levels import from_pixels, to_pixels
from hebm.store.row_cache import RowCache
from hebm.testing.subjects import SMALL_IMAGES, ReferenceBackbone, image_set, points, seeded
from hebm.training.kept_latents import Kept, columns_of
from hebm.training.phases import Supplies
from hebm.training.posterior_draws import PosteriorDraws
from hebm.training.two_phase import PriorPhase, TwoPhase
from hebm_plugins.datasets.digits import Digits
from hebm_plugins.two_layer.backbone import InferringTwoLayer

N, ROWS = 150, 40
EVERYTHING = Kept(frozenset({"latents", "posterior", "image", "features"}))


class Counting(ReferenceBackbone):
    """Counts the images that it infers."""

    inferred = 0

    def infer(self, batch, noise):
        self.inferred += len(batch.x)
        return super().infer(batch, noise)


@pytest.fixture
def backbone():
    return seeded(Counting).eval().requires_grad_(False)


def batches(seed=0, rows=None, **options):
    recipe = Digits(batch_size=ROWS, **options)
    return Batches(image_set(SMALL_IMAGES, N), recipe, seed, rows=rows)


def stored(backbone, count=1, kept=EVERYTHING, cache=None, **options):
    backbone.inferred = 0
    found = PosteriorDraws(backbone, batches(**options), kept, count, cache or RowCache())
    backbone.inferred -= 1  # one image shows what there is to keep
    return found


def step_of(draws, step, part=0, parts=1):
    batch = draws.batches.batch(step, part, parts)
    at = Noise(0, "step", step, start=part * ROWS // parts)
    return batch, draws.of(batch, at, Progress(step, 100, ROWS))


def test_a_draw_is_what_the_backbone_infers_with_what_is_seen_of_it(backbone):
    draws = stored(backbone)
    batch, found = step_of(draws, 0)
    noise = Noise(0, "posterior-draws", 0)
    whole = backbone.infer(draws.batches.of_epoch(0, 0, 64), noise)
    assert torch.equal(batch.index, draws.batches.order(0)[:ROWS])
    for name in ("log_q", "kl"):
        assert torch.equal(getattr(found, name), getattr(whole, name)[:ROWS])
    for a, b in zip(found.q_u, whole.q_u, strict=True):
        assert torch.equal(a.mean, b.mean[:ROWS])
        assert torch.equal(a.std, b.std[:ROWS])
    assert torch.equal(found.latents.u, whole.latents.u[:ROWS])
    for a, b in zip(found.latents.z, whole.latents.z, strict=True):
        torch.testing.assert_close(a, b[:ROWS])
    for a, b in zip(found.latents.features, backbone.decoder_features(whole.latents), strict=True):
        torch.testing.assert_close(a, b[:ROWS])
    image = backbone.likelihood(whole.latents).mean[:ROWS]
    assert torch.equal(found.latents.image, from_pixels(to_pixels(image), image))


def test_8_bits_are_half_a_level_from_the_image_and_stay_what_they_are():
    image = points(500, 3).tanh()
    rounded = from_pixels(to_pixels(image), image)
    assert float((rounded - image).abs().max()) <= 0.5 / 127.5 + 1e-6
    assert torch.equal(to_pixels(rounded), to_pixels(image))
    assert to_pixels(torch.tensor([-1.0, 1.0, 1.0001])).tolist() == [0, 255, 255]


def draws_by_image(draws, steps):
    """Every u that was taken of each image, in order."""
    found = {}
    for step in steps:
        batch, posterior = step_of(draws, step)
        for i, u in zip(batch.index.tolist(), posterior.latents.u, strict=True):
            found.setdefault(i, []).append(tuple(u.tolist()))
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
def test_epoch_e_takes_draw_e_mod_m_of_every_image(backbone, count):
    taken = draws_by_image(stored(backbone, count), range(15))  # four epochs of 150
    assert len(taken) == N
    for each in taken.values():
        assert len(set(each[:count])) == count
        assert each == [each[e % count] for e in range(len(each))]


def test_an_image_is_inferred_once_for_each_draw_and_only_where_batches_go(backbone):
    draws = stored(backbone, 2)
    step_of(draws, 0)
    assert backbone.inferred == 64
    for step in range(40):
        step_of(draws, step)
    assert backbone.inferred == 2 * N


def test_the_draws_are_the_same_for_any_number_of_processes_and_micro_batches(backbone):
    whole = stored(backbone, 2)
    halves = [stored(backbone, 2, rows=(rank, 2)) for rank in (0, 1)]
    for step in (3, 0, 7):
        expected = step_of(whole, step)[1].latents.u
        both = []
        for rank, half in enumerate(halves):
            batch = half.batches.batch(step)
            both.append(half.of(batch, Noise(0, "s", start=rank * ROWS // 2), Progress(step, 9, ROWS)).latents.u)
        assert torch.equal(torch.cat(both), expected)
        parts = torch.cat([step_of(whole, step, part, 4)[1].latents.u for part in range(4)])
        assert torch.equal(parts, expected)


@pytest.mark.parametrize("binarize", ["target", "both"])
def test_the_flip_and_the_binarisation_of_a_draw_are_drawn_once(backbone, binarize):
    seen = batches(flip=True, binarize=binarize)
    whole, part = seen.of_epoch(1, 0, 128), seen.of_epoch(1, 64, 20)
    for a, b in zip((whole.x, whole.target, whole.index), (part.x, part.target, part.index), strict=True):
        assert torch.equal(a[64:84], b)
    plain = image_set(SMALL_IMAGES, N).read(whole.index)
    if binarize == "target":
        flipped = (whole.x != plain).flatten(1).any(1)
        assert 20 < int(flipped.sum()) < 108
        assert torch.equal(torch.where(flipped.view(-1, 1, 1, 1), plain.flip(3), plain), whole.x)
    other = seen.of_epoch(0, 0, 128)
    assert sorted(other.index.tolist()) != sorted(whole.index.tolist())


# ---------------------------------------------------------------- what is kept


class SeesOnlyImage(EnergyFn):
    sees = ("image",)

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(64, 1)

    def forward(self, latents, t=None):
        return self.net(latents.image.flatten(1)).unsqueeze(1)


def test_an_energy_of_the_image_alone_keeps_8_bits_a_pixel_and_needs_no_decoder(backbone, monkeypatch):
    kept = Kept.of(SeesOnlyImage())
    draws = stored(backbone, kept=kept)
    step_of(draws, 0)
    monkeypatch.setattr(backbone, "latents", None)
    _, found = step_of(draws, 0)
    assert found.latents.image.shape == (ROWS, *SMALL_IMAGES.shape)
    assert found.latents.u.isnan().all()
    assert len(found.latents) == ROWS
    table = draws._tables[0].table
    assert {name: (column.shape, column.dtype) for name, column in table.columns.items()} == {
        "image": (SMALL_IMAGES.shape, torch.uint8)
    }
    assert found.latents.u.untyped_storage().nbytes() == 4


def test_a_stage_that_reads_no_z_keeps_u_and_q_u_and_needs_no_decoder(backbone, monkeypatch):
    kept = Kept(frozenset({"u", "q_u"}))
    draws = stored(backbone, kept=kept)
    step_of(draws, 0)
    assert set(draws._tables[0].table.columns) == {
        "u",
        *(f"q_u.{part}.{i}" for part in ("mean", "std") for i in (0, 1)),
    }
    monkeypatch.setattr(backbone, "latents", None)
    _, found = step_of(draws, 0)
    assert found.latents.u.isfinite().all()
    assert found.latents.flat_z.isnan().all()
    assert (found.log_q, found.mean) == (None, None)


def test_what_a_stage_reads_is_what_its_energies_see_and_what_its_objective_says():
    assert Kept.by(Stage("s", SeesOnlyImage(), None)).reads == {"latents", "posterior", "image"}
    assert Kept.by(Stage("s", SeesOnlyImage(), None, reads=())).reads == {"image"}
    energy = SeesOnlyImage()
    energy.sees = ("latents", "features")
    assert Kept.of(energy).reads == {"latents", "features"}


def test_a_context_is_kept_with_the_latents():
    with_context = seeded(lambda: ReferenceBackbone(LatentLayout(((2,), (3,)), context=(2,)))).requires_grad_(False)
    at = with_context.latents(points(3, 5), points(3, 2, name="context"))
    kept = Kept(frozenset({"latents"}))
    rows = kept.packed(with_context, Posterior(at))
    assert set(columns_of(rows)) == {"u", "context"}
    again = kept.unpacked(with_context, rows, at.u).latents
    assert torch.equal(again.context, at.context)
    assert all(torch.equal(a, b) for a, b in zip(again.z, at.z, strict=True))


# ---------------------------------------------------------------- the folder


def test_runs_share_draws_whatever_m_and_batch_size(backbone, tmp_path):
    cache = RowCache(tmp_path)
    one = draws_by_image(stored(backbone, 1, cache=cache), range(8))
    two = draws_by_image(stored(backbone, 2, cache=cache), range(8))
    assert backbone.inferred == N
    assert {i: each[0] for i, each in one.items()} == {i: each[0] for i, each in two.items()}


@pytest.mark.parametrize(("change", "value"), [("seed", 1), ("flip", True), ("binarize", "both")])
def test_draws_of_another_seed_or_other_images_are_others(backbone, tmp_path, change, value):
    cache = RowCache(tmp_path)
    stored(backbone, cache=cache)
    stored(backbone, cache=cache, **{change: value})
    assert len(list(tmp_path.iterdir())) == 2


def test_weights_decide_which_draws_are_meant(backbone, tmp_path):
    def start():
        stage = Stage("s", SeesOnlyImage(), None, reads=())
        phase = PriorPhase(backbone, stage.module, stage, TwoPhase().prior, 1)
        phase.start(Noise(0, "start"), Supplies(batches(), RowCache(tmp_path)))
        return len(list(tmp_path.iterdir()))

    assert [start(), start()] == [1, 1]
    with torch.no_grad():
        backbone.generator.bias += 1e-3
    assert start() == 2


# ---------------------------------------------------------------- whole runs


def experiment(folder, **run):
    return tiny(train={"posterior_draws": 2}, run={"cache_folder": str(folder / "cache"), **run})


def inferring(monkeypatch):
    """Count the calls of the two-layer model's inference."""
    calls, plain = [], InferringTwoLayer.infer
    monkeypatch.setattr(InferringTwoLayer, "infer", lambda self, *a: calls.append(1) or plain(self, *a))
    return calls


def test_a_resumed_run_equals_an_uninterrupted_one_with_and_without_its_cache(tmp_path):
    assert train(experiment(tmp_path), tmp_path / "whole" / "tiny")
    for name, keep in (("kept", True), ("lost", False)):
        assert not train(experiment(tmp_path), tmp_path / name / "tiny", stop_after=9)
        if not keep:
            shutil.rmtree(tmp_path / "cache")
        assert train(experiment(tmp_path), tmp_path / name / "tiny")
        assert differences(tmp_path / name / "tiny", tmp_path / "whole" / "tiny") == []


def test_a_second_run_on_the_backbone_infers_nothing(tmp_path, monkeypatch):
    assert train(experiment(tmp_path), tmp_path / "first" / "tiny")
    calls = inferring(monkeypatch)
    second = experiment(tmp_path)
    second["train"]["backbone_from"] = str(tmp_path / "first" / "tiny")
    assert train(second, tmp_path / "second" / "tiny")
    assert len(calls) == 1  # for what there is to keep


def test_stored_draws_change_the_loss_and_their_number_is_no_other_run(tmp_path):
    fresh = tiny()
    assert train(fresh, tmp_path / "fresh" / "tiny")
    assert train(experiment(tmp_path), tmp_path / "stored" / "tiny")
    losses = [[line["loss"] for line in log(tmp_path / name / "tiny")] for name in ("fresh", "stored")]
    assert losses[0][:6] == losses[1][:6]  # the backbone's phase
    assert all(a != b for a, b in zip(losses[0][6:], losses[1][6:], strict=True))


def test_two_processes_share_the_draws_and_agree_with_one(tmp_path):
    in_two_processes(experiment(tmp_path / "two"), tmp_path / "two" / "tiny")
    assert train(experiment(tmp_path / "one"), tmp_path / "one" / "tiny")
    losses = [[line["loss"] for line in log(tmp_path / name / "tiny")] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(list((tmp_path / "two" / "cache" / "draws").iterdir())) == 2


def test_too_little_room_is_an_error_that_says_how_much_is_needed(tmp_path):
    with pytest.raises(ConfigError, match=r"2 × 1,\d\d\d posterior draws need .* GiB .* lower train\.posterior_draws"):
        train(experiment(tmp_path, cache_limit=1e-6), tmp_path / "tiny")
