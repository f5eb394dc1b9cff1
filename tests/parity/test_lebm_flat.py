"""Latent space EBM (one flat layer) as a case of the same classes, to 1e-8 in float64."""

import pytest
import torch
from ebm_vectors import FedNoise, close, linears, load

from hebm.densities import GeneratorPosterior, TiltedPrior
from hebm.interfaces import ImageSpec
from hebm.sampling import States, run
from hebm.tilts import Tilt
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.samplers.langevin import Langevin
from hebm_plugins.two_layer.recipe import TwoLayer

V = load("lebm_flat")


@pytest.fixture
def backbone():
    net = TwoLayer(z_dims=(5,), widths=(6,), head="upsample", sigma_offset=0.0, inference="none").build(
        ImageSpec(3, 8, 8)
    )
    net = net.double()
    recorded = [V[f"g/{i}.{kind}"] for i in (0, 2) for kind in ("weight", "bias")]
    net.generator.load_state_dict(dict(zip(net.generator.state_dict(), recorded, strict=True)))
    return net


@pytest.fixture
def tilt(backbone):
    energy = MLP(width=9, activation="leaky-relu", zero_init=False).build(backbone.layout).double()
    energy.nets[0].load_state_dict(linears(V, "e/ebm.", ["0", "2", "4"]))
    return Tilt(lambda latents: -energy(latents).squeeze(2), (energy,))  # the paper's sign is exp(−E)


@pytest.mark.parametrize(("name", "size"), [("prior", 0.4), ("post", 0.1)])
def test_chain_after_every_step(backbone, tilt, name, size):
    density = TiltedPrior(backbone, tilt) if name == "prior" else GeneratorPosterior(backbone, V["x"], tilt)
    states, noise = States(), V[f"{name}_noise"].flatten(2)
    run(Langevin(steps=len(noise), step_size=size), density, V[f"{name}_z0"].flatten(1), FedNoise(noise), None, states)
    close(torch.stack(states.u), V[f"{name}_traj"].flatten(2))


def test_losses(backbone, tilt):
    positive = backbone.latents(V["post_traj"][-1].flatten(1))
    negative = backbone.latents(V["prior_traj"][-1].flatten(1))
    close(-tilt.f(positive).mean(), V["e_pos"])
    close(-tilt.f(negative).mean(), V["e_neg"])
    error = (backbone.likelihood(positive).mean - V["x"]).square().flatten(1).sum(1).mean()
    close(error, V["loss_g"])
