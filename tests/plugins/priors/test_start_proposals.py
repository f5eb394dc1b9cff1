"""SIR starts of chains: where they stand among the transitions, how they are chosen, what they report."""

import pytest
import torch

from hebm.errors import ConfigError
from hebm.interfaces import ROOT, Request, tilt_after
from hebm.latents import LatentLayout
from hebm.noise import Noise
from hebm.particles import effective_share
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import contexts, perturbed, points, seeded
from hebm.transitions import path_to
from hebm.walking import walk
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.dvp.recipe import DVPDiffusion
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Drawing
from hebm_plugins.priors.presets import LEBM, AdaptiveCE
from hebm_plugins.samplers.ula import ULA

ROWS, P = 70, 8
SAMPLER = ULA(steps=3, step_size=0.1)


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone)


def made(backbone, recipe=None):
    recipe = recipe or Joint(energy=MLP(width=8), sampler=SAMPLER, start_proposals=P)
    prior = perturbed(seeded(lambda: recipe.build(backbone)), 0.5).eval()
    if isinstance(recipe, MultiStage):
        prior.trained_stages = recipe.stages
    return prior


def staged(backbone, mode="joint", **options):
    return made(
        backbone, MultiStage(stages=3, energy=MLP(width=8), sampler=SAMPLER, drawing=Drawing(mode=mode), **options)
    )


def names(prior, backbone):
    return [transition.name for transition in prior.transitions(backbone)]


@pytest.mark.parametrize("kind", [Joint, LEBM])
def test_a_chain_starts_at_the_best_of_several_draws_only_where_that_is_asked_for(kind, backbone):
    assert names(made(backbone, kind(sampler=SAMPLER)), backbone) == ["prior"]
    assert names(made(backbone, kind(sampler=SAMPLER, start_proposals=2)), backbone) == ["start", "prior"]


def test_each_chain_that_starts_at_the_root_has_its_own_start(backbone):
    every = [f"{start}stage {s}" for s in (1, 2, 3) for start in ("start ", "")]
    assert names(staged(backbone, start_proposals=P), backbone) == every
    assert names(staged(backbone, "progressive", start_proposals=P), backbone) == [*every[:2], "stage 2", "stage 3"]
    assert names(made(backbone, AdaptiveCE(stages=1, sampler=SAMPLER, start_proposals=P)), backbone) == every[:2]


def test_a_draw_runs_the_start_and_the_chain_of_its_own_stage_alone(backbone):
    prior = staged(backbone, start_proposals=P)
    for after, path in ((None, ["start stage 3", "stage 3"]), ("stage 2", ["start stage 2", "stage 2"])):
        assert [step.name for step in path_to(prior.transitions(backbone), after)] == path
    walked = dict(walk(prior, backbone, ROWS, Noise(0, "s")))
    assert list(walked) == [ROOT, "start stage 3", "stage 3"]
    assert list(walked["stage 3"].diagnostics) == ["ess_start_stage_3"]
    stopped = prior.sample(backbone, ROWS, Noise(0, "s"), Request(after="start stage 3"))
    assert torch.equal(stopped.u, walked["start stage 3"].u)


def test_starts_of_all_stages_are_planned_before_any_is_trained(backbone):
    prior = staged(backbone, start_proposals=P)
    trained, prior.trained_stages = names(prior, backbone), 0
    assert names(prior, backbone) == []
    assert [transition.name for transition in prior.planned_transitions(backbone)] == trained


def test_particles_are_weighted_already(backbone):
    with pytest.raises(ConfigError, match=r"prior\.start_proposals = 8: .*use more prior\.drawing\.particles"):
        staged(backbone, "smc", start_proposals=P)


