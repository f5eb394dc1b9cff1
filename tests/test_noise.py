"""Derived noise: a function of (seed, path, draw, row) and of nothing else."""

import copy
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from hebm.noise import BLOCK, Noise, derive_seed

ROWS = 3 * BLOCK + 10


@pytest.mark.parametrize("kind", ["normal", "uniform", "integers"])
@pytest.mark.parametrize("batch", [1, 7, BLOCK, 100, ROWS])
def test_a_row_is_the_same_whatever_the_batch_size(kind, batch):
    whole = draw(Noise(3, "role", 5), kind, ROWS)
    parts = [draw(Noise(3, "role", 5, start=i), kind, min(batch, ROWS - i)) for i in range(0, ROWS, batch)]
    assert torch.equal(torch.cat(parts), whole)


def draw(noise, kind, rows):
    return noise.integers(10, rows, 2) if kind == "integers" else getattr(noise, kind)(rows, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_draw_of_a_key_is_the_same_whatever_the_rows(dtype):
    whole, tail = Noise(0, "a", dtype=dtype), Noise(0, "a", start=70, dtype=dtype)
    for _ in range(3):
        assert torch.equal(whole.normal(100, 4)[70:], tail.normal(30, 4))
    assert whole.normal(1).dtype == dtype


def test_another_process_draws_the_same_rows():
    script = (
        "from hebm.noise import Noise; n = Noise(1, 'chain', 2, start=64); n.normal(64, 3); "
        "print(n.normal(64, 3).numpy().tobytes().hex())"
    )
    seen = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    whole = Noise(1, "chain", 2)
    whole.normal(128, 3)
    assert whole.normal(128, 3)[64:].numpy().tobytes().hex() == seen


def test_the_order_of_deriving_and_drawing_is_irrelevant():
    root = Noise(0, "run")
    early = root.derive("chain", 3).normal(5)
    root.normal(1000)
    root.derive("other").normal(5)
    assert torch.equal(root.derive("chain", 3).normal(5), early)
    assert torch.equal(root.derive("chain").derive(3).normal(5), early)
    assert torch.equal(root.derive("chain", 3).at(0).normal(5), early)


def test_other_seeds_paths_and_draws_give_other_numbers():
    noises = [Noise(0, "a"), Noise(1, "a"), Noise(0, "b"), Noise(0, "a", 0), Noise(0, "a", 1), Noise(0, "a", "1")]
    seen = [noise.normal(4) for noise in noises] + [noises[0].normal(4)]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_paths_cannot_be_confused():
    paths = [("ab",), ("a", "b"), ("a", 1), ("a", "1"), ("a1",), (0, "a"), ("0", "a")]
    assert len({derive_seed(*path) for path in paths}) == len(paths)


def test_a_seed_is_the_same_on_every_machine_and_version():
    assert derive_seed(0, "a", 1) == 3351783613946858116


def test_no_global_generator_is_read_or_written():
    before = torch.get_rng_state(), np.random.get_state()[2], random.getstate()
    first = Noise(0, "a").normal(100, 3)
    after = torch.get_rng_state(), np.random.get_state()[2], random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert torch.equal(Noise(0, "a").normal(100, 3), first)


def test_normals_have_the_moments_of_the_normal_distribution():
    x = Noise(0, "moments", dtype=torch.float64).normal(4096, 64)
    n = x.numel()
    assert abs(float(x.mean())) < 4 / n**0.5
    assert abs(float(x.square().mean()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float(x.pow(4).mean()) - 3) < 4 * (96 / n) ** 0.5


def test_rows_blocks_draws_and_keys_are_uncorrelated():
    noise, n = Noise(0, "a", dtype=torch.float64), BLOCK * 128
    first, second = noise.normal(n), noise.normal(n)
    other = Noise(0, "b", dtype=torch.float64).normal(n)
    neighbour = Noise(1, "a", dtype=torch.float64).normal(n)
    pairs = [
        (first[1:], first[:-1]),
        (first[BLOCK:], first[:-BLOCK]),
        (first, second),
        (first, other),
        (first, neighbour),
    ]
    for a, b in pairs:
        assert abs(float((a * b).mean())) < 4 / len(a) ** 0.5


def test_uniforms_and_integers_stay_in_their_range_and_fill_it():
    u = Noise(0, "u").uniform(10_000)
    assert 0 <= float(u.min()) < 0.01
    assert 0.99 < float(u.max()) < 1
    counts = Noise(0, "i").integers(5, 10_000).bincount(minlength=5)
    assert len(counts) == 5
    assert bool(((counts - 2000).abs() < 4 * (10_000 * 0.2 * 0.8) ** 0.5).all())


def test_zero_rows_are_zero_rows():
    assert Noise(0, "a").normal(0, 3).shape == (0, 3)


# ---------------------------------------------------------------- rows in groups, several a sample

G = 5


@pytest.mark.parametrize("kind", ["normal", "uniform", "integers"])
@pytest.mark.parametrize("batch", [1, 7, BLOCK, 100])
def test_a_samples_group_is_the_same_whatever_the_batch_size(kind, batch):
    whole = draw(Noise(3, "role").grouped(G), kind, 150 * G)
    parts = [draw(Noise(3, "role", start=i).grouped(G), kind, min(batch, 150 - i) * G) for i in range(0, 150, batch)]
    assert torch.equal(torch.cat(parts), whole)


def test_a_group_is_one_draw_of_its_sample_with_a_dimension_more():
    grouped, whole = Noise(0, "a").grouped(G), Noise(0, "a")
    for shape in ((), (3,), (2, 4)):
        assert torch.equal(grouped.normal(70 * G, *shape), whole.normal(70, G, *shape).flatten(0, 1))


def test_rows_of_a_group_differ():
    u = Noise(0, "a").grouped(G).uniform(100 * G)
    assert len(u.unique()) == 100 * G


def test_grouping_goes_with_derived_and_moved_noise_and_copies():
    noise = Noise(0, "a").grouped(G)
    whole = noise.derive("b").normal(80 * G)
    assert torch.equal(noise.at(64).derive("b").normal(16 * G), whole[64 * G :])
    assert torch.equal(copy.deepcopy(noise).derive("b").normal(80 * G), whole)
    assert torch.equal(Noise(0, "a", "b").grouped(G).normal(80 * G), whole)


def test_groups_of_one_are_rows():
    assert torch.equal(Noise(0, "a").grouped(1).normal(70, 3), Noise(0, "a").normal(70, 3))
    assert torch.equal(Noise(0, "a").grouped(G).grouped(1).normal(70, 3), Noise(0, "a").normal(70, 3))


def test_a_part_of_a_group_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"7 rows are not a whole number of groups of 5; draw whole samples"):
        Noise(0, "a").grouped(G).normal(7)
    assert Noise(0, "a").grouped(G).normal(0, 3).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 48, 100, 1000, 1001])
def test_a_part_of_a_block_starts_as_the_whole_block(size, dtype):
    for rows in (1, 2, 7, 8, 16, 17, 33, 63):
        for kind in ("normal", "uniform"):
            part, whole = (getattr(Noise(3, "part", dtype=dtype), kind)(n, size) for n in (rows, BLOCK))
            assert torch.equal(part, whole[:rows])


def test_a_few_rows_are_drawn_without_the_rest_of_their_block(monkeypatch):
    drawn = []

    def counting(shape, **settings):
        drawn.append(shape[0])
        return randn(shape, **settings)

    randn = torch.randn
    monkeypatch.setattr(torch, "randn", counting)
    Noise(0, "few").normal(8, 2)
    Noise(0, "few").normal(8, 3)
    Noise(0, "few", start=8).normal(8, 48)
    assert drawn == [8, 16, 16]
