"""The walk from root to prior: paths, names, keys of noise, fixed coordinates, proposals and particles."""

import math

import pytest
import torch
from torch import nn

from hebm.densities import LatentSpace, TiltedPrior
from hebm.errors import ConfigError
from hebm.gaussian import GaussianPrior
from hebm.interfaces import MCMC, Exact, Population, PriorLearner, Request, best_of, tilt_of
from hebm.noise import Noise
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import points, seeded
from hebm.tilts import Tilt
from hebm.transitions import ROOT, path_to
from hebm.walking import walk
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.ula import ULA

ROWS = 6


def noise(*path, **options):
    return Noise(0, *path, dtype=torch.float64, **options)


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone).double()


class Listed(PriorLearner):
    """A prior with the transitions it is given, each made by a function of the backbone."""

    def __init__(self, backbone, *made, population=None):
        super().__init__()
        self.root, self.made = GaussianPrior(backbone.layout), made
        if population is not None:
            self.population = population

    def transitions(self, backbone):
        return tuple(make(backbone) for make in self.made)


def shifted(name, by, **options):
    return lambda backbone: Exact(name=name, apply=lambda at, source, request: at.moved(at.u + by), **options)


def jittered(name, **options):
    """A transition that adds new noise."""

    def apply(at, source, request):
        return at.moved(at.u + source.normal(*at.u.shape))

    return lambda backbone: Exact(name=name, apply=apply, **options)


# ---------------------------------------------------------------- paths


@pytest.fixture
def listed(backbone):
    return Listed(backbone, shifted("a", 1), shifted("b", 2), shifted("c", 4, from_root=True)).transitions(backbone)


@pytest.mark.parametrize(("after", "names"), [(None, ["c"]), ("c", ["c"]), ("b", ["a", "b"]), ("a", ["a"]), (ROOT, [])])
def test_a_path_has_what_a_draw_needs_from_the_last_that_starts_at_the_root(listed, after, names):
    assert [transition.name for transition in path_to(listed, after)] == names


def test_an_unknown_name_is_refused_with_those_that_there_are(listed):
    with pytest.raises(ConfigError, match=r"no transition 'd'; it has 'root', 'a', 'b', 'c'"):
        path_to(listed, "d")


# ---------------------------------------------------------------- the walk


def test_a_walk_yields_the_root_and_then_each_transition_by_name(backbone):
    prior = Listed(backbone, shifted("a", 1), shifted("b", 2))
    found = list(walk(prior, backbone, ROWS, noise("s")))
    start = noise("s", "base").normal(ROWS, backbone.layout.dim)
    assert [name for name, _ in found] == [ROOT, "a", "b"]
    for (_, draw), by in zip(found, (0, 1, 3), strict=True):
        torch.testing.assert_close(draw.u, start + by)
    assert torch.equal(prior.sample(backbone, ROWS, noise("s")).u, found[-1][1].u)
    assert torch.equal(prior.sample(backbone, ROWS, noise("s"), Request(after="a")).u, found[1][1].u)
    assert torch.equal(prior.sample(backbone, ROWS, noise("s"), Request(after=ROOT)).u, start)


def test_a_walk_over_all_transitions_starts_again_where_one_asks_for_the_root(backbone, listed):
    prior = Listed(backbone)
    ends = {name: draw.u for name, draw in walk(prior, backbone, ROWS, noise("s"), path=listed)}
    torch.testing.assert_close(ends["b"], ends[ROOT] + 3)
    torch.testing.assert_close(ends["c"], ends[ROOT] + 4)


def test_transitions_have_noise_of_their_own_without_a_key(backbone):
    prior = Listed(backbone, jittered("a"), jittered("b"))
    ends = [draw.u for _, draw in walk(prior, backbone, ROWS, noise("s"))]
    steps = [ends[1] - ends[0], ends[2] - ends[1]]
    torch.testing.assert_close(steps[0], noise("s", "a").normal(ROWS, backbone.layout.dim))
    torch.testing.assert_close(steps[1], noise("s", "b").normal(ROWS, backbone.layout.dim))


