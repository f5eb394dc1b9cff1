"""Compiled steps: equal to the eager ones up to rounding, traced once per model, loud where they cannot be."""

import copy

import pytest
import torch

from hebm.compilation import Compiled, compiled, steps_together
from hebm.densities import GeneratorPosterior, LogDensity, TiltedPrior
from hebm.errors import ConfigError
from hebm.interfaces import tilt_of
from hebm.noise import Noise
from hebm.sampling import Trace, run
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, points, seeded
from hebm.tilts import Tilt
from hebm.training.joint import JointMCMC
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.joint import Joint
from hebm_plugins.samplers.langevin import Langevin
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.pcn import PCN
from hebm_plugins.samplers.pcn_mala import PCNMALA
from hebm_plugins.samplers.ula import ULA

SAMPLERS = [ULA(), Langevin(step_size=0.2), MALA(), PCN(), PCNMALA()]
named = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)

# older ones compile a step again after each update, and `run.compile` then ends with an error
once = pytest.mark.skipif(torch.__version__ < "2.11", reason="torch < 2.11 compiles a step several times")


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone)


@pytest.fixture
def prior(backbone):
    return seeded(lambda: Joint(energy=MLP(width=8, zero_init=False)).build(backbone))


def densities(backbone, prior, rows):
    """New objects at every call, as training makes them."""
    target = torch.zeros(rows, *backbone.images.shape)
    return prior.density(backbone), GeneratorPosterior(backbone, target, tilt_of(prior))


def traced(sampler):
    """The sampler without code generation, and the list of the graphs that were traced."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    return Compiled(sampler, backend), graphs


def chain(sampler, density, rows, steps=4):
    return run(sampler, density, points(rows, 7), Noise(0, "chain"), steps)


@once
@named
def test_it_agrees_with_the_eager_step_on_prior_and_posterior_before_and_after_an_update(sampler, backbone, prior):
    twin, graphs = traced(sampler)
    evaluates = len(sampler.init(densities(backbone, prior, 16)[0], points(16, 7))) > 1
    for _ in range(3):
        for density in densities(backbone, prior, 16):
            assert torch.allclose(chain(twin, density, 16).u, chain(sampler, density, 16).u, atol=1e-5)
        perturbed(backbone), perturbed(prior)
    assert len(graphs) == 2 * (1 + evaluates)  # the steps and, where it evaluates the density, the first state


@once
def test_other_batch_sizes_use_the_same_graph(backbone, prior):
    twin, graphs = traced(ULA())
    for rows in (16, 5, 64, 33):
        for density in densities(backbone, prior, rows):
            assert torch.allclose(chain(twin, density, rows).u, chain(ULA(), density, rows).u, atol=1e-5)
    assert len(graphs) == 2


def test_many_models_in_one_process_are_compiled_each_on_its_own(backbone):
    twin, graphs = traced(ULA())
    for seed in range(9):
        prior = Joint(energy=MLP(width=4 + seed)).build(backbone)
        chain(twin, prior.density(backbone), 8, 1)
    assert len(graphs) == 9  # one more than the variants of a function that torch compiles


def test_a_long_list_of_tilts_of_the_same_modules_has_a_graph_for_each(backbone):
    """Nine layers' tilts share one network; each is another function of it."""
    twin, graphs = traced(ULA())
    net = seeded(lambda: MLP(width=4, zero_init=False).build(backbone.layout))
    for layer in range(9):
        tilt = Tilt(lambda latents, layer=layer: layer * net(latents).flatten(1), (net,), variant=layer)
        density = TiltedPrior(backbone, tilt)
        assert torch.allclose(chain(twin, density, 8, 1).u, chain(ULA(), density, 8, 1).u, atol=1e-5)
    assert len(graphs) == 9