def test_the_start_is_one_of_the_proposals_with_the_weights_of_f(backbone):
    prior, noise = made(backbone), Noise(0, "s", dtype=torch.float32)
    offered = noise.derive("start").derive(0).normal(ROWS, P, backbone.layout.dim)
    log_weights = torch.stack([prior.tilt(backbone.latents(u)).sum(1) for u in offered.unbind(1)], 1).detach()
    draw = prior.sample(backbone, ROWS, noise, Request(after="start"))
    chosen = (draw.u.unsqueeze(1) == offered).all(2)
    assert bool((chosen.sum(1) == 1).all())
    torch.testing.assert_close(draw.diagnostics["ess_start"], effective_share(log_weights))
    better = (log_weights[chosen] > log_weights.mean(1)).float().mean()
    assert float(better) > 0.6


def test_a_start_depends_on_its_own_row_alone(backbone):
    prior = staged(backbone, start_proposals=P)
    whole = prior.sample(backbone, ROWS, Noise(0, "s"))
    rest = prior.sample(backbone, ROWS - 64, Noise(0, "s", start=64))
    torch.testing.assert_close(rest.u, whole.u[64:])
    torch.testing.assert_close(rest.diagnostics["ess_start_stage_3"], whole.diagnostics["ess_start_stage_3"][64:])


@pytest.mark.parametrize("mode", ["joint", "progressive"])
def test_a_request_for_another_number_of_proposals_draws_what_a_prior_of_that_number_draws(mode, backbone):
    for count in (1, 3):
        asked = staged(backbone, mode, start_proposals=P).sample(
            backbone, ROWS, Noise(0, "s"), Request(start_proposals=count)
        )
        built = staged(backbone, mode, start_proposals=count).sample(backbone, ROWS, Noise(0, "s"))
        assert torch.equal(asked.u, built.u)
        assert list(asked.diagnostics) == list(built.diagnostics)


def test_a_chain_of_no_step_ends_at_its_start(backbone):
    prior = made(backbone)
    start = prior.sample(backbone, ROWS, Noise(0, "s"), Request(after="start"))
    assert torch.equal(prior.sample(backbone, ROWS, Noise(0, "s"), Request(steps=0)).u, start.u)
    root = prior.sample(backbone, ROWS, Noise(0, "s"), Request(after=ROOT))
    assert torch.equal(prior.sample(backbone, ROWS, Noise(0, "s"), Request(steps=0, start_proposals=1)).u, root.u)


def test_fixed_coordinates_stay_as_given_at_the_start_and_after_it(backbone):
    prior, u = made(backbone), points(ROWS, backbone.layout.dim)
    fixed = backbone.layout.fix(u, {1})
    for name, draw in walk(prior, backbone, ROWS, Noise(0, "s"), Request(fixed=fixed)):
        assert torch.equal(draw.u[:, fixed.mask], u[:, fixed.mask]), name


def test_a_start_keeps_the_context_that_the_root_drew():
    layout = LatentLayout(((3,), (4,)), context=(1, 3, 3))
    backbone = seeded(lambda: ReferenceBackbone(layout))
    recipe = Joint(energy=MLP(width=8), sampler=SAMPLER, start_proposals=P, root=DVPDiffusion(blocks=1, steps=3))
    prior, given = made(backbone, recipe), contexts(layout, ROWS)
    drawn = dict(walk(prior, backbone, ROWS, Noise(0, "s")))
    assert torch.equal(drawn["start"].context, drawn[ROOT].context)
    asked = [prior.sample(backbone, ROWS, Noise(0, "s"), Request(context=c, after="start")).u for c in (given, -given)]
    same = (asked[0] == asked[1]).all(1).float().mean()
    assert 0 < float(same) < 1  # the same proposals, weighted in another context


def test_the_tilt_after_a_start_is_the_one_that_it_was_chosen_by(backbone):
    prior = staged(backbone, start_proposals=P)
    latents = backbone.latents(points(5, backbone.layout.dim))
    for s in (1, 2, 3):
        start, end = (tilt_after(prior, backbone, name).f(latents) for name in (f"start stage {s}", f"stage {s}"))
        torch.testing.assert_close(start, end)
        torch.testing.assert_close(start, prior.product(s).f(latents))
