from __future__ import annotations

import torch

from hebm.data.images import ArrayImages
from hebm.evaluation.references import EvenSubset
from hebm.pixel_levels import to_pixels


def test_a_set_sorted_by_class_gives_every_class():
    labels = torch.arange(10).repeat_interleave(20)
    images = ArrayImages(torch.zeros(200, 1, 2, 2, dtype=torch.uint8), labels, tuple("abcdefghij"))
    assert EvenSubset(images, 50).labels.bincount().tolist() == [5] * 10


def test_a_whole_set_is_taken_in_order():
    images = ArrayImages(torch.arange(7, dtype=torch.uint8).reshape(7, 1, 1, 1))
    spread = EvenSubset(images, 100)
    assert to_pixels(spread.read(torch.arange(7))).flatten().tolist() == list(range(7))


def test_every_eight_bit_value_survives():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(values / 127.5 - 1), values)


def test_values_beyond_the_range_do_not_wrap():
    assert to_pixels(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]
