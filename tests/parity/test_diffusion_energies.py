"""The published nets of the diffusion-learned prior and their spectral norm: to 1e-8 in float64."""

import pytest
import torch
from diffusion_toy import NETS, recorded_name, subject
from ebm_vectors import close


@pytest.fixture(scope="module", params=NETS)
def recorded(request):
    return subject(request.param)


def at(vectors, backbone):
    """T at the recorded u, with a gradient, and the recorded levels."""
    u = backbone.layout.join([vectors[f"T/u{i}"] for i in range(3)]).requires_grad_()
    return u, vectors["energy/t"].long()


def test_every_recorded_weight_has_a_place(recorded):
    vectors, _, energy = recorded
    for i, net in enumerate(energy.nets):
        ours = {f"ebm{i}/{recorded_name(net, key)}" for key in net.state_dict()}
        assert ours == {key for key in vectors if key.startswith(f"ebm{i}/")}


@pytest.mark.parametrize("form", ["unfolded", "folded", "folded one by one"])
def test_energies_and_gradients(recorded, form):
    vectors, backbone, energy = recorded
    u, t = at(vectors, backbone)
    energy.eval()
    energy.together = form != "folded one by one"
    tilt = energy if form == "unfolded" else energy.folded(t)
    f = tilt(backbone.latents(u), t).squeeze(2)
    (grad,) = torch.autograd.grad(f.sum(), u)
    for i, part in enumerate(backbone.layout.split(grad)):
        close(f[:, i], vectors[f"energy/e{i}"])
        close(part, vectors[f"energy/grad_u{i}"])


def test_spectral_norms_advance_once_per_forward_in_training():
    # u and v depend on the weights and the number of forwards alone: K in the chain, the positives, the negatives
    vectors, backbone, energy = subject("diffusion_T3_cifarnet")
    u, t = at(vectors, backbone)
    energy.train()
    latents = backbone.latents(u)
    for _ in range(int(vectors["cfg/K"]) + 2):
        energy(latents, t)
    for i, net in enumerate(energy.nets):
        ours = {recorded_name(net, key): value for key, value in net.state_dict().items() if key.endswith("normal.u")}
        prefix = f"train/sn_after{i}/"
        theirs = {key.removeprefix(prefix): value for key, value in vectors.items() if key.startswith(prefix)}
        assert len(theirs) >= 17  # the shorter ones were recorded
        for key, value in theirs.items():
            close(ours[key], value)
