import pickle

import attrs
import numpy as np
import pytest
import torch
from fast_cases import in_this_process
from real_runs import Recording, hebm, tiny

from hebm import locked_runs, pipeline
from hebm.class_names import by_class_name
from hebm.config.experiment import Experiment
from hebm.config.live_values import with_live
from hebm.config.writing import dumps
from hebm.data.batches import Batches
from hebm.errors import CheckpointError, ConfigError, DataError
from hebm.store.run_folder import RunFolder
from hebm.testing import cases, parametrize
from hebm_plugins.datasets.arrays import Arrays
from hebm_plugins.datasets.tensors import Tensors

N = 150
BYTES = torch.randint(0, 256, (N, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
CLASSES = torch.arange(N) % 3
BITS = torch.stack((torch.arange(N) % 2, torch.arange(N) % 5 == 0), 1)
X = BYTES.float() / 127.5 - 1


def everything(data, split="train"):
    images = data.load(split)
    return images.read(torch.arange(len(images)))


@parametrize(
    [
        *in_this_process(Tensors(BYTES)),
        *in_this_process(Tensors(BYTES[:, 0].double() / 255, BYTES[:20, 0].double() / 255, range=(0, 1), channels=3)),
        *in_this_process(
            Tensors(BYTES, BYTES[:9], CLASSES, CLASSES[:9], label_names=("a", "b", "c"), limit=5, without=("b",))
        ),
        *cases(Tensors(BYTES.numpy(), labels=BITS.numpy())),
    ]
)
def test_tensors_keep_the_promises_of_a_data_set(check):
    check()


def test_it_is_found_by_its_class_name():
    assert by_class_name("Tensors") is Tensors


# ------------------------------------------------------------ values


def test_given_splits_are_read_as_they_are():
    data = Tensors(BYTES[10:], BYTES[:10], CLASSES[10:], CLASSES[:10])
    assert torch.equal(everything(data), X[10:])
    assert torch.equal(everything(data, "test"), X[:10])
    assert torch.equal(data.load("train").labels, CLASSES[10:])
    assert torch.equal(data.load("test").labels, CLASSES[:10])
    assert data.load("test").classes == ("0", "1", "2")


def test_bytes_and_floats_with_their_ranges_are_the_same_images():
    test = BYTES[:10]
    for pixels, stated in ((BYTES.double() / 255, (0, 1)), (X, (-1, 1)), (BYTES.float(), (0, 255))):
        data = Tensors(pixels, pixels[:10], range=stated)
        assert torch.allclose(everything(data), everything(Tensors(BYTES, test)), atol=1e-6)


def test_the_memory_that_is_passed_is_not_copied():
    data = Tensors(BYTES, BYTES[:10])
    assert data.load("train").pixels.data_ptr() == BYTES.data_ptr()
    assert data.load("train").pixels.dtype == torch.uint8


def test_a_tenth_is_held_out_with_its_labels_by_its_position_alone():
    data = Tensors(BYTES, labels=CLASSES)
    train, test = data.load("train"), data.load("test")
    assert (len(train), len(test)) == (135, 15)
    together = torch.cat((train.index, test.index))
    assert together.sort().values.tolist() == list(range(N))
    for images in (train, test):
        assert torch.equal(images.read(torch.arange(len(images))), X[images.index])
        assert torch.equal(images.labels, CLASSES[images.index])
    assert torch.equal(Tensors(255 - BYTES).load("test").index, test.index)


def test_the_held_out_images_are_those_of_arrays(tmp_path):
    np.save(tmp_path / "x.npy", BYTES.numpy())
    arrays = Arrays(train=str(tmp_path / "x.npy"), layout="nchw")
    for split in ("train", "test"):
        assert torch.equal(everything(arrays, split), everything(Tensors(BYTES), split))


def test_attributes_are_named_and_chosen():
    data = Tensors(BYTES, labels=BITS, label_names=("male", "smiling"), attributes=("smiling",))
    assert data.load("train").attributes == ("smiling",)
    assert torch.equal(data.load("test").labels[:, 0], BITS[data.load("test").images.index, 1])


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_read_the_same_batches(workers):
    data = Tensors(BYTES, labels=CLASSES, batch_size=10, workers=workers)
    batches = list(Batches(data.load("train"), data, seed=3).iterate(0, 3))
    same = Batches(data.load("train"), attrs.evolve(data, workers=0), seed=3)
    assert all(torch.equal(batch.x, same.batch(i).x) for i, batch in enumerate(batches))
    assert all(torch.equal(batch.labels, same.batch(i).labels) for i, batch in enumerate(batches))


def test_it_can_be_pickled_for_workers_that_are_not_forked():
    assert torch.equal(everything(pickle.loads(pickle.dumps(Tensors(BYTES)))), everything(Tensors(BYTES)))


# ------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("arguments", "keys", "message"),
    [
        ((None, BYTES), {}, "no training images"),
        ((BYTES[:1],), {}, "one image cannot be divided into"),
        ((BYTES, BYTES[:, :1]), {}, r"test: images have shape \(1, 8, 8\), those of train \(3, 8, 8\)"),
        ((BYTES, X), {"range": (-1, 255)}, "test: holds torch.float32, train torch.uint8"),
        ((BYTES, None, CLASSES[:5]), {}, "labels: 5 labels for the 150 images of train"),
        ((BYTES, BYTES[:9], CLASSES, CLASSES), {}, "test_labels: 150 labels for the 9 images of test"),
        ((BYTES, None, CLASSES, CLASSES), {}, "test_labels is given without test"),
        ((BYTES, None, CLASSES.float()), {}, r"labels: holds torch.float32; .*labels\.long\(\)"),
        ((BYTES, None, CLASSES.bfloat16()), {}, r"labels: holds torch.bfloat16"),
        ((BYTES, None, CLASSES.view(-1, 1, 1)), {}, r"labels must be \(N,\) integers.* shape \(150, 1, 1\)"),
        ((BYTES, None, 3 * BITS), {}, "attributes must be 0 and 1"),
        ((BYTES, None, CLASSES - 1), {}, "the lowest is -1"),
        ((X,), {}, "state which values are black and white"),
    ],
)
def test_what_does_not_fit_is_an_error_when_it_is_made(arguments, keys, message):
    with pytest.raises(DataError, match=f"^Tensors: .*{message}"):
        Tensors(*arguments, **keys)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(DataError) as raised:
        Tensors(X, BYTES.permute(0, 2, 3, 1), CLASSES.float(), [1])
    assert [line.split(": ")[1] for line in str(raised.value).split("\n")] == ["train", "test", "labels", "test_labels"]


def test_a_range_that_goes_down_is_a_configuration_error():
    with pytest.raises(ConfigError, match=r"range = \(1, 0\)"):
        Tensors(X, range=(1, 0))


# ------------------------------------------------------------ fingerprints and files


def test_the_fingerprint_is_of_values_and_not_of_how_they_are_held():
    same = [
        Tensors(BYTES, labels=CLASSES),
        Tensors(BYTES.numpy(), labels=CLASSES.numpy().astype(np.uint8)),
        Tensors(BYTES.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), labels=CLASSES),
    ]
    assert len(set(same)) == 1
    grey = BYTES[:, :1]
    assert Tensors(grey) == Tensors(grey[:, 0])


