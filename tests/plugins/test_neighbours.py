import pytest
import torch

from hebm.evaluation.shares import Processes
from hebm.noise import Noise
from hebm_plugins import neighbours
from hebm_plugins.neighbours import Neighbours, nearest, squared_radii

POINTS, QUERIES = Noise(0, "points").normal(50, 4) + 3, Noise(0, "queries").normal(20, 4) + 3


def brute_force(a, b):
    return (a.double()[:, None] - b.double()).square().sum(2)


def batches(starts):
    ends = (*starts[1:], len(POINTS))
    return [(start, POINTS[start:end]) for start, end in zip(starts, ends, strict=True)]


def test_the_nearest_are_those_of_brute_force_however_the_points_come():
    wanted = brute_force(QUERIES, POINTS).sort(dim=1)
    for starts in ((0,), (0, 2, 30), (0, 25, 49)):
        found = nearest(QUERIES, batches(starts), 3)
        assert torch.equal(found.points, wanted.indices[:, :3])
        torch.testing.assert_close(found.squared, wanted.values[:, :3])


def test_several_processes_find_what_one_finds():
    every = batches((0, 16, 32, 48))
    shares = [nearest(QUERIES, share, 3) for share in (every[:3], every[3:])]  # the second has fewer than 3 points

    def gather(tensor):
        field = 0 if tensor.is_floating_point() else 1
        return torch.cat([share[field] for share in shares])

    found = shares[1].joined(Processes(2, 1, gather))
    assert torch.equal(found.points, nearest(QUERIES, every, 3).points)


def test_a_copy_is_at_distance_zero():
    found = nearest(1000 + POINTS[:5].double(), [(0, 1000 + POINTS.double())], 1)
    assert torch.equal(found.points[:, 0], torch.arange(5))
    assert found.squared.max() < 1e-10


@pytest.mark.parametrize("block", [1, 120, 10**6])
def test_radii_are_distances_to_other_points_in_blocks_of_any_size(block, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    wanted = brute_force(POINTS, POINTS).sort(dim=1).values[:, 1:4]
    torch.testing.assert_close(squared_radii(POINTS.double(), 3), wanted)


def test_without_points_nothing_is_near():
    found = nearest(QUERIES, [], 2)
    assert isinstance(found, Neighbours)
    assert found.squared.isinf().all()
    assert (found.points == -1).all()
