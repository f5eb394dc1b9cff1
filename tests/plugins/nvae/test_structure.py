"""Groups per scale are the published ones, and what follows from them: scales, channels, and where a scale ends."""

import json
from pathlib import Path

import attrs
import pytest

from hebm_plugins.nvae.recipe import NVAE
from hebm_plugins.nvae.structure import groups_per_scale

SCHEDULES = json.loads((Path(__file__).parents[2] / "vectors/nvae/unit/schedules.json").read_text())


@pytest.mark.parametrize("case", SCHEDULES["groups_per_scale"])
def test_groups_per_scale_are_the_published_ones_coarsest_first(case):
    found = groups_per_scale(case["num_scales"], case["num_groups"], case["ada"], case["min_groups"])
    assert list(reversed(found)) == case["result"]


def test_the_least_number_does_not_raise_that_of_the_finest_scale():
    assert groups_per_scale(3, 2, adaptive=True, least=4) == (4, 4, 2)


def test_without_adaptive_groups_the_least_number_is_unused():
    assert groups_per_scale(3, 2, adaptive=False, least=4) == (2, 2, 2)


def test_scales_are_counted_from_the_coarsest_and_end_where_the_resolution_doubles():
    structure = attrs.evolve(NVAE().structure, groups=(1, 3, 2), blocks=2)
    assert structure.scales == (0, 1, 1, 1, 2, 2)
    assert [group for group in range(6) if structure.ends_scale(group)] == [0, 3]
    assert [structure.shrink(scale) for scale in range(3)] == [16, 8, 4]


def test_a_single_group_ends_no_scale():
    structure = attrs.evolve(NVAE().structure, groups=(1,), blocks=0)
    assert (structure.scales, structure.ends_scale(0), structure.shrink(0)) == ((0,), False, 1)