def test_other_pixels_types_labels_or_splits_have_other_fingerprints():
    one = BYTES.clone()
    one[7, 0, 0, 0] ^= 1
    others = [
        Tensors(BYTES),
        Tensors(one),
        Tensors(BYTES.float(), range=(0, 255)),
        Tensors(BYTES.reshape(N, 3, 4, 16)),
        Tensors(BYTES, labels=CLASSES),
        Tensors(BYTES, labels=1 - CLASSES % 2),
        Tensors(BYTES[:100], BYTES[100:]),
        Tensors(BYTES[:99], BYTES[99:]),
    ]
    assert len({data.fingerprint for data in others}) == len(others)


def test_a_range_is_in_the_fingerprint_of_a_split():
    one, other = (Tensors(BYTES % 2, range=stated).load("train") for stated in ((0, 1), (0, 255)))
    assert one.fingerprint() != other.fingerprint()


def experiment(data):
    return attrs.evolve(Experiment.from_table(tiny()), data=data)


def test_an_experiment_goes_to_toml_and_back_without_its_images():
    data = Tensors(BYTES.float(), labels=CLASSES, range=(0, 255), batch_size=7)
    text = dumps(experiment(data))
    assert 'type = "tensors"\nbatch_size = 7\n' in text
    assert f'fingerprint = "{data.fingerprint}"' in text
    again = Experiment.from_toml(text, "config.toml")
    assert again == experiment(data)
    assert again.data.train is None
    with pytest.raises(
        DataError, match=r"came from Python \(hebm\.Tensors, .*hebm\.open_run\(PATH, data=hebm\.Tensors"
    ):
        again.data.load("train")
    assert torch.equal(everything(with_live(again, experiment(data)).data), everything(data))


