"""The joint EBM's published joint training, reproduced to 1e-8 in float64."""

import pytest
import torch
from ebm_vectors import FedNoise, close, linears, load

from hebm.densities import LatentSpace
from hebm.interfaces import ImageSpec
from hebm.sampling import States, run
from hebm.tilts import Tilt
from hebm.training.joint import generator_loss
from hebm.training.optimization import Optimization
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.samplers.langevin import Langevin
from hebm_plugins.two_layer.presets import TwoLayerJoint

V = load("joint_2layer")
HIDDEN = [f"logit.fc{i}" for i in range(1, 5)]


def cat(name, sep="_"):
    """Return the latents with the top layer first, [z2, z1]."""
    return torch.cat([V[f"{name}{sep}z2"], V[f"{name}{sep}z1"]], dim=-1)


@pytest.fixture
def backbone():
    recipe = TwoLayerJoint(z_dims=(5, 6), widths=(12, 8, 6), prior_width=9)
    net = recipe.build(ImageSpec(3, 32, 32)).double()
    generator = {f"{1 + 2 * i}.{k}": V[f"w/px_z1/decode.{2 * i}.{k}"] for i in range(4) for k in ("weight", "bias")}
    net.generator.load_state_dict(generator)
    net.conditionals[0].net.load_state_dict(linears(V, "w/pz1_z2/", [*HIDDEN, "logit.out"]))
    return net


@pytest.fixture
def energy(backbone):
    recipe = MLP(width=(8, 10), depth=(2, 3), activation="leaky-relu", zero_init=False)
    net = recipe.build(backbone.layout).double()
    for i, (name, depth) in enumerate((("e2", 2), ("e1", 3))):
        layers = [*(f"energy.fc{k + 1}" for k in range(depth)), "energy.out"]
        net.nets[i].load_state_dict(linears(V, f"w/{name}/", layers))
    return net


def tilt_of(energy):
    return Tilt(lambda latents: energy(latents).squeeze(2), (energy,))


NOTHING = Tilt(lambda latents: 0 * latents.u)


def test_prior_density_and_gradients_at_the_start(backbone, energy):
    z = cat("prior/init")
    latents = backbone.invert(backbone.layout.split(z))
    close(latents.root_log_prob.sum(), V["prior/init_logpz_sum"])
    f = energy(latents).squeeze(2).sum(0)
    close(f, torch.stack([V["prior/init_en2_sum"], V["prior/init_en1_sum"]]))
    grad_base = LatentSpace(backbone, NOTHING).value_and_grad(z).grad
    close(grad_base, cat("prior/init_grad_logpz"))
    grad = LatentSpace(backbone, tilt_of(energy)).value_and_grad(z).grad
    close(grad, cat("prior/init_grad_logpz") + cat("prior/init_grad_en"))


def test_posterior_density_and_gradients_at_the_start(backbone, energy):
    z = cat("post/init")
    latents = backbone.invert(backbone.layout.split(z))
    image = backbone.likelihood(latents).mean
    close(image[0], V["post/init_xrec"][0])
    close((image - V["x"]).square().sum(), V["post/init_recon_sum"])
    density = LatentSpace(backbone, NOTHING, target=V["x"])
    close(density.value_and_grad(z).grad, cat("post/init_grad_logpx"))


@pytest.mark.parametrize(("phase", "steps", "size"), [("prior", 10, 0.4), ("post", 6, 0.1)])
def test_chain_after_every_step(backbone, energy, phase, steps, size):
    target = V["x"] if phase == "post" else None
    density = LatentSpace(backbone, tilt_of(energy), target)
    states = States()
    run(
        Langevin(steps=steps, step_size=size),
        density,
        cat(f"{phase}/init"),
        FedNoise(cat(f"{phase}/noise")),
        None,
        states,
    )
    close(torch.stack(states.u), cat(f"{phase}/traj"))


@pytest.mark.parametrize(("phase", "steps", "size"), [("prior", 10, 0.4), ("post", 6, 0.1)])
def test_chain_without_noise(backbone, energy, phase, steps, size):
    density = LatentSpace(backbone, tilt_of(energy), V["x"] if phase == "post" else None)
    sampler = Langevin(steps=steps, step_size=size, noise_scale=0.0)
    chain = run(sampler, density, cat(f"{phase}/init"), FedNoise(cat(f"{phase}/noise")))
    close(chain.u, torch.cat([V[f"{phase}/traj_nonoise_z{i}_last"] for i in (2, 1)], dim=-1))


@pytest.fixture
def losses(backbone, energy):
    layout = backbone.layout
    with torch.no_grad():
        positive = backbone.invert(layout.split(cat("post/traj")[-1])).detach()
        negative = backbone.invert(layout.split(cat("prior/traj")[-1])).detach()
    generator = generator_loss(backbone, V["x"], positive, negative)
    f_positive, f_negative = (energy(part).squeeze(2).mean(0) for part in (positive, negative))
    return generator, f_positive, f_negative


def test_losses(losses):
    generator, f_positive, f_negative = losses
    pixels = 3 * 32 * 32
    constant = pixels * torch.log(torch.tensor(0.3, dtype=torch.float64)) + pixels * 0.5 * torch.log(
        torch.tensor(2 * torch.pi, dtype=torch.float64)
    )
    close(generator.terms["reconstruction"] - constant, V["loss/gen0"])
    top = [V[f"{phase}/traj_z2"][-1].square().sum(1).mean() / (2 * 1.01**2) for phase in ("post", "prior")]
    log_p_beta = generator.terms["log_p_beta"] - (top[0] - top[1])  # theirs leaves out log p(z2), constant in β
    close(log_p_beta, V["loss/gen1"])
    close(f_positive, torch.stack([V["loss/e2_t"], V["loss/e1_t"]]))
    close(f_negative, torch.stack([V["loss/e2_f"], V["loss/e1_f"]]))


def parameters(backbone, energy):
    """(our parameter, the vectors' name, group)."""
    yield from (
        (p, f"px_z1/decode.{int(n.split('.')[0]) - 1}.{n.split('.')[1]}", 1e-4)
        for n, p in backbone.generator.named_parameters()
    )
    nets = [
        (backbone.conditionals[0].net, "pz1_z2", [*HIDDEN, "logit.out"], 1e-4),
        (energy.nets[0], "e2", ["energy.fc1", "energy.fc2", "energy.out"], 2e-5),
        (energy.nets[1], "e1", ["energy.fc1", "energy.fc2", "energy.fc3", "energy.out"], 2e-5),
    ]
    for net, prefix, names, rate in nets:
        for name, parameter in net.named_parameters():
            index, kind = name.split(".")
            yield parameter, f"{prefix}/{names[int(index) // 2]}.{kind}", rate


def test_gradients_and_one_iteration(backbone, energy, losses):
    generator, f_positive, f_negative = losses
    (generator.total + (f_negative - f_positive).sum()).backward()
    named = list(parameters(backbone, energy))
    for parameter, name, _ in named:
        close(parameter.grad.norm(), V[f"gradnorm/{name}"])
        if f"grad/{name}" in V:
            close(parameter.grad, V[f"grad/{name}"])
    for rate in (1e-4, 2e-5):
        Optimization(learning_rate=rate).build([p for p, _, r in named if r == rate]).step()
    checked = [name for parameter, name, _ in named if f"after1iter/{name}" in V]
    for parameter, name, _ in named:
        if name in checked:
            close(parameter, V[f"after1iter/{name}"])
    assert len(checked) == sum(key.startswith("after1iter/") for key in V)
