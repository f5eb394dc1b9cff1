"""Priors as the start of another prior's chains: what is trained, what is drawn, what does not depend on the start."""

import pytest
import torch
from real_runs import TINY, differences, newest, tiny, train

from hebm.errors import ConfigError
from hebm.interfaces import ROOT, Request, build_start, context_of, sees_of, tilt_of
from hebm.latents import LatentLayout
from hebm.noise import Noise
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import contexts, perturbed, points, seeded
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.dvp.recipe import DVPDiffusion
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Drawing
from hebm_plugins.priors.score.recipe import Score
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.ula import ULA

ROWS, P = 70, 6
SCORE = Score(width=16, depth=1, steps=3)
CHAINS = {"energy": MLP(width=8), "sampler": ULA(steps=3, step_size=0.1)}


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone).requires_grad_(False)


def made(backbone, recipe=None, **options):
    recipe = recipe or Joint(**{**CHAINS, "start": SCORE, **options})
    prior = perturbed(seeded(lambda: recipe.build(backbone)), 0.4).eval()
    if isinstance(recipe, MultiStage):
        prior.trained_stages = recipe.stages
    return prior


def noise():
    return Noise(0, "s")


# ---------------------------------------------------------------- what is drawn


def test_a_chain_starts_at_a_draw_of_the_start_whatever_its_own_length(backbone):
    prior = made(backbone)
    assert [step.name for step in prior.transitions(backbone)] == ["start", "prior"]
    wanted = prior.start.sample(backbone, ROWS, noise().derive("start", "draws")).u
    assert torch.equal(prior.sample(backbone, ROWS, noise(), Request(after="start")).u, wanted)
    assert torch.equal(prior.sample(backbone, ROWS, noise(), Request(steps=0)).u, wanted)
    moved = prior.sample(backbone, ROWS, noise()).u
    assert float((moved - wanted).abs().max()) > 0.1


def test_draws_of_the_root_stay_what_they_are(backbone):
    prior, plain = made(backbone), made(backbone, start=None)
    assert torch.equal(*(each.sample(backbone, ROWS, noise(), Request(after=ROOT)).u for each in (prior, plain)))


def test_of_several_draws_of_the_start_the_likelier_ones_under_f_are_chosen(backbone):
    prior = made(backbone, start_proposals=P)
    for parameter in prior.energy.parameters():
        parameter.data.mul_(2)  # weights that differ
    draw = prior.sample(backbone, ROWS, noise(), Request(after="start"))
    source = noise().derive("start").derive(0).derive("draws").grouped(P)
    offered = prior.start.sample(backbone, ROWS * P, source).u.view(ROWS, P, -1)
    chosen = (draw.u.unsqueeze(1) == offered).all(2)
    assert bool((chosen.sum(1) == 1).all())
    log_weights = prior.tilt(backbone.latents(offered.flatten(0, 1))).sum(1).view(ROWS, P).detach()
    assert float((log_weights[chosen] > log_weights.mean(1)).float().mean()) > 0.6
    assert set(draw.diagnostics) == {"ess_start"}


def test_a_request_for_another_number_of_proposals_still_starts_at_the_start(backbone):
    prior, several = made(backbone), made(backbone, start_proposals=P)
    one = several.sample(backbone, ROWS, noise(), Request(after="start", start_proposals=1)).u
    assert torch.equal(one, prior.sample(backbone, ROWS, noise(), Request(after="start")).u)


@pytest.mark.parametrize("mode", ["joint", "progressive"])
def test_each_chain_from_the_root_of_a_product_starts_at_the_start(backbone, mode):
    prior = made(backbone, MultiStage(stages=2, drawing=Drawing(mode=mode), start=SCORE, **CHAINS))
    names = [step.name for step in prior.transitions(backbone)]
    second = ["start stage 2", "stage 2"] if mode == "joint" else ["stage 2"]
    assert names == ["start stage 1", "stage 1", *second]
    assert [step.name for step in prior.planned_transitions(backbone)] == names


def test_a_draw_depends_on_its_own_row_alone(backbone):
    prior = made(backbone, start_proposals=P)
    whole, rest = (prior.sample(backbone, n, noise().at(first)).u for n, first in ((ROWS, 0), (ROWS - 64, 64)))
    torch.testing.assert_close(rest, whole[64:])


