"""The diffusion prior against the published code: forward pairs, reverse trajectories, one training iteration."""

import pytest
import torch
from diffusion_toy import NETS, recorded_name, subject
from ebm_vectors import close

from hebm.gaussian import GaussianPrior
from hebm.interfaces import Progress, Request
from hebm.latents import Posterior
from hebm.sampling import States
from hebm_plugins.priors.diffusion.prior import DiffusionPrior
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.diffusion.schedule import schedule
from hebm_plugins.priors.labels import Coupling
from hebm_plugins.samplers.ula import ULA

named = pytest.mark.parametrize("name", NETS)


class Fed:
    """Recorded tensors by the path that derives them; each path's draws in turn."""

    def __init__(self, draws, path=()):
        self._draws, self._path = draws, path
        self._left = iter(draws.get(path, ()))

    def derive(self, *path):
        return Fed(self._draws, self._path + path)

    def normal(self, rows, *shape):
        out = next(self._left)
        assert out.shape == (rows, *shape)
        return out

    def integers(self, high, rows):
        out = next(self._left)
        assert out.shape == (rows,)
        assert out.max() < high
        return out


class Case:
    """A recorded prior and its inputs."""

    def __init__(self, name):
        self.vectors, self.backbone, energy = subject(name)
        self.levels = int(self.vectors["cfg/T"])
        recipe = Diffusion(levels=self.levels, step_size=float(self.vectors["cfg/e_l_step_size"]))
        self.prior = DiffusionPrior(
            GaussianPrior(self.backbone.layout),
            energy,
            ULA(steps=int(self.vectors["cfg/K"]), step_size=1.0),
            recipe._levels(schedule(self.levels)),
            Coupling(),
            fold=False,  # the published power iterations advance at every step
        )

    def flat(self, key, index=()):
        """Recorded per-layer tensors as one flat one."""
        return self.backbone.layout.join([self.vectors[f"{key}{i}"][index] for i in range(3)])

    def steps(self, key, index=()):
        """Return the recorded noise of each step as flat vectors."""
        return [self.flat(key, (*index, k)) for k in range(int(self.vectors["cfg/K"]))]


@named
def test_coefficients(name):
    case = Case(name)
    levels, vectors = case.prior.levels, case.vectors
    for ours, theirs in (("alpha", "a_s"), ("sigma", "sigmas"), ("alpha_cum", "a_s_cum"), ("sigma_cum", "sigmas_cum")):
        close(getattr(levels.forward, ours), vectors[f"sched/{theirs}"])
    close(levels.recovery, vectors["sched/is_recovery"][1:])
    close(levels.scale, vectors["step/per_t"])
    close(levels.energy_scale, vectors["step/per_t"])


@named
def test_forward_pairs(name):
    case = Case(name)
    noise = Fed({(): [case.flat("q/noise_a"), case.flat("q/noise_b")]})
    pair = case.prior.pair(case.flat("T/u"), case.vectors["q/t"].long(), noise)
    close(pair.u, case.flat("q/u_t"))
    close(pair.above, case.flat("q/u_t1"))


@named
@pytest.mark.parametrize("fold", [False, True])
def test_reverse_trajectories(name, fold):
    case = Case(name)
    case.prior.eval()
    case.prior.fold = fold
    orders = {case.levels - 1 - j: j for j in range(case.levels)}
    draws = {("chain", t): case.steps("p/noise", (j,)) for t, j in orders.items()}
    start = case.flat("p/uT")
    seen = States()
    u = case.prior.sample(case.backbone, len(start), Fed({("base",): [start], **draws}), Request(observe=seen)).u
    recorded = [case.flat("p/traj", (j, k)) for j in range(case.levels) for k in range(int(case.vectors["cfg/K"]))]
    assert len(seen.u) == len(recorded)
    for ours, theirs in zip(seen.u, recorded, strict=True):
        close(ours, theirs)
    with torch.no_grad():
        close(case.backbone.likelihood(case.backbone.latents(u)).mean, case.vectors["p/img_temp1"])


@named
def test_a_training_iteration(name):
    case = Case(name)
    vectors, prior = case.vectors, case.prior.train()
    t = vectors["train/t"].long()
    draws = {
        ("level",): [t],
        ("forward",): [case.flat("train/noise_a"), case.flat("train/noise_b")],
        ("chain",): case.steps("train/noise_ld"),
    }
    optimizers = [
        torch.optim.Adam(
            net.parameters(), lr=float(vectors["cfg/e_lr"]), betas=(0.99, 0.999), weight_decay=float(vectors["cfg/wd"])
        )
        for net in prior.energy.nets
    ]
    with torch.no_grad():
        posterior = Posterior(case.backbone.latents(case.flat("T/u")).detach())
    loss = prior.objective(case.backbone, posterior, Fed(draws), Progress(0, 1))
    close(loss.total, vectors["train/loss_total"])
    close(loss.terms["f_positive"], sum(vectors[f"train/fpos{i}"] for i in range(3)))
    close(loss.terms["f_negative"], sum(vectors[f"train/fneg{i}"] for i in range(3)))
    loss.total.backward()
    for i, net in enumerate(prior.energy.nets):
        for ours, parameter in net.named_parameters():
            theirs = recorded_name(net, ours)
            close(parameter.grad.norm(), vectors[f"train/gradnorm{i}/{theirs}"])
            if f"train/grad{i}/{theirs}" in vectors:
                close(parameter.grad, vectors[f"train/grad{i}/{theirs}"])
        optimizers[i].step()
        state = net.state_dict()
        for ours, value in state.items():
            theirs = recorded_name(net, ours)
            for kind in ("after", "sn_after"):
                if f"train/{kind}{i}/{theirs}" in vectors:
                    close(value, vectors[f"train/{kind}{i}/{theirs}"])