@named
def test_a_nan_chain_leaves_the_others_unchanged_and_is_counted(sampler, backbone, prior):
    twin, _ = traced(sampler)
    density = prior.density(backbone)
    start = points(32, 7)
    spoiled = start.clone()
    spoiled[3, 1] = torch.nan
    clean, with_nan = (run(twin, density, u, Noise(0, "chain"), 4) for u in (start, spoiled))
    others = [i for i in range(32) if i != 3]
    assert torch.equal(clean.u[others], with_nan.u[others])
    assert int(with_nan.nonfinite) == 1


def test_an_observer_sees_the_same_figures(backbone, prior):
    twin, _ = traced(MALA())
    seen, expected = Trace(), Trace()
    for sampler, trace in ((twin, seen), (MALA(), expected)):
        run(sampler, prior.density(backbone), points(16, 7), Noise(0, "chain"), 4, trace)
    assert torch.allclose(torch.stack(seen.values), torch.stack(expected.values), atol=1e-5)
    assert torch.equal(torch.stack(seen.accepted), torch.stack(expected.accepted))


@once
def test_steps_that_nobody_observes_are_compiled_together(backbone, prior):
    twin, graphs = traced(ULA())
    density = prior.density(backbone)
    for steps in (20, 30):
        assert torch.allclose(chain(twin, density, 8, steps).u, chain(ULA(), density, 8, steps).u, atol=1e-5)
    (graph,) = graphs
    noises = [node for node in graph.graph.nodes if node.op == "placeholder" and "normal" in node.name]
    assert len(noises) == 10


@pytest.mark.parametrize(("count", "together"), [(0, 10), (1, 1), (7, 7), (13, 1), (20, 10), (96, 8)])
def test_the_number_of_steps_together_divides_the_length_of_the_chain(backbone, prior, count, together):
    assert steps_together(prior.density(backbone), count) == together


def test_a_large_model_has_one_step_in_a_graph(backbone):
    prior = seeded(lambda: Joint(energy=MLP(width=2, depth=30)).build(backbone))
    assert steps_together(prior.density(backbone), 20) == 1


def test_a_step_that_is_no_single_graph_is_refused_by_name_of_the_key(backbone):
    class Branching(LogDensity):
        def remainder(self, u):
            return u.sum(1) if float(u.sum()) > 0 else -u.sum(1)

    with pytest.raises(ConfigError, match=r"run\.compile: a step of ULA on Branching .* run\.compile = false"):
        chain(traced(ULA())[0], Branching(), 8)


def test_every_sampler_of_a_recipe_is_compiled_at_any_depth():
    prior = compiled(Joint(sampler=ULA(steps=7), root=Joint(sampler=MALA(steps=3))))
    assert (prior.sampler.sampler, prior.root.sampler.sampler) == (ULA(steps=7), MALA(steps=3))
    assert compiled(prior).sampler is prior.sampler
    assert compiled(JointMCMC()).posterior_sampler.sampler == JointMCMC().posterior_sampler


def test_it_shows_the_samplers_own_attributes_and_can_be_copied():
    twin = copy.deepcopy(Compiled(MALA(steps=9, step_size=0.3)))
    assert (twin.steps, twin.step_size, twin.draws) == (9, 0.3, ("normal", "uniform"))


@pytest.mark.slow
@named
def test_generated_code_agrees_with_the_eager_step_to_rounding(sampler, backbone, prior):
    twin = Compiled(sampler)
    for rows in (64, 17):
        for density in densities(backbone, prior, rows):
            once, again = chain(twin, density, rows).u, chain(twin, density, rows).u
            assert torch.equal(once, again)
            assert torch.allclose(once, chain(sampler, density, rows).u, atol=1e-5)
            spoiled = points(rows, 7).clone()
            spoiled[3, 1] = torch.nan
            with_nan = run(twin, density, spoiled, Noise(0, "chain"), 4)
            assert torch.equal(with_nan.u[4:], once[4:])
            assert int(with_nan.nonfinite) == 1
