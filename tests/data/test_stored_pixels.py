"""Decoded images are stored once: equal to decoded ones, damaged ones decoded again, and within the limit."""

import json
import os
import pickle
import shutil
import warnings

import pytest
import torch
from click.testing import CliRunner
from real_runs import tiny, train

from hebm import pipeline
from hebm.cli.clean import command as clean
from hebm.config.experiment import Experiment
from hebm.config.settings import RunSettings
from hebm.data import stored_pixels
from hebm.data.decode import Decoder
from hebm.data.images import LazyImages
from hebm.data.stored_pixels import storing_pixels
from hebm.errors import DataError, DataWarning
from hebm.runs import open_run
from hebm.store.row_files import InFiles
from hebm_plugins.datasets import encoded_images
from hebm_plugins.datasets.image_folder import ImageFolder

N = 20


@pytest.fixture
def cache(tmp_path):
    return RunSettings(cache_folder=str(tmp_path / "cache"))


@pytest.fixture(params=["set", "set.zip", "set.tar.gz"])
def root(request, tmp_path, write_files, encode):
    return write_files(tmp_path / request.param, {f"{i}.png": encode(10 * i) for i in range(N)})


@pytest.fixture
def decodings(monkeypatch):
    """The names of decoded files."""
    names = []

    def decode(self, data, name, whole=Decoder.__call__):
        names.append(os.path.basename(name))
        return whole(self, data, name)

    monkeypatch.setattr(Decoder, "__call__", decode)
    return names


def load(root, settings, **options):
    with storing_pixels(settings):
        return ImageFolder(root=str(root), holdout=0, **options).load("train")


def pixels(images):
    return images.read(torch.arange(len(images)))


def without_cache(root, **options):
    return pixels(ImageFolder(root=str(root), holdout=0, **options).load("train"))


def entry(cache):
    (path,) = (path for path in os.scandir(os.path.join(cache.cache_folder, "images")))
    return path.path


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_the_second_load_decodes_nothing_and_every_bit_is_the_same(root, cache, decodings):
    first = load(root, cache)
    assert len(set(decodings)) == N
    decodings.clear()
    second = load(root, cache)
    assert decodings == []
    expected = without_cache(root)
    assert torch.equal(pixels(first), expected)
    assert torch.equal(pixels(second), expected)
    assert (
        first.fingerprint()
        == second.fingerprint()
        == ImageFolder(root=str(root), holdout=0).load("train").fingerprint()
    )


def test_what_does_not_fit_in_memory_is_stored_when_it_is_read(root, cache, decodings, monkeypatch):
    monkeypatch.setattr(encoded_images, "MEMORY", 100)
    images = load(root, cache)
    assert isinstance(images, LazyImages)
    images.read(torch.tensor([3, 3, 5]))
    decodings.clear()
    again = load(root, cache)
    again.read(torch.tensor([5, 3]))
    assert decodings == []
    assert torch.equal(pixels(again), without_cache(root))
    assert torch.equal(pixels(pickle.loads(pickle.dumps(again))), without_cache(root))


@pytest.mark.parametrize("memory", [100, 1 << 30], ids=["lazy", "in memory"])
def test_a_damaged_image_is_decoded_again_with_a_note_and_never_used(root, cache, decodings, monkeypatch, memory):
    monkeypatch.setattr(encoded_images, "MEMORY", memory)
    pixels(load(root, cache))
    decodings.clear()
    flip(os.path.join(entry(cache), "pixels.bin"), 3 * 8 * 8 * 7 + 5)
    with pytest.warns(DataWarning, match="1 stored image is damaged, decoded again"):
        images = pixels(load(root, cache))
    assert len(decodings) == 1
    assert torch.equal(images, without_cache(root))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(pixels(load(root, cache)), images)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete"])
