import pickle

import attrs
import numpy as np
import pytest
import torch
from fast_cases import in_this_process
from PIL import Image
from real_runs import tiny
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from hebm.class_names import by_class_name
from hebm.config.experiment import Experiment
from hebm.config.live_values import with_live
from hebm.config.writing import dumps
from hebm.data.batches import Batches
from hebm.errors import ConfigError, DataError
from hebm.testing import cases, parametrize
from hebm_plugins.datasets.from_dataset import FromDataset
from hebm_plugins.datasets.tensors import Tensors

N = 40
BYTES = torch.randint(0, 256, (N, 3, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
CLASSES = torch.arange(N) % 3
BITS = torch.stack((torch.arange(N) % 2, torch.arange(N) % 5 == 0), 1)
X = BYTES.float() / 127.5 - 1


class Items(Dataset):
    """A data set of given items, which counts how often it is read."""

    def __init__(self, items, **attributes):
        self.items, self.reads = list(items), 0
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.reads += 1
        return self.items[i]


def changed(items, i, item):
    return Items([item if j == i else one for j, one in enumerate(items)])


def everything(data, split="train"):
    images = data.load(split)
    return images.read(torch.arange(len(images)))


PICTURES = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in BYTES]
GREY = [Image.fromarray(pixels[0].numpy()) for pixels in BYTES]


@parametrize(
    [
        *in_this_process(FromDataset(Items(PICTURES))),
        *in_this_process(FromDataset(TensorDataset(BYTES, CLASSES), Subset(TensorDataset(BYTES, CLASSES), range(9)))),
        *cases(FromDataset(TensorDataset(BYTES[:, 0].float() / 255, BITS), range=(0, 1), channels=3, limit=20)),
    ]
)
def test_torch_data_sets_keep_the_promises_of_a_data_set(check):
    check()


def test_it_is_found_by_its_class_name():
    assert by_class_name("FromDataset") is FromDataset


# ------------------------------------------------------------ values


WAYS = {
    "PIL": Items(PICTURES),
    "bytes": TensorDataset(BYTES),
    "arrays": Items(BYTES.numpy()),
    "lists": Items([pixels] for pixels in BYTES),
}


@pytest.mark.parametrize("way", WAYS)
def test_images_of_every_form_equal_the_same_tensors(way):
    for split in ("train", "test"):
        assert torch.equal(everything(FromDataset(WAYS[way]), split), everything(Tensors(BYTES), split))


def test_grey_images_need_no_channels():
    expected = everything(Tensors(BYTES[:, :1]))
    for items in (GREY, BYTES[:, 0], BYTES[:, :1].numpy()):
        assert torch.equal(everything(FromDataset(Items(items))), expected)


def test_black_and_white_pictures_are_black_and_white():
    bits = [picture.convert("1", dither=Image.Dither.NONE) for picture in GREY]
    data = FromDataset(Items(bits), Items(bits))
    assert torch.equal(everything(data), torch.where(BYTES[:, :1] > 127, 1.0, -1.0))


def test_floats_are_scaled_by_the_stated_range():
    floats = Items(BYTES.double() / 255)
    with pytest.raises(DataError, match=r"dataset\[0\]: holds float64.* such as range=\(0, 1\)"):
        FromDataset(floats)
    assert torch.allclose(everything(FromDataset(floats, floats, range=(0, 1))), X, atol=1e-6)


def test_a_test_set_of_its_own_is_the_test_split():
    data = FromDataset(TensorDataset(BYTES, CLASSES), TensorDataset(BYTES[:5], CLASSES[:5]))
    assert (len(data.load("train")), len(data.load("test"))) == (N, 5)
    assert torch.equal(everything(data, "test"), X[:5])


@pytest.mark.parametrize("kind", [int, np.int64, torch.tensor, lambda label: np.array(label, np.uint8)])
def test_labels_of_every_integer_form_are_classes(kind):
    data = FromDataset(Items((picture, kind(label)) for picture, label in zip(PICTURES, CLASSES.tolist(), strict=True)))
    images = data.load("train")
    assert images.classes == ("0", "1", "2")
    assert torch.equal(images.labels, CLASSES[images.index])


def test_rows_of_labels_are_attributes():
    rows = [(picture, row.tolist()) for picture, row in zip(PICTURES, BITS, strict=True)]
    images = FromDataset(Items(rows), label_names=("male", "smiling")).load("train")
    assert images.attributes == ("male", "smiling")
    assert torch.equal(images.labels, BITS[images.index])


def test_the_data_set_names_its_classes_unless_they_are_stated():
    pairs = Items(zip(PICTURES, CLASSES.tolist(), strict=True), classes=["cat", "dog", "cow"])
    assert FromDataset(pairs).load("test").classes == ("cat", "dog", "cow")
    assert FromDataset(pairs, label_names=("a", "b", "c")).load("test").classes == ("a", "b", "c")
    assert FromDataset(Items(PICTURES, classes=["cat", "dog"])).load("test").classes == ()


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_read_the_same_batches(workers):
    data = FromDataset(TensorDataset(BYTES, CLASSES), batch_size=10, workers=workers)
    batches = list(Batches(data.load("train"), data, seed=3).iterate(0, 3))
    same = Batches(data.load("train"), attrs.evolve(data, workers=0), seed=3)
    assert all(torch.equal(batch.x, same.batch(i).x) for i, batch in enumerate(batches))
    assert all(torch.equal(batch.labels, same.batch(i).labels) for i, batch in enumerate(batches))


def test_it_can_be_pickled_for_workers_that_are_not_forked():
    data = FromDataset(TensorDataset(BYTES))
    assert torch.equal(everything(pickle.loads(pickle.dumps(data))), everything(data))


# ------------------------------------------------------------ what is wrong


class Stream(IterableDataset):
    def __iter__(self):
        return iter(BYTES)


class Augmented(Items):
    """Mirrors an image each second time it is read."""

    def __getitem__(self, i):
        item = super().__getitem__(i)
        return item.flip(2) if self.reads % 2 else item


class Broken(Items):
    def __getitem__(self, i):
        if i == 7:
            raise OSError("no such file: 7.png")
        return super().__getitem__(i)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), "dataset: is an IterableDataset; .*hebm.Tensors"),
        (DataLoader(TensorDataset(BYTES)), "dataset: is a DataLoader; pass the data set in it, dataset.dataset"),
        (BYTES, "dataset: is Tensor, not a data set; pass it to hebm.Tensors"),
        (3, "dataset: has no __len__ and no __getitem__"),
        (Items([]), "dataset: has no items"),
        (Broken(BYTES), r"dataset\[7\]: cannot be read \(OSError: no such file: 7\.png\)"),
        (Items({"image": picture, "label": 1} for picture in PICTURES), "is a dict with the keys image, label; .*wrap"),
        (Items(zip(PICTURES, CLASSES, CLASSES, strict=True)), r"dataset\[0\]: is tuple; an item must be an image, or"),
        (
            changed(PICTURES, 5, PICTURES[5].convert("RGBA")),
            r'\[5\]: is a PIL image of mode RGBA; .*image.convert\("L"\)',
        ),
        (Items(BYTES.permute(0, 2, 3, 1)), r"\[0\]: has shape \(8, 8, 3\); .*channels seem to be last"),
        (Items(BYTES.flatten(1)), r"\[0\]: has shape \(192,\); expected \(H, W\)"),
        (changed(BYTES, 9, BYTES[9, :, :4]), r"\[9\]: has shape \(3, 4, 8\), the first image \(3, 8, 8\); resize"),
        (changed(BYTES, 9, X[9]), r"\[9\]: holds torch.float32, the first image torch.uint8"),
        (Items(BYTES // 128), r"dataset: holds uint8, and values run from 0 to 1; state range=\(0, 1\) for bits"),
        (Items(BYTES.long()), r"\[0\]: holds int64; convert it to uint8"),
        (Augmented(BYTES), r"\[\d+\]: changes when it is read again; .*flip=True"),
        (Items(BYTES[:1]), "one image cannot be divided"),
        (changed([(p, 1) for p in PICTURES], 3, (PICTURES[3], "cat")), r"\[3\]: its label is 'cat'; a label must be"),
        (changed([(p, 1) for p in PICTURES], 3, PICTURES[3]), r"\[3\]: its label is NoneType"),
        (changed([(p, 1) for p in PICTURES], 3, (PICTURES[3], 0.5)), r"\[3\]: its label is 0\.5"),
        (
            changed([(p, [1, 0]) for p in PICTURES], 3, (PICTURES[3], [1])),
            r"\[3\]: its label has shape \(1,\), the first",
        ),
        (Items((p, {"boxes": []}) for p in PICTURES), r"\[0\]: its label is dict"),
        (Items((p, 2 * i) for i, p in enumerate(PICTURES)), "no image has label 1; give label_names"),
    ],
)
def test_what_cannot_be_trained_on_is_an_error_when_it_is_made(dataset, message):
    with pytest.raises(DataError, match=message):
        FromDataset(dataset)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (Items(GREY), r"test: images have shape \(1, 8, 8\), those of train \(3, 8, 8\)"),
        (Items([]), "test: has no items"),
        (TensorDataset(BYTES, CLASSES), "test_labels is given without labels"),
    ],
)
def test_a_test_set_that_does_not_fit_is_named(test, message):
    with pytest.raises(DataError, match=message):
        FromDataset(Items(PICTURES), test)


