import numpy as np
import pytest
import torch

from hebm.errors import ConfigError, DataError
from hebm_plugins.datasets.arrays import Arrays

BYTES = np.random.default_rng(0).integers(0, 256, (12, 4, 5, 3), dtype=np.uint8)
EXPECTED = torch.from_numpy(BYTES).permute(0, 3, 1, 2).float() / 127.5 - 1


def saved(path, array, **arrays):
    if arrays:
        np.savez(path, **arrays)
    else:
        np.save(path, array)
    return str(path)


def everything(data, split="train"):
    images = data.load(split)
    return images.read(torch.arange(len(images)))


@pytest.fixture
def npy(tmp_path):
    def save(array):
        return saved(tmp_path / "a.npy", array)

    return save


RANGES = {
    "uint8": BYTES.astype(np.int64),
    "unit": BYTES / 255,
    "symmetric": BYTES.astype(np.float32) / 127.5 - 1,
}


def test_bytes_need_no_range_and_are_taken_as_they_are(npy):
    assert torch.equal(everything(Arrays(train=npy(BYTES), holdout=0)), EXPECTED)
    bits = BYTES > 99
    assert torch.equal(everything(Arrays(train=npy(bits), holdout=0)) > 0, torch.from_numpy(bits.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("kind", RANGES)
def test_the_range_of_every_other_type_is_stated(kind, npy):
    path = npy(RANGES[kind])
    x = everything(Arrays(train=path, range=kind, holdout=0))
    assert x.dtype == torch.float32
    assert torch.allclose(x, EXPECTED, atol=1e-6)
    with pytest.raises(DataError, match=r"their range cannot be told; set data\.range"):
        Arrays(train=path).load("train")


@pytest.mark.parametrize(("kind", "beyond"), [("unit", -1e-7), ("unit", 1 + 9e-5), ("symmetric", -1 - 1e-4)])
def test_what_rounding_does_beyond_a_range_is_clamped(kind, beyond, npy):
    array = RANGES[kind].astype(np.float64)
    array[0, 0, 0, 0] = beyond
    x = everything(Arrays(train=npy(array), range=kind, holdout=0))
    assert x[0, 0, 0, 0] == (-1 if beyond < 0 else 1)


def test_byte_values_saved_as_floats_need_the_option(npy):
    path = npy(BYTES.astype(np.float32))
    with pytest.raises(DataError, match=r"from 0 to 255 and are float32.* set data\.range"):
        Arrays(train=path).load("train")
    assert torch.allclose(everything(Arrays(train=path, range="uint8", holdout=0)), EXPECTED, atol=1e-6)


def test_bits_saved_as_bytes_need_the_option(npy):
    path = npy(BYTES // 128)
    with pytest.raises(DataError, match=r"from 0 to 1 and are uint8.* set data\.range"):
        Arrays(train=path).load("train")
    assert everything(Arrays(train=path, range="unit")).unique().tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("array", "declared"),
    [(BYTES / 127.5, "unit"), (BYTES / 100, "symmetric"), (BYTES.astype(int) - 3, "uint8"), (BYTES / 100, "auto")],
)
def test_a_wrong_range_names_file_values_and_option(array, declared, npy):
    with pytest.raises(DataError, match=r"a\.npy: values run from \S+ to \S+.*set data\.range"):
        Arrays(train=npy(array), range=declared).load("train")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("declared", ["auto", "unit", "symmetric", "uint8"])
def test_numbers_that_are_none_are_refused(value, declared, npy):
    array = BYTES / 255
    array[3, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"a\.npy: values run from"):
        Arrays(train=npy(array), range=declared).load("train")


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (BYTES, (3, 4, 5)),
        (BYTES.transpose(0, 3, 1, 2), (3, 4, 5)),
        (BYTES[..., 0], (1, 4, 5)),
        (BYTES[..., :1], (1, 4, 5)),
        (BYTES[:, None, ..., 0], (1, 4, 5)),
    ],
)
def test_the_layout_is_told_by_the_shape(array, shape, npy):
    assert Arrays(train=npy(array), holdout=0).load("train").shape == shape


def test_an_ambiguous_layout_needs_the_option(npy):
    path = npy(np.repeat(BYTES[:, :3, :4], 1, 0))  # 3 × 4 × 3
    with pytest.raises(DataError, match=r"\(12, 3, 4, 3\) could be either nchw or nhwc; set data\.layout"):
        Arrays(train=path).load("train")
    assert Arrays(train=path, layout="nchw").load("train").shape == (3, 4, 3)
    assert Arrays(train=path, layout="nhwc").load("train").shape == (3, 3, 4)


