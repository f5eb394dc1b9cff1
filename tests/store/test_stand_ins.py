"""Harmless objects of a file come in as plain values, and none of their own code runs."""

import argparse
import io
import pathlib
from collections import Counter, OrderedDict, defaultdict
from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hebm.errors import CheckpointError
from hebm.store import foreign
from hebm.store.stand_ins import STAND_INS, plain

ALLOWED = (argparse.Namespace,)


NAMES = {
    "path": f"{pathlib.PurePosixPath.__module__}.PurePosixPath",
    "real path": f"{pathlib.PosixPath.__module__}.PosixPath",
    "windows path": "PureWindowsPath",
    "dtype": "numpy.dtype",
    "numpy type": "numpy.float32",
    "words": "numpy.ndarray",
    "objects": "numpy.ndarray",
    "device": "torch.device",
    "torch type": "torch.dtype",
    "size": "torch.Size",
    "datetime": "datetime.datetime",
    "timedelta": "datetime.timedelta",
    "attributes": "types.SimpleNamespace",
    "counter": "collections.Counter",
    "text": "numpy.str",
    "longdouble": "numpy.float128",
    "big-endian": "numpy.float64",
    "defaultdict": "numpy.int64",
}


def through_a_file(content, tmp_path, **options):
    """What is read of a content, and the notes."""
    notes = []
    torch.save(content, tmp_path / "x.pt", **options)
    return foreign.load(tmp_path / "x.pt", ALLOWED, notes.append), notes


VALUES = {
    "path": (pathlib.PurePosixPath("runs/x"), "runs/x"),
    "real path": (pathlib.Path("/tmp/x"), "/tmp/x"),
    "windows path": (pathlib.PureWindowsPath("C:/runs/x"), "C:\\runs\\x"),
    "float64": (np.float64(0.01), 0.01),
    "float32": (np.float32(0.5), 0.5),
    "longdouble": (np.longdouble(0.25), 0.25),
    "int64": (np.int64(-7), -7),
    "uint8": (np.uint8(200), 200),
    "bool": (np.bool_(True), True),
    "text": (np.str_("adä"), "adä"),
    "big-endian": (np.array([1.5], ">f8")[0], 1.5),
    "dtype": (np.dtype("float32"), "float32"),
    "numpy type": (np.float32, "numpy.float32"),
    "words": (np.array(["a", "bc"]), ["a", "bc"]),
    "objects": (np.array([None, np.int32(3)], dtype=object), [None, 3]),
    "device": (torch.device("cuda:1"), "cuda:1"),
    "torch type": (torch.bfloat16, "torch.bfloat16"),
    "datetime": (datetime(2024, 5, 6, 7, 8), "2024-05-06 07:08:00"),
    "timedelta": (timedelta(hours=30), "1 day, 6:00:00"),
    "attributes": (SimpleNamespace(a=np.int64(1)), {"a": 1}),
    "size": (torch.Size([2, 3]), (2, 3)),
    "counter": (Counter({"a": 2}), {"a": 2}),
    "defaultdict": (defaultdict(list, {"a": [np.int64(1)]}), {"a": [1]}),
}


@pytest.mark.parametrize("kind", VALUES)
def test_harmless_objects_become_plain_values_wherever_they_are(kind, tmp_path):
    given, expected = VALUES[kind]
    content = {"args": argparse.Namespace(x=given), "list": [(given, {"deep": given})]}
    found, notes = through_a_file(content, tmp_path)
    assert found == {"args": argparse.Namespace(x=expected), "list": [(expected, {"deep": expected})]}
    assert type(found["args"].x) is type(expected)
    (note,) = notes
    assert "read as plain values" in note
    assert NAMES.get(kind, f"numpy.{kind}") in note


@pytest.mark.parametrize("values", [np.arange(6, dtype=">i4").reshape(2, 3), np.asfortranarray(np.eye(3) + 1)])
def test_an_array_becomes_a_tensor_of_its_values(values, tmp_path):
    found, _ = through_a_file({"x": values}, tmp_path)
    assert found["x"].tolist() == values.tolist()


def test_a_parameter_becomes_a_tensor_without_history(tmp_path):
    found, notes = through_a_file({"w": torch.nn.Parameter(torch.ones(2))}, tmp_path)
    assert (type(found["w"]), found["w"].requires_grad, notes) == (torch.Tensor, False, [])


def test_what_is_shared_stays_shared_and_what_holds_itself_ends(tmp_path):
    both, inner = (np.int64(1), torch.Size([2])), OrderedDict(x=np.int64(2))
    inner["self"] = inner
    found, _ = through_a_file([both, both, inner, inner], tmp_path)
    assert found[:2] == [(1, (2,)), (1, (2,))]
    assert found[2] is found[3] is found[2]["self"]
    assert found[2]["x"] == 2


@pytest.mark.parametrize("value", [np.datetime64("2020-01-01"), np.zeros(2, "V3"), np.zeros(1, [("a", "i4")])])
def test_numpy_values_that_are_not_plain_are_refused_by_their_type_and_not_as_an_attack(value, tmp_path):
    with pytest.raises(CheckpointError, match="NumPy values of type") as caught:
        through_a_file({"x": value}, tmp_path)
    assert "run code" not in str(caught.value)


def test_an_expanded_tensor_that_the_file_does_not_hold_is_refused_before_it_is_used(tmp_path):
    assert through_a_file({"x": torch.zeros(1).expand(3, 3)}, tmp_path)[0]["x"].shape == (3, 3)
    with pytest.raises(CheckpointError, match=r"its tensors claim more than \d\d,\d\d\d,\d\d\d bytes"):
        through_a_file({"x": torch.zeros(1).expand(10**12)}, tmp_path)
    whole = torch.zeros(1 << 20)
    with pytest.raises(CheckpointError, match="its tensors claim more than"):
        through_a_file({"x": [whole[i:] for i in range(100)]}, tmp_path)


@pytest.mark.parametrize("call", [(int, ("7",)), (list, ([1],)), (str, ("x",))])
def test_a_type_may_be_named_but_not_called(call, tmp_path):
    class Calls:
        def __reduce__(self):
            return call

    assert through_a_file({"type": call[0]}, tmp_path)[0]["type"] == f"builtins.{call[0].__name__}"
    with pytest.raises(CheckpointError, match=f"calls builtins.{call[0].__name__}"):
        through_a_file({"x": Calls()}, tmp_path)


def test_a_stand_in_is_not_the_class_whose_name_it_has():
    real = {pathlib.PosixPath, np.dtype, np.ndarray, int, list, dict, np.float64}
    assert not real & set(STAND_INS)
    assert plain({"a": [1, "x", None]}, 0) == ({"a": [1, "x", None]}, [])


def test_arrays_are_not_larger_than_their_bytes():
    array, kind = (next(s for s in STAND_INS if s.__qualname__ == name) for name in ("_reconstruct", "dtype"))
    huge, element = array(), kind("f8", False, True)
    huge.__setstate__((1, (10**12,), element, False, b"\0" * 8))
    with pytest.raises(ValueError, match="reshape"):
        plain(huge, 100)


def test_files_of_torchs_older_format_are_read_alike(tmp_path):
    stream = io.BytesIO()
    torch.save({"a": [np.int64(3)]}, stream, _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes(stream.getvalue())
    assert foreign.load(tmp_path / "old.pt", ())["a"] == [3]
