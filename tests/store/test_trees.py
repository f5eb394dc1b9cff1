"""What is rebuilt equals what was flattened, in types and order."""

import json
import math
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch

from hebm.errors import CheckpointError
from hebm.store import trees
from hebm.store.trees import flatten, rebuild

TREES = [
    None,
    True,
    1,
    1.0,
    0.1,
    10**30,
    "",
    "lone \ud800 surrogate",
    math.inf,
    -math.inf,
    [],
    (),
    {},
    {"a": (1, [2.0, {"b": None}])},
    {3: "three", (1, 2): "pair", None: 0, True: 1},
    OrderedDict([("z", 1), ("a", {"tensor": "no tensor"})]),
    {1, 2},
    frozenset({"x"}),
    {"dict": [["a", 1]]},
]


def through_json(tree):
    plain, tensors = flatten(tree)
    return rebuild(json.loads(json.dumps(plain, allow_nan=False)), tensors)


def listed(tree):
    """The tree with everything that == overlooks: types and order."""
    if isinstance(tree, dict):
        return type(tree), [(listed(key), listed(value)) for key, value in tree.items()]
    if isinstance(tree, (list, tuple)):
        return type(tree), [listed(item) for item in tree]
    return type(tree), tree


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_every_tree_comes_back_equal_in_types_and_order(tree):
    assert listed(through_json(tree)) == listed(tree)


def test_nan_comes_back():
    assert math.isnan(through_json([math.nan])[0])


def test_tensors_come_back_in_their_places():
    tree = {"a": torch.ones(2), "b": [torch.tensor(3), {"c": torch.zeros(0)}]}
    back = through_json(tree)
    assert torch.equal(back["a"], tree["a"])
    assert torch.equal(back["b"][0], tree["b"][0])
    assert back["b"][1]["c"].shape == (0,)


def test_a_tensor_in_several_places_is_kept_once():
    tensor = torch.ones(2)
    plain, tensors = flatten([tensor, {"a": tensor}, torch.ones(2)])
    assert (plain["list"][0], list(tensors)) == ({"tensor": "0"}, ["0", "1"])
    back = rebuild(plain, tensors)
    assert back[0] is back[1]["a"]


@pytest.mark.parametrize("value", [torch.ones(2).to_sparse(), torch.ones(2, device="meta")])
def test_a_tensor_that_no_file_can_hold_is_an_error_with_its_path(value):
    with pytest.raises(CheckpointError, match=r"/a/0 is a .* tensor on (cpu|meta), which cannot be stored"):
        flatten({"a": [value]})


def test_a_small_tree_that_would_become_a_huge_text_is_refused(monkeypatch):
    monkeypatch.setattr(trees, "MOST", 1000)
    tree = ["x"]
    for _ in range(40):
        tree = [tree, tree]  # 2^40 values
    with pytest.raises(CheckpointError, match="more than 1,000 values"):
        flatten(tree)


@pytest.mark.parametrize("value", [Namespace(a=1), b"x", 1j, torch.float32, object()])
def test_what_cannot_be_kept_is_an_error_with_its_path(value):
    with pytest.raises(CheckpointError, match=r"/args/1 is a .*cannot be stored"):
        flatten({"args": [0, value]})


def test_a_collection_that_holds_itself_is_an_error():
    ring = [1]
    ring.append({"again": ring})
    with pytest.raises(CheckpointError, match="contains itself"):
        flatten({"ring": ring})


@pytest.mark.parametrize(
    "tree", [{"a": 1, "b": 2}, {"nothing": []}, {"tensor": "9"}, {"dict": [1]}, [1], {"float": "x"}]
)
def test_json_of_another_origin_is_an_error(tree):
    with pytest.raises(CheckpointError, match="stored content of an imported file is damaged"):
        rebuild(tree, {})