def test_fixed_coordinates_guide_the_start_and_stay_as_given(backbone):
    prior, u = made(backbone, start_proposals=2), points(ROWS, backbone.layout.dim)
    low, high = (backbone.layout.fix(u + shift, {0}) for shift in (-3, 3))
    a, b = (prior.sample(backbone, ROWS, noise(), Request(fixed=f, after="start")).u for f in (low, high))
    assert torch.equal(a[:, low.mask], low.u[:, low.mask])
    assert not torch.allclose(a[:, ~low.mask], b[:, ~low.mask])


def test_a_start_draws_in_the_context_of_the_root():
    layout = LatentLayout(((3,), (4,)), context=(1, 3, 3), features=((1,), (3,)))
    backbone = seeded(lambda: ReferenceBackbone(layout))
    root = DVPDiffusion(blocks=1, steps=3)
    prior = made(backbone, Joint(root=root, start=Score(root=root, width=8, depth=1, steps=2), **CHAINS))
    given = contexts(layout, ROWS)
    draw = prior.sample(backbone, ROWS, noise(), Request(context=given, after="start"))
    own = prior.start.sample(backbone, ROWS, noise().derive("start", "draws"), Request(context=given))
    assert torch.equal(draw.context, given)
    assert torch.equal(draw.u, own.u)
    with pytest.raises(ConfigError, match="draws context None, the backbone expects"):
        build_start(Joint(**CHAINS), backbone)
    assert context_of(prior) == (1, 3, 3)


# ---------------------------------------------------------------- what does not depend on it


def test_the_density_and_what_it_sees_do_not_depend_on_the_start(backbone):
    prior, plain = made(backbone), made(backbone, start=None)
    plain.energy.load_state_dict(prior.energy.state_dict())
    u = points(5, backbone.layout.dim)
    values = [each.density(backbone).value_and_grad(u) for each in (prior, plain)]
    torch.testing.assert_close(*values)
    assert sees_of(prior) == ("features",)
    assert tilt_of(prior).sees == tilt_of(plain).sees == ()


# ---------------------------------------------------------------- what is trained


def test_stages_of_the_start_come_first_under_names_of_their_own(backbone):
    assert [stage.name for stage in made(backbone).stages()] == ["start prior", "prior"]
    nested = MultiStage(stages=2, start=Joint(start=SCORE, **CHAINS), **CHAINS)
    names = [stage.name for stage in made(backbone, nested).stages()]
    assert names == ["start start prior", "start prior", "stage 1", "stage 2"]


SCORE_TABLE = {"type": "score", "width": 8, "depth": 1, "steps": 2}
TABLE = {
    **tiny("two-phase", train={"backbone": {"steps": 2}, "prior": {"steps": 3}}),
    "prior": {
        "type": "joint",
        "energy": TINY["prior"]["energy"],
        "sampler": {"type": "ula", "steps": 2},
        "start": SCORE_TABLE,
    },
}


def test_a_run_trains_the_start_then_the_prior_and_resumes_after_it(tmp_path):
    assert train(TABLE, tmp_path / "whole" / "tiny")
    assert not train(TABLE, tmp_path / "tiny", stop_after=6)
    after_start = newest(tmp_path / "tiny").tensors["prior"]
    assert train(TABLE, tmp_path / "tiny")
    assert differences(tmp_path / "tiny", tmp_path / "whole" / "tiny") == []
    end = newest(tmp_path / "tiny").tensors["prior"]
    changed = {name.split(".")[0] for name in end if not torch.equal(end[name], after_start[name])}
    assert changed == {"energy"}


# ---------------------------------------------------------------- what is refused


def test_particles_are_draws_of_the_root(backbone):
    with pytest.raises(ConfigError, match=r'prior\.start: prior\.drawing\.mode = "smc"'):
        MultiStage(drawing=Drawing(mode="smc"), start=SCORE, **CHAINS).build(backbone)


def test_a_start_has_a_step_size_of_its_own(backbone):
    adaptive = Joint(energy=MLP(width=8), sampler=MALA(steps=2, step_size=0.1, target_acceptance=0.5))
    with pytest.raises(ConfigError, match=r"prior\.start\.sampler\.target_acceptance = 0"):
        Joint(start=adaptive, **CHAINS).build(backbone)