@pytest.mark.parametrize(
    ("array", "layout", "message"),
    [
        (np.zeros((5, 4, 4, 4), np.uint8), "auto", "neither"),
        (np.zeros((5, 4, 4, 4), np.uint8), "nhwc", "4 channels, not 1 or 3"),
        (np.zeros((5, 16), np.uint8), "auto", "neither"),
        (BYTES, "nhw", "4 axes"),
        (BYTES.astype(str), "auto", "expected numbers"),
        (BYTES.astype(complex), "auto", "expected numbers"),
    ],
)
def test_other_shapes_and_types_are_refused(array, layout, message, npy):
    with pytest.raises(DataError, match=message):
        Arrays(train=npy(array), layout=layout).load("train")


def test_images_without_pixels_are_refused(npy):
    with pytest.raises(DataError, match=r"a\.npy: shape \(5, 0, 4\) holds no values"):
        Arrays(train=npy(np.zeros((5, 0, 4), np.uint8)), range="uint8").load("train")


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (8, 8, 4)])
def test_one_image_is_not_taken_for_many(shape, npy):
    path = npy(np.full(shape, 7, np.uint8))
    with pytest.raises(
        DataError, match=rf"could be one colour image or {shape[0]} grey ones; save it as array\[None\]"
    ):
        Arrays(train=path).load("train")
    assert Arrays(train=path, layout="nhw", holdout=0).load("train").shape == (1, *shape[1:])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.array([10**10] + [0] * 11),
            "labels: run from 0 to 10000000000, but no image has label 1; give label_names",
        ),
        (np.arange(12) - 1, "labels: the lowest is -1"),
        (np.eye(12, dtype=int), r"each row has exactly one 1, which means classes"),
        (np.arange(12)[:, None] % 2, r"shape \(12, 1\): pass labels\[:, 0\]"),
    ],
)
def test_labels_that_could_mean_something_else_are_refused(labels, message, tmp_path):
    path = saved(tmp_path / "s.npz", None, train=BYTES, y=labels)
    with pytest.raises(DataError, match=rf"s\.npz: .*{message}"):
        Arrays(path=path, train_labels="y").load("train")


def test_names_of_classes_may_be_stated_also_of_those_without_images(tmp_path):
    path = saved(tmp_path / "s.npz", None, train=BYTES, y=np.arange(12) % 2 * 2)
    images = Arrays(path=path, train_labels="y", label_names=("cat", "cow", "dog")).load("train")
    assert images.classes == ("cat", "cow", "dog")
    with pytest.raises(DataError, match="highest is 2, but the 2 classes are 0 to 1"):
        Arrays(path=path, train_labels="y", label_names=("cat", "dog")).load("train")


def test_test_labels_that_training_does_not_have_are_refused(tmp_path):
    path = saved(tmp_path / "s.npz", None, train=BYTES, test=BYTES, y=np.arange(12) % 2, z=np.arange(12) % 3)
    with pytest.raises(DataError, match="test_labels: the highest is 2"):
        Arrays(path=path, test="test", train_labels="y", test_labels="z").load("train")


def test_a_pickle_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: cannot be read.*Python objects"):
        Arrays(train=str(tmp_path / "a.npy")).load("train")
    np.savez(tmp_path / "b.npz", train=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"b\.npz: cannot be read.*Python objects"):
        Arrays(path=str(tmp_path / "b.npz")).load("train")


@pytest.mark.parametrize("cut", [0, 3, 200, 600])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_truncated_file_is_a_data_error_that_names_it(kind, cut, tmp_path):
    path = tmp_path / f"a.{kind}"
    saved(path, BYTES, **({"train": BYTES} if kind == "npz" else {}))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=rf"a\.{kind}: cannot be read"):
        Arrays(train=str(path)).load("train")


def test_one_npz_holds_both_splits_and_labels_by_key(tmp_path):
    labels = np.arange(12) % 3
    path = saved(tmp_path / "set.npz", None, x=BYTES[:8], y=labels[:8], x2=BYTES[8:], y2=labels[8:])
    data = Arrays(path=path, train="x", test="x2", train_labels="y", test_labels="y2")
    train, test = data.load("train"), data.load("test")
    assert (len(train), len(test)) == (8, 4)
    assert train.classes == test.classes == ("0", "1", "2")
    assert test.labels.tolist() == labels[8:].tolist()
    assert torch.allclose(everything(data, "test"), EXPECTED[8:])
    with pytest.raises(DataError, match=r"set\.npz: has no array 'z'; set data\.train to one of: x, y, x2, y2"):
        Arrays(path=path, train="z").load("train")
    with pytest.raises(DataError, match=r"set data\.path to this file"):
        Arrays(train=path).load("train")