def test_gradients_are_off_inside_a_walk_and_as_before_while_it_waits(backbone):
    seen = []

    def apply(at, source, request):
        seen.append(torch.is_grad_enabled())
        return at

    steps = walk(Listed(backbone, lambda _: Exact(name="a", apply=apply)), backbone, ROWS, noise("s"))
    next(steps)
    assert torch.is_grad_enabled()
    next(steps)
    assert seen == [False]
    assert torch.is_grad_enabled()


def test_fixed_coordinates_are_shown_as_given_and_carried_as_a_transition_left_them(backbone):
    given = points(ROWS, backbone.layout.dim, torch.float64, "given")
    fixed = backbone.layout.fix(given, {0})
    prior = Listed(backbone, shifted("a", 1), shifted("b", 2))
    ends = {name: draw.u for name, draw in walk(prior, backbone, ROWS, noise("s"), Request(fixed=fixed))}
    plain = {name: draw.u for name, draw in walk(prior, backbone, ROWS, noise("s"))}
    for name, u in ends.items():
        assert torch.equal(u[:, fixed.mask], given[:, fixed.mask])
        assert torch.equal(u[:, ~fixed.mask], plain[name][:, ~fixed.mask])


def test_a_chain_with_every_coordinate_fixed_does_not_run(backbone):
    fixed = backbone.layout.fix(points(ROWS, backbone.layout.dim, torch.float64), {0, 1})
    density = lambda at, request: pytest.fail("a density was built")  # noqa: E731
    prior = Listed(backbone, lambda _: MCMC(name="chain", sampler=ULA(), density=density))
    assert torch.equal(prior.sample(backbone, ROWS, noise("s"), Request(fixed=fixed)).u, fixed.u)


def test_listing_transitions_builds_no_density(backbone):
    density = lambda at, request: pytest.fail("a density was built")  # noqa: E731
    (chain,) = Listed(backbone, lambda _: MCMC(name="chain", sampler=ULA(steps=7), density=density)).transitions(
        backbone
    )
    assert (chain.steps, shifted("a", 1)(backbone).steps) == (7, 0)


# ---------------------------------------------------------------- a start among proposals

SLOPE = 0.8


def tilted(backbone):
    """f = a Σ u: N(a, I)."""
    return TiltedPrior(backbone, Tilt(lambda latents: SLOPE * latents.u))


def test_the_best_of_many_proposals_has_the_tilted_distribution(backbone):
    start = best_of("start", 2000, lambda at, request: tilted(backbone))
    n, dim = 800, backbone.layout.dim
    draw = Listed(backbone, lambda _: start).sample(backbone, n, noise("s"))
    assert abs(float(draw.u.mean()) - SLOPE) < 4 / math.sqrt(n * dim) + 0.05
    assert abs(float(draw.u.var()) - 1) < 4 * math.sqrt(2 / (n * dim)) + 0.05
    assert draw.diagnostics["ess_start"].shape == (n,)
    assert ((draw.diagnostics["ess_start"] > 0) & (draw.diagnostics["ess_start"] <= 1)).all()


def test_proposals_are_weighed_with_the_fixed_coordinates_as_given(backbone):
    """f = c u_0 Σ_{i > 0} u_i: given u_0 the others have the mean c u_0."""
    f = lambda latents: 0.5 * latents.u[:, :1] * latents.u[:, 1:].sum(1, keepdim=True)  # noqa: E731
    start = best_of("start", 1500, lambda at, request: TiltedPrior(backbone, Tilt(f)))
    n, dim = 800, backbone.layout.dim
    mask = torch.zeros(dim, dtype=torch.bool)
    mask[0] = True
    fixed = backbone.layout.fix(torch.full((n, dim), 1.2, dtype=torch.float64), ())
    fixed = type(fixed)(fixed.u, mask)
    u = Listed(backbone, lambda _: start).sample(backbone, n, noise("s"), Request(fixed=fixed)).u
    assert bool((u[:, 0] == 1.2).all())
    assert abs(float(u[:, 1:].mean()) - 0.6) < 4 / math.sqrt(n * (dim - 1)) + 0.05