def test_a_test_set_alone_is_not_enough():
    with pytest.raises(DataError, match="no training images"):
        FromDataset(None, Items(PICTURES))


def test_values_outside_of_the_range_name_the_item():
    floats = BYTES.float() / 255
    floats[4] = 1.5
    with pytest.raises(DataError, match=r"dataset\[4\]: values run from 1\.5 to 1\.5, outside of range = \(0, 1\)"):
        FromDataset(Items(floats), range=(0, 1))


# ------------------------------------------------------------ fingerprints and files


def test_the_fingerprint_is_of_pixels_and_labels():
    pairs = TensorDataset(BYTES, CLASSES)
    assert FromDataset(pairs) == FromDataset(Items(zip(PICTURES, CLASSES.tolist(), strict=True)))
    one = BYTES.clone()
    one[7, 0, 0, 0] ^= 1
    others = [
        FromDataset(pairs),
        FromDataset(TensorDataset(BYTES)),
        FromDataset(TensorDataset(one)),
        FromDataset(TensorDataset(BYTES, CLASSES.flip(0))),
        FromDataset(TensorDataset(BYTES[:30]), TensorDataset(BYTES[30:])),
        FromDataset(TensorDataset(BYTES[:29]), TensorDataset(BYTES[29:])),
    ]
    assert len({data.fingerprint for data in others}) == len(others)


