"""Log tilts as values: f, the modules it uses, and what its energies see of the latents."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hebm.latents import Latents

if TYPE_CHECKING:
    from hebm.interfaces import Backbone


def sees_of(*modules: nn.Module) -> tuple[str, ...]:
    """Return what the energies among these modules and their sub-modules see besides z: `EnergyFn.sees`."""
    found = {name for module in modules for part in module.modules() for name in getattr(part, "sees", ())}
    return tuple(sorted(found))


def shown(backbone: Backbone, latents: Latents, sees: tuple[str, ...]) -> Latents:
    """Return latents with what an energy sees besides z: for "image" the decoded mean E[x|z], computed once."""
    if "image" not in sees or latents.decoded is not None:
        return latents
    image = backbone.likelihood(latents).mean
    return Latents(latents.u, latents.z, latents.sigma, latents.context, latents.features, image)


def seen_by(module: nn.Module, backbone: Backbone, u: Tensor, context: Tensor | None = None) -> Latents:
    """Return T(u; c) with all that the energies in `module` see."""
    return shown(backbone, backbone.latents(u, context), sees_of(module))


@dataclass(frozen=True, eq=False, slots=True)  # not attrs: torch.compile cannot trace its constructor
class Tilt:
    """A log tilt f, and what it is computed with.

    Arguments:
        f: log tilts per energy, `(B, E)`, of latents; their sum over E is f.
        modules: the live modules that f uses; a chain freezes their parameters.
        variant: tells tilts of the same modules apart, such as a layer's number: each has a compiled step of its own.
        sees: what f needs of latents besides z, from the modules' energies.
    """

    f: Callable[[Latents], Tensor]
    modules: tuple[nn.Module, ...] = ()
    variant: Hashable = ()
    sees: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Ask the modules what their energies see."""
        object.__setattr__(self, "sees", sees_of(*self.modules))

    def at(self, backbone: Backbone, latents: Latents) -> Tensor:
        """Return f per energy at latents of this backbone, `(B, E)`."""
        return self.f(shown(backbone, latents, self.sees))


def total(tilts: tuple[Tilt, ...]) -> Tilt:
    """Return the sum of tilts with as many energies each."""
    modules = tuple(dict.fromkeys(module for tilt in tilts for module in tilt.modules))
    variant = tuple(tilt.variant for tilt in tilts)
    return Tilt(lambda latents: torch.stack([tilt.f(latents) for tilt in tilts]).sum(0), modules, variant)
