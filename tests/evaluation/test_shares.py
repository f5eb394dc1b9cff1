from __future__ import annotations

import pytest
import torch

from hebm.evaluation.shares import Processes


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [1, 64, 130, 256, 300])
def test_processes_make_the_same_batches_as_one(n, world):
    alone = Processes().batches(n, 64)
    assert [batch for rank in range(world) for batch in Processes(world, rank).batches(n, 64)] == alone


@pytest.mark.parametrize(("n", "world"), [(300, 2), (64, 3), (129, 2)])
def test_rows_are_joined_in_order(n, world):
    rows = torch.arange(n * 2).reshape(n, 2)
    padded = []
    for rank in range(world):
        processes = Processes(world, rank, lambda tensor: padded.append(tensor) or tensor)
        processes.join([rows[a : a + k] for a, k in processes.batches(n, 64)], rows[:0], n, 64)
    assert len({part.shape for part in padded}) == 1, "gather needs one shape"
    joined = Processes(world, 0, lambda tensor: torch.cat(padded))
    assert torch.equal(joined.join([rows[a : a + k] for a, k in joined.batches(n, 64)], rows[:0], n, 64), rows)
