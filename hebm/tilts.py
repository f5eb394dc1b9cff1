"""Log tilts as values: f, the modules it uses, and what its energies see of the latents."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hebm.backbone import Backbone, ShowsFeatures
from hebm.errors import ConfigError, PluginError
from hebm.latents import LatentLayout, Latents


class Sight(NamedTuple):
    """Something that energies can see of latents besides u, z, σ and the context.

    Arguments:
        what: it is, for error messages.
        compute: it for latents of a backbone.
        shape: of it in a layout, without the batch dimension; None or () if the backbone does not show it.
    """

    what: str
    compute: Callable[[Backbone, Latents], Tensor | tuple[Tensor, ...]]
    shape: Callable[[LatentLayout], Any]


def _showing(backbone: Backbone) -> ShowsFeatures:
    if not isinstance(backbone, ShowsFeatures):
        raise PluginError(
            f"an energy of this prior sees decoder features, and {type(backbone).__name__} shows none; use another "
            "energy, or a backbone with `decoder_features` and `last_feature`"
        )
    return backbone


LATENTS = "latents"
"""The name in `EnergyFn.sees` of u, z, σ and the context."""

SHOWN: dict[str, Sight] = {
    "image": Sight(
        "the decoded image",
        lambda backbone, latents: backbone.likelihood(latents).mean,
        lambda layout: layout.image,
    ),
    "features": Sight(
        "the decoder's features at each layer",
        lambda backbone, latents: _showing(backbone).decoder_features(latents),
        lambda layout: layout.features,
    ),
    "last-feature": Sight(
        "the decoder's last feature",
        lambda backbone, latents: _showing(backbone).last_feature(latents),
        lambda layout: layout.last_feature,
    ),
}
"""What energies can see besides z, by name: the decoded mean E[x|z], and features of the decoder."""


def expect_shown(layout: LatentLayout, sees: Iterable[str], key: str = "prior.energy") -> None:
    """Raise `ConfigError` if an energy at `key` of the configuration sees what the backbone does not show."""
    for name in sees:
        if name != LATENTS and not SHOWN[name].shape(layout):
            raise ConfigError(
                f"{key}: this energy sees {SHOWN[name].what} ({name!r}), and the backbone does not show it; use an "
                "energy of the latents alone, or a backbone that shows it"
            )


def sees_latents(*modules: nn.Module) -> bool:
    """Return whether an energy among these modules and their sub-modules sees the latents themselves."""
    return any(LATENTS in getattr(part, "sees", ()) for module in modules for part in module.modules())


def sees_of(*modules: nn.Module) -> tuple[str, ...]:
    """Return what the energies among these modules and their sub-modules see besides the latents: `EnergyFn.sees`.

    Raises `PluginError` for a name that is not in `SHOWN`.
    """
    found = {name for module in modules for part in module.modules() for name in getattr(part, "sees", ())} - {LATENTS}
    if not found <= SHOWN.keys():
        allowed, unknown = (", ".join(map(repr, names)) for names in ((LATENTS, *SHOWN), sorted(found - SHOWN.keys())))
        raise PluginError(f"an energy of this prior sees {unknown}; what energies can see: {allowed}")
    return tuple(sorted(found))


def shown(backbone: Backbone, latents: Latents, sees: tuple[str, ...]) -> Latents:
    """Return latents with what an energy sees besides z, each computed once."""
    missing = [name for name in sees if name not in latents.shown]
    if not missing:
        return latents
    added = {**latents.shown, **{name: SHOWN[name].compute(backbone, latents) for name in missing}}
    return Latents(latents.u, latents.z, latents.sigma, latents.context, latents.carried, added)


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
