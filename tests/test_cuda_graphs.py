"""Recorded steps: the numbers of the eager ones; on a CPU the sampler itself."""

import pytest
import torch

from hebm.cuda_graphs import Graphed
from hebm.densities import TiltedPrior
from hebm.errors import ConfigError
from hebm.noise import Noise
from hebm.sampling import States, Trace, run
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import seeded
from hebm.tilts import Tilt
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.joint import Joint
from hebm_plugins.samplers.langevin import Langevin
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.pcn import PCN
from hebm_plugins.samplers.pcn_mala import PCNMALA
from hebm_plugins.samplers.ula import ULA

SAMPLERS = [ULA(steps=6), Langevin(steps=6, step_size=0.2), MALA(steps=6), PCN(steps=6), PCNMALA(steps=6)]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")),
]


@pytest.fixture
def made():
    backbone = seeded(ReferenceBackbone)
    return backbone, seeded(lambda: Joint(energy=MLP(width=8, zero_init=False)).build(backbone))


def chain(sampler, made, device, observe=None):
    backbone, prior = (module.to(device) for module in made)
    noise = Noise(0, "chain", device=device)
    start = noise.derive("start").normal(70, backbone.layout.dim)
    return run(sampler, prior.density(backbone), start, noise, observe=observe).u


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_a_recorded_chain_has_the_numbers_of_the_eager_one(sampler, device, made):
    torch.testing.assert_close(chain(Graphed(sampler), made, device), chain(sampler, made, device))


@pytest.mark.parametrize("device", DEVICES)
def test_observers_keep_what_they_saw(device, made):
    states, trace = (States(), States()), (Trace(), Trace())
    for i, sampler in enumerate((SAMPLERS[2], Graphed(SAMPLERS[2]))):
        chain(sampler, made, device, states[i])
        chain(sampler, made, device, trace[i])
    torch.testing.assert_close(torch.stack(states[1].u), torch.stack(states[0].u))
    torch.testing.assert_close(torch.stack(trace[1].values), torch.stack(trace[0].values))
    assert len(trace[1].accepted) == 6


def test_it_looks_like_the_sampler():
    assert (Graphed(ULA(steps=7)).steps, Graphed(MALA()).draws) == (7, ("normal", "uniform"))
    assert repr(Graphed(ULA(steps=7))).startswith("Graphed(ULA(steps=7")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_step_that_waits_for_the_gpu_is_an_error_that_names_the_key(made):
    backbone, _ = (module.cuda() for module in made)
    waiting = TiltedPrior(backbone, Tilt(lambda latents: latents.u * float(latents.u[0, 0])))
    with pytest.raises(ConfigError, match=r"run\.cuda_graphs: .*set run\.cuda_graphs = false"):
        run(Graphed(ULA()), waiting, torch.zeros(3, backbone.layout.dim, device="cuda"), Noise(0, device="cuda"))