@pytest.mark.parametrize("file", ["pixels.bin", "blocks", "about.json"])
@pytest.mark.filterwarnings("ignore::hebm.errors.DataWarning")
def test_no_damage_to_any_file_changes_an_image(root, cache, file, damage):
    load(root, cache)
    path = os.path.join(entry(cache), file)
    if damage == "flip":
        for at in range(0, os.path.getsize(path), 1 + os.path.getsize(path) // 12):
            flip(path, at)
            assert torch.equal(pixels(load(root, cache)), without_cache(root))
    elif damage == "delete":
        os.unlink(path)
    else:
        os.truncate(path, 0 if damage == "empty" else os.path.getsize(path) // 2)
    assert torch.equal(pixels(load(root, cache)), without_cache(root))


def test_another_shape_in_the_description_is_noticed(root, cache):
    load(root, cache)
    path = os.path.join(entry(cache), "about.json")
    with open(path) as file:
        text = json.load(file)
    text["columns"]["pixels"][0] = [3, 8, 4]
    with open(path, "w") as file:
        json.dump(text, file)
    assert torch.equal(pixels(load(root, cache)), without_cache(root))


def test_a_changed_file_is_decoded_again_even_with_its_old_time_and_size(tmp_path, cache, write_files, encode):
    root = write_files(tmp_path / "set", {f"{i}.bmp": encode(10 * i, kind="BMP") for i in range(4)})
    load(root, cache)
    path, about = root / "2.bmp", (root / "2.bmp").stat()
    path.write_bytes(encode(200, kind="BMP"))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert path.stat().st_size == about.st_size
    assert torch.equal(pixels(load(root, cache)), without_cache(root))


@pytest.mark.parametrize("options", [{"size": 4}, {"crop": 6}, {"channels": 1}, {"limit": 7}], ids=str)
def test_another_recipe_is_another_table(root, cache, options):
    load(root, cache)
    assert torch.equal(pixels(load(root, cache, **options)), without_cache(root, **options))


@pytest.mark.parametrize("memory", [100, 1 << 30], ids=["lazy", "in memory"])
@pytest.mark.filterwarnings("ignore:left out")
def test_corrupt_files_are_named_and_only_they_are_tried_again(
    tmp_path, cache, write_files, encode, decodings, monkeypatch, memory
):
    monkeypatch.setattr(encoded_images, "MEMORY", memory)
    files = {**{f"{i}.png": encode(10 * i) for i in range(N)}, "broken.png": encode(5)[:50]}
    root = write_files(tmp_path / "set", files)
    with pytest.raises(DataError, match=r"set/broken\.png: cannot be read as an image"):
        pixels(load(root, cache))
    load(root, cache, corrupt="skip")
    decodings.clear()
    with pytest.warns(DataWarning, match="left out 1 of 21 files"):
        images = load(root, cache, corrupt="skip")
    assert set(decodings) <= {"broken.png"}
    assert torch.equal(pixels(images), without_cache(root, corrupt="skip"))


def test_images_of_other_shapes_name_the_file_and_the_option(tmp_path, cache, write_files, encode):
    root = write_files(tmp_path / "set", {"0.png": encode(0), "1.png": encode(1, side=9)})
    with pytest.raises(DataError, match=r"set/1\.png: is 9×9 pixels, the first image is 8×8; set data\.size"):
        load(root, cache)


def test_beyond_the_limit_images_are_decoded_as_before_with_a_note(root, cache):
    small = RunSettings(cache_folder=cache.cache_folder, cache_limit=1e-9)
    with pytest.warns(DataWarning, match=r"decoded images are not stored: they need .* run.cache_limit is 1e-09 GiB"):
        images = load(root, small)
    assert torch.equal(pixels(images), without_cache(root))
    assert not os.path.exists(os.path.join(cache.cache_folder, "images"))


def test_a_cache_folder_that_cannot_be_made_is_a_note(root, cache):
    with open(cache.cache_folder, "w"):
        pass
    with pytest.warns(DataWarning, match="decoded images are not stored: cannot write"):
        images = load(root, cache)
    assert torch.equal(pixels(images), without_cache(root))


@pytest.mark.parametrize("memory", [100, 1 << 30], ids=["lazy", "in memory"])
def test_a_disk_that_fills_up_is_a_note(root, cache, monkeypatch, memory):
    def write(self, block, rows, whole=InFiles.write):
        if block == 5:
            raise stored_pixels.CheckpointError("cannot write: No space left on device")
        whole(self, block, rows)

    monkeypatch.setattr(encoded_images, "MEMORY", memory)
    monkeypatch.setattr(InFiles, "write", write)
    with pytest.warns(DataWarning, match="decoded images are not stored: cannot write: No space left"):
        images = pixels(load(root, cache))
    assert torch.equal(images, without_cache(root))


def test_a_table_that_is_removed_while_it_is_used_is_a_note(root, cache, monkeypatch):
    monkeypatch.setattr(encoded_images, "MEMORY", 100)
    images = load(root, cache)
    images.read(torch.tensor([1]))
    shutil.rmtree(cache.cache_folder)
    with pytest.warns(DataWarning, match="decoded images are not stored: cannot write"):
        assert torch.equal(pixels(images), without_cache(root))


def test_nothing_is_stored_without_the_context_or_with_cache_off(root, cache):
    ImageFolder(root=str(root)).load("train")
    load(root, cache, cache=False)
    assert not os.path.exists(cache.cache_folder)


def test_a_run_stores_the_images_of_its_splits_in_its_cache_folder(root, tmp_path, decodings):
    data = {"type": "image-folder", "root": str(root), "size": 8, "batch_size": 4, "holdout": 0.25}
    table = tiny(run={"cache_folder": str(tmp_path / "cache")})
    experiment = Experiment.from_table({**table, "data": data})
    first = pipeline.assemble(experiment).manifest["data"]
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 2
    decodings.clear()
    assert pipeline.assemble(experiment).manifest["data"] == first
    assert decodings == []


def test_hebm_clean_lists_and_removes_stored_images(root, cache):
    load(root, cache)
    listed = CliRunner().invoke(clean, [cache.cache_folder, "--kind", "images", "--remove"])
    assert f"images/{root.name}-" in listed.output
    assert "removed 1 entry" in listed.output
    assert torch.equal(pixels(load(root, cache)), without_cache(root))


@pytest.mark.parametrize("root", ["set"], indirect=True)
def test_an_analysis_stores_the_images_of_the_data_set_that_it_loads(root, tmp_path):
    assert train(tiny(run={"cache_folder": str(tmp_path / "cache")}), tmp_path / "tiny")
    outside = {"type": "image-folder", "root": str(root), "size": 8, "channels": 1, "holdout": 0.5}
    changes = {f"ood.data.{key}": value for key, value in outside.items()}
    open_run(tmp_path / "tiny").analyse("ood", {**changes, "ood.images": 4}, progress=False)
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 1
