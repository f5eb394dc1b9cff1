"""Weights as people have them: wrapped modules, other precisions, numbers as tensors."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from hebm.published_weights import in_single_precision, number, unwrapped


@pytest.mark.parametrize(
    "name",
    [
        "module.stem.bias",
        "_orig_mod.stem.bias",
        "module._orig_mod.stem.bias",
        "_orig_mod.module.module.stem.bias",
        "_fsdp_wrapped_module.stem._fsdp_wrapped_module.bias",
        "stem._checkpoint_wrapped_module.bias",
    ],
)
def test_parts_of_names_that_wrappers_add_are_left_out_and_noted(name):
    state, notes = unwrapped({name: 1, "x": 2})
    assert state == OrderedDict([("stem.bias", 1), ("x", 2)])
    parts = {part for part in name.split(".") if part not in ("stem", "bias")}
    assert len(notes) == len(parts)
    assert all(any(repr(part) in note and "1 of 2 names" in note for note in notes) for part in parts)


def test_names_without_wrappers_stay_as_they_are():
    assert unwrapped({"modules.a": 1, "a.my_module": 2}) == ({"modules.a": 1, "a.my_module": 2}, [])


def test_a_name_that_exists_without_the_wrapper_too_is_kept_whole():
    state, notes = unwrapped({"module.a": 1, "a": 2, "module.b": 3, "_orig_mod.b": 4})
    assert state == {"module.a": 1, "a": 2, "b": 3, "_orig_mod.b": 4}
    assert notes == ["1 of 4 names of weights have the part 'module' of DataParallel or DDP, which was removed"]


def test_versions_of_modules_lose_the_wrapper_too():
    state = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.BatchNorm1d(2))).state_dict()
    own = torch.nn.Sequential(torch.nn.BatchNorm1d(2)).state_dict()
    found, _ = unwrapped(state)
    assert list(found) == list(own)
    assert found._metadata == own._metadata


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_single_and_whole_numbers_stay(dtype):
    shared = torch.tensor([1.5, -2.0], dtype=dtype)
    state, notes = in_single_precision({"a": shared, "b": shared, "n": torch.tensor(3)})
    assert notes == [f"weights are {str(dtype)[6:]}: converted to float32"]
    assert state["a"].dtype == torch.float32
    assert state["a"].tolist() == [1.5, -2.0]
    assert state["a"] is state["b"]
    assert state["n"].dtype == torch.int64


def test_a_mixture_of_precisions_is_counted():
    state, notes = in_single_precision({"a": torch.ones(1).half(), "b": torch.ones(1), "c": torch.ones(1).double()})
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert notes == [
        "1 of 3 weights are float16: converted to float32",
        "1 of 3 weights are float64: converted to float32",
    ]


def test_weights_in_single_precision_are_not_copied_or_noted():
    weight = torch.ones(2)
    state, notes = in_single_precision({"a": weight, "b": [1]})
    assert (state["a"] is weight, state["b"], notes) == (True, [1], [])


@pytest.mark.parametrize(("value", "expected"), [(torch.tensor([7]), 7), (torch.tensor(0.5), 0.5), (3, 3), ("x", "x")])
def test_a_tensor_of_one_element_is_a_number(value, expected):
    assert number(value) == expected
    assert type(number(value)) is type(expected)


def test_a_tensor_of_several_elements_is_not():
    assert isinstance(number(torch.from_numpy(np.ones(2))), torch.Tensor)
