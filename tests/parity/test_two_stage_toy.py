"""The joint EBM's published two-stage sampler, on a backbone written as a third party would: to 1e-8 in float64."""

import pytest
import torch
from ebm_vectors import FedNoise, close, load
from toy import Toy

from hebm.densities import TiltedPrior
from hebm.gaussian import GaussianPrior
from hebm.sampling import States, run
from hebm.tilts import Tilt
from hebm.training.optimization import Optimization
from hebm_plugins.energies.conv import Conv
from hebm_plugins.priors.joint import JointPrior
from hebm_plugins.samplers.langevin import Langevin

V = load("two_stage_toy")


def flat(name):
    """The three layers of a recorded tensor, joined to (..., D)."""
    parts = [V[name.format(i)] for i in range(3)]
    lead = parts[0].ndim - 3
    return torch.cat([part.flatten(lead) for part in parts], dim=-1)


def names(net, i):
    """The recorded names of the parameters of net i, in our order."""
    layers, kinds = [], {torch.nn.Conv2d: "conv2d.conv", torch.nn.Linear: "linear.fc"}
    counts = dict.fromkeys(kinds, 0)
    modules = [m for m in net if type(m) in kinds]
    for module in modules:
        counts[type(module)] += 1
        layers.append(f"{kinds[type(module)]}{counts[type(module)]}" if module is not modules[-1] else "linear.out")
    return [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


@pytest.fixture
def backbone():
    net = Toy(2, 4, 8).double()
    net.load_state_dict({key.removeprefix("toy/"): value for key, value in V.items() if key.startswith("toy/")})
    return net


@pytest.fixture
def prior(backbone):
    energy = Conv(channels=4, width=6).build(backbone.layout).double()
    for i, net in enumerate(energy.nets):
        recorded = [V[f"ebm{i}/{name}"] for name in names(net, i)]
        net.load_state_dict(dict(zip(net.state_dict(), recorded, strict=True)))
    sampler = Langevin(steps=10, step_size=float(V["cfg/ld_size"]), convention="step")
    return JointPrior(GaussianPrior(backbone.layout), energy, sampler, official_target=True)


def test_transform_is_inverted(backbone):
    latents = backbone.latents(flat("u0_{}"))
    close(backbone.invert(latents.z).u, latents.u, 1e-12)


def test_density_of_the_root_and_gradients(backbone, prior):
    u = flat("u0_{}")
    close(backbone.latents(u).root_log_prob, V["logp"])
    root = TiltedPrior(backbone, Tilt(lambda latents: 0 * latents.u), jacobian=True)
    close(root.value_and_grad(u).grad, flat("grad_logp{}"))
    close(prior.density(backbone).value_and_grad(u).grad, flat("grad_logp{}") + flat("grad_en{}"))


def test_official_chain_after_every_step(backbone, prior):
    states = States()
    chain = run(prior.sampler, prior.density(backbone), flat("u0_{}"), FedNoise(flat("noise{}")), observe=states)
    close(torch.stack(states.u), flat("traj_u{}"))
    close(backbone.latents(chain.u).flat_z, flat("z_neg{}"))


def test_losses_gradients_and_one_update(backbone, prior):
    layout = backbone.layout
    with torch.no_grad():
        positive, negative = (backbone.invert(layout.split(flat(name))) for name in ("z_pos{}", "z_neg{}"))
    f_positive, f_negative = (prior.tilt(part).mean(0) for part in (positive, negative))
    close(f_positive, torch.stack([V[f"et{i}"] for i in range(3)]))
    close(f_negative, torch.stack([V[f"ef{i}"] for i in range(3)]))
    close(f_negative - f_positive, torch.stack([V[f"loss{i}"] for i in range(3)]))
    (f_negative - f_positive).sum().backward()
    optimization = Optimization(learning_rate=2e-5, betas=(0.99, 0.999), weight_decay=3e-5)
    before = [p.grad.norm().clone() for p in prior.energy.parameters()]
    optimization.build(prior.energy.parameters()).step()
    pairs = [
        (f"{i}/{n}", p)
        for i, net in enumerate(prior.energy.nets)
        for n, p in zip(names(net, i), net.parameters(), strict=True)
    ]
    for (name, parameter), norm in zip(pairs, before, strict=True):
        close(norm, V[f"gradnorm{name}"])
        if f"after{name}" in V:
            close(parameter, V[f"after{name}"])
