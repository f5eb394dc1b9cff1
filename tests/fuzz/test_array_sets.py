"""Whatever an array or a table of labels holds: images in [−1, 1] with labels that have names, or an error."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from quiet import QUIET
from written_images import encoded, write

from hebm.errors import HebmError
from hebm_plugins.datasets.arrays import Arrays
from hebm_plugins.datasets.image_folder import ImageFolder

SIDES = st.sampled_from([0, 1, 2, 3, 4, 5])
SHAPES = st.lists(SIDES, min_size=0, max_size=5).map(tuple)
TYPES = ["u1", "i1", "u2", "i8", ">i4", "f4", ">f8", "f2", "?", "c8", "U3", "M8[s]"]
ARRAYS = SHAPES.flatmap(lambda shape: st.sampled_from(TYPES).flatmap(lambda kind: hn.arrays(np.dtype(kind), shape)))
LABELS = st.none() | st.integers(1, 3).flatmap(
    lambda axes: hn.arrays(
        st.sampled_from([np.dtype(kind) for kind in ("i8", "u1", "?", "f8")]),
        hn.array_shapes(min_dims=axes, max_dims=axes, min_side=0, max_side=5),
    )
)
OPTIONS = st.fixed_dictionaries(
    {
        "layout": st.sampled_from(["auto", "nhwc", "nchw", "nhw"]),
        "range": st.sampled_from(["auto", "uint8", "unit", "symmetric"]),
        "holdout": st.sampled_from([0.0, 0.1, 0.9]),
    }
)
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=4)
TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=4).map(",".join), max_size=8).map("\n".join)


def loaded(data):
    """The images of both splits; None if they are refused."""
    try:
        return [data.load(split) for split in ("train", "test")]
    except HebmError:
        return None


def sound(images):
    x = images.read(torch.arange(len(images)))
    assert x.dtype == torch.float32
    assert x.shape == (len(images), *images.shape)
    assert bool(((x >= -1) & (x <= 1)).all())
    if images.labels is not None:
        names = images.attributes or images.classes
        assert len(images.labels) == len(images)
        assert int(images.labels.max()) < (2 if images.attributes else len(names))
        assert len(names) <= 64


def an_array_is_sound(values, labels, options, compressed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        named = {"train": values} | ({} if labels is None else {"y": labels})
        (np.savez_compressed if compressed else np.savez)(path, **named)
        data = Arrays(path=str(path), train_labels=None if labels is None else "y", **options)
        for images in loaded(data) or ():
            sound(images)


def a_table_is_sound(text, header):
    with tempfile.TemporaryDirectory() as folder:
        files = {f"{i}.png": encoded(9 * i, side=4) for i in range(4)}
        root = write(Path(folder) / "set", {**files, "l.csv": f"{header}{text}".encode()})
        for images in loaded(ImageFolder(root=str(root), labels="l.csv")) or ():
            sound(images)


HEADERS = st.sampled_from(["", "file,kind\n", "file,a,b\n", "file,kind\n0.png,x\n1.png,x\n2.png,y\n"])


@given(ARRAYS, LABELS, OPTIONS, st.booleans())
@settings(max_examples=100, **QUIET)
def test_arrays_give_sound_images_or_an_error(values, labels, options, compressed):
    an_array_is_sound(values, labels, options, compressed)


@given(TABLES, HEADERS)
@settings(max_examples=100, **QUIET)
def test_label_tables_give_sound_labels_or_an_error(text, header):
    a_table_is_sound(text, header)


@pytest.mark.slow
@given(ARRAYS, LABELS, OPTIONS, st.booleans())
@settings(max_examples=3000, **QUIET)
def test_thousands_of_arrays_give_sound_images_or_an_error(values, labels, options, compressed):
    an_array_is_sound(values, labels, options, compressed)


@pytest.mark.slow
@given(TABLES, HEADERS)
@settings(max_examples=3000, **QUIET)
def test_thousands_of_label_tables_give_sound_labels_or_an_error(text, header):
    a_table_is_sound(text, header)