def test_a_chain_goes_on_from_the_chosen_start(backbone):
    target = lambda at, request: tilted(backbone)  # noqa: E731
    both = Listed(
        backbone,
        lambda _: best_of("start", 20, target),
        lambda _: MCMC(name="prior", sampler=MALA(steps=5, step_size=0.3), density=target),
    )
    ends = {name: draw for name, draw in walk(both, backbone, ROWS, noise("s"))}
    assert list(ends) == [ROOT, "start", "prior"]
    assert "ess_start" in ends["prior"].diagnostics
    assert not torch.equal(ends["start"].u, ends["prior"].u)
    still = both.sample(backbone, ROWS, noise("s"), Request(steps=0)).u
    assert torch.equal(still, ends["start"].u)


def test_proposals_need_a_density_with_a_gaussian_factor(backbone):
    flat = lambda at, request: LatentSpace(backbone, Tilt(lambda latents: 0 * latents.u))  # noqa: E731
    with pytest.raises(
        ConfigError, match="start: proposals need a density with a Gaussian factor, and LatentSpace has none"
    ):
        Listed(backbone, lambda _: best_of("start", 5, flat)).sample(backbone, ROWS, noise("s"))


# ---------------------------------------------------------------- particles


def weighed(name, slope, **options):
    """Weighs by exp(slope Σ u) and stays."""
    ratio = lambda labels: Tilt(lambda latents: slope * latents.u)  # noqa: E731
    return lambda backbone: Exact(name=name, apply=lambda at, source, request: at, ratio=ratio, **options)


def test_particles_are_weighed_resampled_and_chosen_from(backbone):
    prior = Listed(backbone, weighed("a", 0.4), weighed("b", 0.4), population=Population(512, 0.5))
    n = 300
    ends = dict(walk(prior, backbone, n, noise("s")))
    expected = {ROOT: 0.0, "a": 0.4, "b": 0.8}
    for name, mean in expected.items():
        assert abs(float(ends[name].u.mean()) - mean) < 4 / math.sqrt(n * backbone.layout.dim) + 0.05
    assert set(ends["b"].diagnostics) == {"ess"}
    assert ROOT in ends


def test_a_population_needs_a_ratio_of_every_transition(backbone):
    for made, message in ((shifted("a", 1), "'a' has no"), (weighed("a", 1, from_root=True), "starts from the root")):
        prior = Listed(backbone, made, population=Population(4))
        with pytest.raises(ConfigError, match=f"prior.population: .*{message}"):
            prior.sample(backbone, ROWS, noise("s"))


# ---------------------------------------------------------------- what a prior inherits


class Net(PriorLearner):
    """A tilt with two nets, and nothing else."""

    def __init__(self, backbone):
        super().__init__()
        self.root = GaussianPrior(backbone.layout)
        self.one, self.two = nn.Linear(backbone.layout.dim, 1), nn.Linear(backbone.layout.dim, 1)

    def tilt(self, latents):
        return self.one(latents.u) + self.two(latents.u)


def test_density_stages_and_tilt_follow_from_the_method_tilt(backbone):
    prior = seeded(lambda: Net(backbone)).double()
    u = points(ROWS, backbone.layout.dim, torch.float64)
    value = prior.density(backbone).value_and_grad(u).value
    torch.testing.assert_close(value, (prior.tilt(backbone.latents(u)).sum(1) - 0.5 * u.square().sum(1)).detach())
    (stage,) = prior.stages()
    assert (stage.name, stage.with_backbone) == ("prior", False)
    assert {id(p) for p in stage.module.parameters()} == {id(p) for p in prior.parameters()}
    assert tilt_of(prior).modules == (prior,)


def test_a_root_has_no_tilt_and_must_draw(backbone):
    assert tilt_of(GaussianPrior(backbone.layout)) is None

    class Nothing(PriorLearner):
        root = None

    with pytest.raises(NotImplementedError, match="Nothing is a root: it must override sample"):
        Nothing().sample(backbone, ROWS, noise("s"))
