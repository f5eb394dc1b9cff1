"""No draw, loss or gradient of any prior differs from the recorded one."""

import pytest
import torch

from .cases import CASES
from .draws import differences, entries, read

SHOWN = 12


@pytest.fixture(scope="module")
def recorded():
    return read()


@pytest.mark.parametrize(("backbone", "case"), CASES)
def test_draws_and_losses_are_the_recorded_ones(backbone, case, recorded):
    mine = {name: value for name, value in recorded.items() if name.startswith(f"{backbone}/{case}/")}
    lines = differences(entries(backbone, case), mine)
    assert not lines, f"{len(lines)} of {len(mine)} entries differ, the first:\n" + "\n".join(lines[:SHOWN])


def test_every_recorded_entry_belongs_to_a_case(recorded):
    assert {tuple(name.split("/")[:2]) for name in recorded} == set(CASES)


def test_a_difference_a_missing_and_an_additional_entry_are_named():
    one, nan = torch.ones(2).double(), torch.tensor([1.0, torch.nan]).double()
    assert not differences({"a": nan}, {"a": nan + 1e-12})
    lines = differences({"a": one, "b": one, "d": nan}, {"a": one + 1e-6, "c": one, "d": one})
    assert [line.split(":")[0] for line in lines] == ["a", "b", "d", "c"]
    assert "1e-06" in lines[0]
    assert "NaN" in lines[2]
