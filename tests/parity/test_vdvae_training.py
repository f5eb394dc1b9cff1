"""Seven training steps against the published code's: rate, loss, norms, a skipped step, moments and averages."""

import pytest
import torch
from nvae_vectors import close
from vdvae_vectors import VECTORS, Case, Fed

from hebm.interfaces import Progress
from hebm.training.optimization import PhaseOptimization
from hebm.training.state import GroupState, above_limit, clip_gradients
from hebm.training.two_phase import BackbonePhase
from hebm_plugins.priors.joint import Joint

NAME = "tiny_ffhq256"


class AnyFed(Fed):
    """One recorded draw for every purpose."""

    def derive(self, *keys):
        return self


@pytest.fixture(scope="module")
def trained():
    """The case after its steps, the state of its training, and what each step showed."""
    case = Case(NAME)
    case.backbone.train()
    train = case.scalars["train"]
    settings = train["settings"]
    optimization = PhaseOptimization(
        optimizer="adamw",
        learning_rate=settings["lr"],
        betas=tuple(settings["betas"]),
        epsilon=settings["eps"],
        weight_decay=settings["wd"],
        warmup=settings["warmup_iters"],
        warmup_from_zero=True,
        clip=settings["grad_clip"],
        skip_above=settings["skip_threshold"],
        ema=settings["ema_rate"],
        ema_warmup=False,
    )
    phase = BackbonePhase(case.backbone, Joint().build(case.backbone), (), optimization, unit="nats/dim")
    state = GroupState.of("backbone", phase.groups["backbone"])
    shown = [step_of(case, phase, state, step, scale) for step, scale in enumerate(settings["eps_scale"])]
    return case, state, shown


def step_of(case, phase, state, step, scale):
    """Take a step as `PhaseRun` does; return what the vectors have of it."""
    before = [parameter.detach().clone() for parameter in case.backbone.parameters()]
    state.set_rate(step, 7)
    loss = phase(case.batch, AnyFed(scale * case.noise("eps")), Progress(step, 7))
    loss.total.backward()
    norms = clip_gradients([state], together=True)
    skipped = above_limit([state], norms)
    if not skipped:
        state.update()
    state.optimizer.zero_grad(set_to_none=True)
    after = list(case.backbone.parameters())
    return {
        "lr": state.optimizer.param_groups[0]["lr"],
        "elbo": loss.total.detach(),
        "grad_norm": norms["grad_norm_backbone"],
        "skipped": skipped,
        "update_l2": norm([a.detach() - b for a, b in zip(after, before, strict=True)]),
        "param_l2": norm(after),
        "ema_l2": norm(state.average.module.parameters()),
    }


def norm(tensors):
    return torch.stack([tensor.detach().norm() for tensor in tensors]).norm()


def test_every_step_is_the_published_one(trained):
    case, _, shown = trained
    for found, expected in zip(shown, case.scalars["train"]["steps"], strict=True):
        assert expected.keys() - {"step"} == found.keys()
        assert found.pop("skipped") == expected["skipped"]
        for key, value in found.items():
            close(value, expected[key])
    assert case.scalars["train"]["steps"][0]["lr"] == 0


def test_the_weights_averages_and_moments_at_the_end_are_the_published_ones(trained):
    case, state, _ = trained
    train = case.scalars["train"]
    averages = dict(state.average.module.named_parameters())
    for i, (name, parameter) in enumerate(case.backbone.named_parameters()):
        close(parameter.norm(), train["final_param_l2"][name])
        close(averages[name].norm(), train["final_ema_l2"][name])
        moments = state.optimizer.state[parameter]
        close(moments["exp_avg"].norm(), train["exp_avg_l2"][i])
        close(moments["exp_avg_sq"].norm(), train["exp_avg_sq_l2"][i])
        assert int(moments["step"]) == train["adam_step"]


def test_the_published_files_hold_these_weights(trained):
    case, state, _ = trained
    for name, module in (("model", case.backbone), ("model-ema", state.average.module)):
        official = torch.load(VECTORS / NAME / "trained" / f"iter-7-{name}.th", weights_only=True)
        for key, parameter in module.state_dict().items():
            theirs = official.get(key, official.get(f"module.{key}"))
            torch.testing.assert_close(parameter.float(), theirs, rtol=0, atol=1e-6)
