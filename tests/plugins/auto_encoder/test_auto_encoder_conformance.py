"""Backbones of plugins that return `hebm.AutoEncoder(…).build(images)` keep the promises of the interface."""

import pytest
from own_vaes import OwnFlat, OwnGrid

from hebm import registry
from hebm.testing import cases, parametrize

RECIPES = [
    OwnGrid(standardise="channel"),
    OwnFlat(likelihood="bernoulli"),
    OwnFlat(likelihood="decoder"),
]


@pytest.fixture(autouse=True)
def registered():
    registry.register("hebm_backbones", "own-grid", OwnGrid)
    registry.register("hebm_backbones", "own-flat", OwnFlat)
    yield
    for name in ("own-grid", "own-flat"):
        registry.unregister("hebm_backbones", name)


@parametrize([case for recipe in RECIPES for case in cases(recipe)])
def test_a_plugin_with_a_vae_keeps_the_promises_of_a_backbone(check):
    check()
