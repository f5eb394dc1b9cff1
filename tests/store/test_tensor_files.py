"""Tensors come back as they were, whatever their type, stride and memory."""

import json

import pytest
import safetensors.torch
import torch

from hebm.errors import CheckpointError
from hebm.store import tensor_files


def encode(tensors, metadata=None):
    return b"".join(tensor_files.encoded(tensors, metadata))


def round_trip(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    seal = tensor_files.write(path, tensors)
    assert seal == tensor_files.seal(path.read_bytes())
    return tensor_files.decode(path, seal)


def content(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def equal(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(content(a), content(b))


shared = torch.arange(12.0).reshape(3, 4)
KINDS = {
    "0-d float": torch.tensor(0.1),
    "0-d int64": torch.tensor(2**62 + 1),
    "0-d bool": torch.tensor(True),
    "bool": torch.tensor([True, False]),
    "int8": torch.tensor([-128, 127], dtype=torch.int8),
    "uint8": torch.tensor([0, 255], dtype=torch.uint8),
    "bfloat16": torch.randn(5, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "float16": torch.tensor([65504.0, 6e-8], dtype=torch.float16),
    "unsigned": torch.tensor([2**16 - 1], dtype=torch.uint16),
    "long unsigned": torch.tensor([2**64 - 1], dtype=torch.uint64),
    "float8": torch.tensor([0.5, -448.0]).to(torch.float8_e4m3fn),
    "complex64": torch.tensor([1 - 2j]),
    "float64": torch.tensor([0.1, torch.inf, -0.0], dtype=torch.float64),
    "empty": torch.zeros(0, 3),
    "also empty": torch.zeros(0),
    "whole": shared,
    "same memory": shared,
    "transposed": shared.t(),
    "row of it": shared[1],
    "expanded": torch.ones(1, 3).expand(4, 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "": torch.ones(1),
    "имя с пробелом/…": torch.ones(1),
}


def test_every_kind_of_tensor_comes_back_equal(tmp_path):
    back = round_trip(tmp_path, KINDS)
    assert back.keys() == KINDS.keys()
    assert [name for name in KINDS if not equal(back[name], KINDS[name].detach())] == []


def test_tensors_that_shared_memory_are_apart_afterwards(tmp_path):
    back = round_trip(tmp_path, KINDS)
    back["whole"].zero_()
    assert equal(back["same memory"], shared)
    assert equal(back["row of it"], shared[1])


def test_saving_leaves_the_saved_tensor_alone(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    round_trip(tmp_path, {"w": weight, "again": weight})
    assert weight.requires_grad


def test_no_tensors_are_a_file_too(tmp_path):
    assert round_trip(tmp_path, {}) == {}


def test_nan_payloads_survive_bit_for_bit(tmp_path):
    odd = torch.tensor([0x7FC01234, 0x7F800001], dtype=torch.int32).view(torch.float32)
    assert torch.equal(round_trip(tmp_path, {"x": odd})["x"].view(torch.int32), odd.view(torch.int32))


def test_equal_tensors_make_equal_bytes():
    names = list(KINDS)
    assert encode(KINDS) == encode({name: KINDS[name] for name in reversed(names)})


def test_the_bytes_are_those_of_the_safetensors_library():
    plain = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in KINDS.items()}
    assert encode(KINDS) == safetensors.torch.save(plain)
    assert encode(KINDS, {"hebm": '{"α": 1}'}) == safetensors.torch.save(plain, {"hebm": '{"α": 1}'})
    assert encode({}) == safetensors.torch.save({})


def test_a_file_is_taken_part_by_part_from_the_memory_of_the_tensors():
    tensor = torch.zeros(1000)
    header, *parts = tensor_files.encoded({"w": tensor, "v": torch.ones(3)})
    tensor += 1  # after the parts were taken: they are views
    assert [bytes(part) for part in parts] == [bytes(torch.ones(3).numpy()), bytes(tensor.numpy())]
    assert json.loads(header[8:])["w"] == {"dtype": "F32", "shape": [1000], "data_offsets": [12, 4012]}


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": torch.eye(2).to_sparse()},
        {"x": torch.zeros(2, device="meta")},
        {"x": torch.zeros(2, dtype=torch.complex128)},
        {"__metadata__": torch.zeros(2)},
        {"\ud800": torch.zeros(2)},
    ],
    ids=["sparse", "meta", "complex128", "reserved name", "no text"],
)
def test_what_safetensors_cannot_hold_is_refused_by_name(tensors):
    with pytest.raises(CheckpointError, match="cannot be saved"):
        tensor_files.encoded(tensors)


def test_what_is_hashed_is_what_is_parsed(tmp_path, monkeypatch):
    """A file that changes between two reads cannot slip through: there is one read."""
    good, evil = encode({"x": torch.zeros(4)}), encode({"x": torch.ones(4)})
    path, reads = tmp_path / "x.safetensors", []

    def changing(self):
        reads.append(self)
        return good if len(reads) == 1 else evil

    monkeypatch.setattr(tensor_files, "read_file", changing)
    assert torch.equal(tensor_files.decode(path, tensor_files.seal(good))["x"], torch.zeros(4))
    assert len(reads) == 1