def test_labels_stay_with_their_images_when_a_part_is_held_out(tmp_path):
    images = np.arange(20, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2) * 10
    path = saved(tmp_path / "set.npz", None, train=images, y=np.arange(20))
    data = Arrays(path=path, train_labels="y", holdout=0.3)
    found = []
    for split, n in (("train", 14), ("test", 6)):
        x, labels = everything(data, split), data.load(split).labels
        assert len(x) == n
        assert torch.equal(((x[:, 0, 0, 0] + 1) * 12.75).round().long(), labels)
        found += labels.tolist()
    assert sorted(found) == list(range(20))


def test_labels_that_do_not_fit_are_refused(tmp_path):
    path = saved(tmp_path / "s.npz", None, train=BYTES, short=np.arange(3), soft=np.zeros((12, 2)))
    with pytest.raises(DataError, match="label"):
        Arrays(path=path, train_labels="short", holdout=0).load("train")
    with pytest.raises(DataError, match=r"s\.npz\[soft\]: labels must be"):
        Arrays(path=path, train_labels="soft").load("train")
    with pytest.raises(ConfigError, match=r"data\.test"):
        Arrays(path=path, test_labels="short").load("train")


def test_a_missing_file_says_where_it_looked(tmp_path):
    with pytest.raises(DataError, match=r"no\.npy: no such file; set data\.train"):
        Arrays(train=str(tmp_path / "no.npy")).load("train")
    with pytest.raises(DataError, match=r"no\.npz: no such file; set data\.path"):
        Arrays(path=str(tmp_path / "no.npz")).load("train")
    with pytest.raises(DataError, match=r"must be an \.npz"):
        Arrays(path=saved(tmp_path / "a.npy", BYTES)).load("train")


BITS = np.arange(24).reshape(12, 2) % 3 == 0


@pytest.mark.parametrize("values", [BITS, BITS.astype(np.uint8), 2 * BITS.astype(np.int8) - 1])
def test_labels_with_columns_are_attributes(values, tmp_path):
    path = saved(tmp_path / "set.npz", None, train=BYTES, y=values, attributes=np.array(["male", "smiling"]))
    data = Arrays(path=path, train_labels="y", holdout=0)
    images = data.load("train")
    assert images.attributes == ("male", "smiling")
    assert images.classes == ()
    assert torch.equal(images.labels[torch.arange(12)], torch.from_numpy(BITS.astype(np.int64)))


def test_attributes_without_names_are_numbered(tmp_path):
    path = saved(tmp_path / "set.npz", None, train=BYTES, y=BITS)
    assert Arrays(path=path, train_labels="y").load("train").attributes == ("0", "1")
    bits = saved(tmp_path / "bits.npy", BITS)
    assert Arrays(train=saved(tmp_path / "x.npy", BYTES), train_labels=bits).load("test").attributes == ("0", "1")


def test_names_of_attributes_beside_class_labels_do_not_matter(tmp_path):
    path = saved(tmp_path / "set.npz", None, train=BYTES, y=np.arange(12) % 2, attributes=np.arange(3))
    images = Arrays(path=path, train_labels="y").load("train")
    assert (images.classes, images.attributes) == (("0", "1"), ())


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (BITS * 2, ["a", "b"], r"\[y\]: attributes must be 0 and 1.*got 0, 2"),
        (np.arange(24).reshape(12, 2) % 3 - 1, ["a", "b"], "got -1, 0, 1"),
        (BITS, ["a", "b", "c"], r"\[attributes\]: must be an array of 2 strings"),
        (BITS, [1, 2], r"\[attributes\]: must be .* got int64"),
        (BITS[:, :, None], ["a", "b"], r"\[y\]: labels must be .*\(12, 2, 1\)"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(values, names, message, tmp_path):
    path = saved(tmp_path / "set.npz", None, train=BYTES, y=values, attributes=np.array(names))
    with pytest.raises(DataError, match=message):
        Arrays(path=path, train_labels="y").load("train")
