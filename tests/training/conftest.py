"""Small models and batches for the tests of schemes."""

import pytest
from real_runs import tiny

from hebm import pipeline, registry
from hebm.config.experiment import Experiment
from hebm.data.batches import Batches
from hebm.noise import Noise


@pytest.fixture
def assembled():
    """`assembled(scheme, prior, **tables)`: (assembly, a batch, its noise)."""

    def make(scheme, prior="joint", **tables):
        experiment = Experiment.from_table(tiny(scheme, prior, **tables))
        assembly = pipeline.assemble(experiment)
        return assembly, Batches(assembly.images["train"], experiment.data, 0).batch(0), Noise(0, "test")

    return make


@pytest.fixture
def register():
    """`register(group, name)(recipe)`, undone after the test."""
    names = []

    def make(group, name):
        names.append((group, name))
        return registry.register(group, name)

    yield make
    for group, name in names:
        registry.unregister(group, name)
