"""Check how a prior's training evaluates its energy. Every check is called with a recipe and a live backbone."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor, nn

from hebm.config.recipes import recipe as recipe_class
from hebm.interfaces import Backbone, EnergyFn, EnergyRecipe, Latents, PriorRecipe, Progress, Stage
from hebm.latents import LatentLayout
from hebm.noise import Noise
from hebm.testing.prior_subjects import built, posterior_of
from hebm.testing.promises import expect

PENALTY = 1e6
"""The probe's penalty, much larger than any loss."""


class ProbeEnergy(EnergyFn):
    """An energy with f_i linear in z_i that counts its evaluations.

    Attributes:
        plain: number of evaluations of the energy itself with gradients in its parameters, as chains never make.
        views: number of evaluations of its perturbed views.
    """

    def __init__(self, layout: LatentLayout, logits: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nn.Linear(size, logits) for size in layout.sizes)
        self.plain, self.views = 0, 0

    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return f `(B, L, K)`."""
        self.plain += torch.is_grad_enabled() and all(p.requires_grad for p in self.parameters())
        return self.value(latents)

    def value(self, latents: Latents) -> Tensor:
        """Return f `(B, L, K)` without counting the evaluation."""
        parts = zip(self.nets, latents.z, strict=True)
        return torch.stack([net(z.flatten(1)) for net, z in parts], dim=1)

    def perturbed(self, noise: Noise) -> EnergyFn:
        """Return a view that counts its evaluations."""
        return _View(self)

    def penalty(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return a constant that the loss must include."""
        return latents.u.new_tensor(PENALTY)


class _View(EnergyFn):
    def __init__(self, whole: ProbeEnergy) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        self.whole.views += 1
        return self.whole.value(latents)


@recipe_class
class Probe(EnergyRecipe):
    """Builds a probe with an output for each layer."""

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> ProbeEnergy:
        """Build a probe with an output for each layer."""
        return ProbeEnergy(layout, logits)


def check_energy_in_training(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that training evaluates `energy.perturbed(noise)` and adds `energy.penalty(posterior draws)` to the loss.

    Passes for a recipe without a field `energy`.
    """
    if not isinstance(getattr(recipe, "energy", None), EnergyRecipe):
        return
    probed: Any = recipe
    probing: PriorRecipe = attrs.evolve(probed, energy=Probe())
    for k in range(len(built(probing, backbone)[0].stages())):
        prior, twin = built(probing, backbone, started=k + 1)
        stage = prior.stages()[k]
        probes = [module for module in stage.module.modules() if isinstance(module, ProbeEnergy)]
        if probes:
            _expect_regularised(stage, probes, twin)


def _expect_regularised(stage: Stage, probes: list[ProbeEnergy], backbone: Backbone) -> None:
    for probe in probes:
        probe.plain = probe.views = 0
    posterior = posterior_of(backbone, stage.module)
    loss = stage.objective(backbone, posterior, Noise(0, "objective"), Progress(9, 10)).total
    plain, views = (sum(getattr(probe, name) for probe in probes) for name in ("plain", "views"))
    expect(
        views > 0 and plain == 0,
        f"the loss of stage {stage.name!r} evaluates energy.perturbed(noise) and not the energy itself",
        f"{views} evaluations of perturbed views, {plain} of the energy itself",
        'set energy = self.energy.perturbed(noise.derive("energy")), and compute the loss from energy(latents)',
    )
    expect(
        float(loss.detach()) > PENALTY / 2,
        f"the loss of stage {stage.name!r} includes the energy's penalty",
        f"a loss of {float(loss.detach()):.3g} with a penalty of {PENALTY:g}",
        'return Loss(…).plus("penalty", self.energy.penalty(posterior.latents))',
    )
