import multiprocessing
import os
import signal

import pytest
import torch

from hebm.config.recipes import recipe
from hebm.data.batches import Batches
from hebm.data.dataset_recipe import ImageData
from hebm.data.images import ArrayImages, Images
from hebm.errors import ConfigError, DataError


@recipe
class Numbered(ImageData):
    """A set of 37 images."""

    def source(self, split):
        generator = torch.Generator().manual_seed(1)
        pixels = torch.randint(0, 256, (37, 1, 3, 5), generator=generator).to(torch.uint8)
        return ArrayImages(pixels, torch.arange(37) % 4, tuple("abcd"))


def make(seed=0, training=True, rows=None, dtype=torch.float32, **fields):
    data = Numbered(**{"batch_size": 12, **fields})
    return Batches(data.load("train"), data, seed, training=training, rows=rows, dtype=dtype)


def same(a, b):
    labels = (a.labels is None and b.labels is None) or torch.equal(a.labels, b.labels)
    return labels and all(torch.equal(getattr(a, k), getattr(b, k)) for k in ("x", "target", "index"))


def joined(batches):
    return [torch.cat([getattr(b, k) for b in batches]) for k in ("x", "target", "labels", "index")]


def test_every_epoch_visits_every_image_once_across_batch_borders():
    index = torch.cat([make().batch(step).index for step in range(37)])  # 12 epochs
    epochs = index.view(12, 37)
    assert all(torch.equal(epoch.sort().values, torch.arange(37)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_a_batch_is_a_function_of_seed_and_step_whenever_it_is_asked_for():
    settings = {"flip": True, "binarize": "target"}
    walked = [make(**settings).batch(step) for step in range(8)]
    one = make(**settings)
    for step in (7, 0, 3, 3, 5):
        assert same(one.batch(step), walked[step])
    assert not torch.equal(make(seed=1, **settings).batch(0).index, walked[0].index)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_processes_rows_make_the_whole_batch(world):
    settings = {"flip": True, "binarize": "target"}
    for step in (0, 3, 9):
        whole = make(**settings).batch(step)
        parts = [make(rows=(rank, world), **settings).batch(step) for rank in range(world)]
        assert all(map(torch.equal, joined(parts), joined([whole])))


def test_micro_batches_make_the_process_s_rows():
    process = make(rows=(1, 2), flip=True, binarize="both")
    parts = [process.batch(4, part, 3) for part in range(3)]
    assert all(map(torch.equal, joined(parts), joined([process.batch(4)])))
    assert torch.equal(make(rows=slice(6, 12), flip=True, binarize="both").batch(4).x, process.batch(4).x)


def test_labels_and_index_belong_to_the_images():
    batch = make().batch(2)
    images = Numbered().load("train")
    assert torch.equal(batch.x, images.read(batch.index))
    assert torch.equal(batch.labels, batch.index % 4)


def test_processes_and_micro_batches_must_divide_the_batch():
    with pytest.raises(ConfigError, match=r"data\.batch_size = 12 .* 5 processes"):
        make(rows=(0, 5))
    with pytest.raises(ConfigError, match=r"12 rows .* 5 micro-batches"):
        make().batch(0, 0, 5)


def test_fewer_images_than_a_batch_names_the_option():
    with pytest.raises(
        DataError, match=r"37 image\(s\) cannot fill a batch of 40; lower data\.batch_size to at most 37"
    ):
        make(batch_size=40)
    assert make(batch_size=40, training=False).batch(0).x.shape[0] == 37


def test_flips_mirror_about_half_of_the_images_left_to_right():
    flipped, plain = make(flip=True), make()
    count = 0
    for step in range(20):
        a, b = flipped.batch(step), plain.batch(step)
        for x, y in zip(a.x, b.x, strict=True):
            mirrored = torch.equal(x, y.flip(2))
            assert mirrored or torch.equal(x, y)
            count += mirrored
        assert a.target is a.x
    assert 80 < count < 160  # of 240: five standard deviations


def test_binarisation_is_drawn_anew_with_the_pixel_s_brightness():
    batches = make(batch_size=37, binarize="target")
    x = Numbered().load("train").read(torch.arange(37))
    total, draws = torch.zeros_like(x), 400
    for step in range(draws):
        batch = batches.batch(step)
        assert set(batch.target.unique().tolist()) == {-1.0, 1.0}
        assert torch.equal(batch.x, x[batch.index])
        total[batch.index] += batch.target
    error = (total / draws - x) / ((1 - x**2).clamp(min=1e-3) / draws).sqrt()
    assert error.abs().max() < 6
    assert abs(float(error.square().mean()) - 1) < 0.3


def test_both_shows_the_encoder_what_the_likelihood_scores():
    batch = make(binarize="both").batch(0)
    assert torch.equal(batch.x, batch.target)
    assert torch.equal(batch.target, make(binarize="target").batch(0).target)


def test_evaluation_is_in_order_unflipped_and_binarised_by_image_alone():
    batches = make(training=False, flip=True, binarize="target")
    whole = batches.in_order(0, 37)
    assert torch.equal(whole.index, torch.arange(37))
    assert torch.equal(whole.x, Numbered().load("train").read(torch.arange(37)))
    assert all(map(torch.equal, joined([batches.in_order(0, 5), batches.in_order(5, 32)]), joined([whole])))
    assert all(map(torch.equal, joined([batches.batch(step) for step in range(len(batches))]), joined([whole])))
    with pytest.raises(DataError, match="the split has 37"):
        batches.in_order(30, 8)


@pytest.mark.parametrize("workers", [0, 2])
def test_iterate_gives_the_same_batches_inline_and_from_workers(workers):
    batches = make(workers=workers, flip=True, binarize="target")
    found = list(batches.iterate(3, 7, parts=2))
    expected = [batches.batch(step, part, 2) for step in range(3, 7) for part in range(2)]
    assert len(found) == 8
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    assert list(batches.iterate(5, 5)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generator_is_neither_read_nor_written(workers):
    def run(seed):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found = list(make(workers=workers, flip=True, binarize="both").iterate(0, 3))
        assert torch.equal(torch.get_rng_state(), before)
        return found

    assert all(same(a, b) for a, b in zip(run(1), run(2), strict=True))


class _Broken(Images):
    shape = (1, 2, 2)

    def __len__(self):
        return 20

    def read(self, indices):
        if 7 in indices.tolist():
            raise DataError("image 7 is broken")
        return torch.zeros(len(indices), *self.shape)

    def fingerprint(self):
        return ""


def test_an_error_in_a_worker_reaches_the_user_without_a_traceback():
    batches = Batches(_Broken(), Numbered(batch_size=5, workers=1), seed=0)
    with pytest.raises(DataError) as caught:
        list(batches.iterate(0, 4))
    assert str(caught.value) == "image 7 is broken"
    assert batches.in_order(8, 2).labels is None


def test_workers_outlive_a_signal_to_the_whole_group():
    walk = make(workers=1).iterate(0, 40)
    next(walk)
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(worker.pid, number)
    assert len(list(walk)) == 39


def test_dtype_is_the_run_s():
    batch = make(dtype=torch.float64, binarize="target").batch(0)
    assert batch.x.dtype == batch.target.dtype == torch.float64
    assert torch.equal(batch.x, make(binarize="target").batch(0).x.double())


def test_attributes_come_with_their_images():
    images = Numbered().load("train")
    bits = torch.stack([images.labels == 1, images.labels == 2], dim=1).long()
    attributed = Batches(ArrayImages(images.pixels, bits, attributes=("one", "two")), Numbered(batch_size=12), seed=0)
    for step in range(4):
        assert torch.equal(attributed.batch(step).labels, bits[make().batch(step).index])