def test_other_images_are_not_carried_to_a_recipe_with_a_fingerprint():
    again = Experiment.from_toml(dumps(experiment(Tensors(BYTES))), "config.toml")
    with pytest.raises(DataError, match="these are not the images of this run: their fingerprint is"):
        with_live(again, experiment(Tensors(255 - BYTES)))


def test_a_changed_key_keeps_images_and_fingerprint():
    data = Tensors(BYTES)
    changed = attrs.evolve(data, flip=True)
    assert changed.fingerprint == data.fingerprint
    assert changed.train is BYTES


def test_a_file_written_by_hand_is_told_what_to_do():
    table = tiny(data={"type": "tensors", "batch_size": 8})
    table["data"] = {"type": "tensors"}
    with pytest.raises(
        ConfigError, match=r'data: no images: pass them in Python, hebm\.Tensors.*type = "arrays" for \.npy'
    ):
        Experiment.from_table(table)


def test_images_changed_in_place_are_an_error_when_they_are_loaded():
    pixels = BYTES.clone()
    data = Tensors(pixels)
    pixels[3] = 0
    with pytest.raises(DataError, match="changed in place"):
        data.load("train")
    with pytest.raises(DataError, match="unchanged in place"):
        attrs.evolve(data, flip=True)


# ------------------------------------------------------------ runs


def trained(data, folder):
    one = experiment(data)
    accelerator = pipeline.make_accelerator(one.run)
    assembly = pipeline.assemble(one)
    run = RunFolder(folder)
    with locked_runs.locked_for_training(run, assembly, accelerator, allow=False) as (run_id, _):
        pipeline.train(assembly, run, run_id, accelerator, Recording())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "tiny"
    trained(Tensors(BYTES, labels=CLASSES, batch_size=128), folder)
    return folder


def test_a_run_resumes_with_the_same_tensors_and_refuses_others(run):
    trained(Tensors(BYTES.clone(), labels=CLASSES.int(), batch_size=128), run)
    with pytest.raises(CheckpointError, match=r"data\.fingerprint: '.*' → '"):
        trained(Tensors(255 - BYTES, labels=CLASSES, batch_size=128), run)


SLOW_COMMANDS = (pytest.param(command, marks=pytest.mark.slow) for command in ("check", "analyse"))


@pytest.mark.parametrize("command", ["run", "evaluate", *SLOW_COMMANDS])
def test_a_command_that_needs_the_images_says_how_to_pass_them(command, run):
    process = hebm(command, run / "config.toml" if command in ("run", "check") else run)
    assert process.status == 1
    assert "came from Python" in process.stderr
    assert "hebm.open_run(PATH, data=hebm.Tensors(…))" in process.stderr


def test_commands_that_need_no_images_work(run, tmp_path):
    assert hebm("verify", run).status == 0
    process = hebm("sample", run, "-n", 3, "-o", tmp_path / "x")
    assert process.status == 0, process.stderr
    process = hebm("detect", run, tmp_path / "x", "-o", tmp_path / "scores.csv")
    assert process.status == 0, process.stderr
    assert "note: no percentiles, since the run's test images cannot be read: data: these images came" in process.stderr
    assert "percentile" not in (tmp_path / "scores.csv").read_text()
    process = hebm("detect", run, tmp_path / "x", "--threshold", 1)
    assert process.status == 1
    assert "these images came from Python" in process.stderr
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 4