def test_each_item_is_read_once_however_the_recipe_is_changed():
    dataset = Items(PICTURES)
    data = FromDataset(dataset)
    made = dataset.reads
    assert made <= N + 33  # some are read twice
    changed = attrs.evolve(data, flip=True, batch_size=3)
    read = Experiment.from_toml(dumps(attrs.evolve(Experiment.from_table(tiny()), data=changed)), "config.toml").data
    assert with_live(read, data) == changed
    assert dataset.reads == made
    images = changed.load("train")
    before = dataset.reads
    images.read(torch.tensor([3, 4]))
    assert dataset.reads == before + 2


def test_an_experiment_goes_to_toml_and_back_without_its_images():
    data = FromDataset(Items(zip(PICTURES, CLASSES.tolist(), strict=True), classes=["a", "b", "c"]))
    experiment = attrs.evolve(Experiment.from_table(tiny()), data=data)
    again = Experiment.from_toml(dumps(experiment), "config.toml")
    assert again == experiment
    with pytest.raises(DataError, match=r"came from Python \(hebm\.FromDataset, "):
        again.data.load("train")
    assert torch.equal(everything(with_live(again, experiment).data), everything(data))
    with pytest.raises(DataError, match="these are not the images of this run"):
        with_live(again.data, FromDataset(TensorDataset(255 - BYTES, CLASSES)))


def test_a_file_written_by_hand_is_told_what_to_do():
    with pytest.raises(ConfigError, match=r"data: no images: pass them in Python, hebm\.FromDataset\(dataset, …\)"):
        Experiment.from_table({**tiny(), "data": {"type": "from-dataset"}})


def test_images_that_have_changed_are_an_error_when_they_are_loaded():
    dataset = Items(BYTES.clone())
    data = FromDataset(dataset)
    dataset.items[0] = BYTES[1]
    with pytest.raises(DataError, match=r"dataset\[0\] has changed since hebm\.FromDataset\(…\) was created"):
        data.load("train")
