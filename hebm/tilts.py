"""Log tilts as values: f, the modules that it uses, and the inputs that its energies see."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hebm.backbone import Backbone, ShowsFeatures
from hebm.errors import ConfigError, PluginError
from hebm.gradients import Gradients
from hebm.latents import LatentLayout, Latents


class Sight(NamedTuple):
    """An input of energies besides u, z, σ and the context.

    Arguments:
        what: the description in error messages.
        compute: computes the input from latents of a backbone.
        shape: returns its shape in a layout, without the batch dimension; None or () if the backbone does not show it.
    """

    what: str
    compute: Callable[[Backbone, Latents], Tensor | tuple[Tensor, ...]]
    shape: Callable[[LatentLayout], Any]


def _showing(backbone: Backbone) -> ShowsFeatures:
    if not isinstance(backbone, ShowsFeatures):
        raise PluginError(
            f"an energy of this prior sees decoder features, which {type(backbone).__name__} does not show; use "
            "another energy, or a backbone with `decoder_features` and `last_feature`"
        )
    return backbone


LATENTS = "latents"
"""The name that stands for u, z, σ and the context in `EnergyFn.sees`."""

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
"""The inputs of energies besides z, by name: the decoded mean E[x|z], and features of the decoder."""


def expect_shown(layout: LatentLayout, sees: Iterable[str], key: str = "prior.energy") -> None:
    """Raise `ConfigError` if the energy at `key` of the configuration sees inputs that the backbone does not show."""
    for name in sees:
        if name != LATENTS and not SHOWN[name].shape(layout):
            raise ConfigError(
                f"{key}: this energy sees {SHOWN[name].what} ({name!r}), which the backbone does not show; use an "
                "energy of the latents alone, or a backbone that shows it"
            )


def sees_latents(*modules: nn.Module) -> bool:
    """Return whether an energy among these modules and their sub-modules sees the latents themselves."""
    return any(LATENTS in getattr(part, "sees", ()) for module in modules for part in module.modules())


def sees_of(*modules: nn.Module) -> tuple[str, ...]:
    """Return the inputs besides the latents that energies among these modules and their sub-modules see.

    Raises `PluginError` for a name in `EnergyFn.sees` that is not in `SHOWN`.
    """
    found = {name for module in modules for part in module.modules() for name in getattr(part, "sees", ())} - {LATENTS}
    if not found <= SHOWN.keys():
        allowed, unknown = (", ".join(map(repr, names)) for names in ((LATENTS, *SHOWN), sorted(found - SHOWN.keys())))
        raise PluginError(f"an energy of this prior sees {unknown}, which is not known; energies can see {allowed}")
    return tuple(sorted(found))


def shown(backbone: Backbone, latents: Latents, sees: tuple[str, ...]) -> Latents:
    """Return latents with the inputs in `sees` added; those that are already there are not computed again."""
    missing = [name for name in sees if name not in latents.shown]
    if not missing:
        return latents
    added = {**latents.shown, **{name: SHOWN[name].compute(backbone, latents) for name in missing}}
    return Latents(latents.u, latents.z, latents.sigma, latents.context, latents.carried, added)


def seen_by(module: nn.Module, backbone: Backbone, u: Tensor, context: Tensor | None = None) -> Latents:
    """Return T(u; c) with all inputs that the energies in `module` see."""
    return shown(backbone, backbone.latents(u, context), sees_of(module))


@dataclass(frozen=True, eq=False, slots=True)  # not attrs: torch.compile cannot trace its constructor
class Tilt:
    """A log tilt f with the modules that compute it.

    Arguments:
        f: returns the log tilt of each energy at latents, `(B, E)`; the sum over E is f.
        modules: the modules that f uses; a chain freezes their parameters.
        variant: distinguishes tilts with the same modules, for example by a layer's number. Each variant gets its own
            compiled step.
        gradients: returns f and its gradients at latents, if the energy computes them (`hebm.gradients`); None if
            autograd does.
        sees: the inputs of f besides z, collected from the energies in `modules`.
    """

    f: Callable[[Latents], Tensor]
    modules: tuple[nn.Module, ...] = ()
    variant: Hashable = ()
    gradients: Callable[[Latents], Gradients] | None = None
    sees: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the inputs that the energies in the modules see."""
        object.__setattr__(self, "sees", sees_of(*self.modules))

    def at(self, backbone: Backbone, latents: Latents) -> Tensor:
        """Return f of each energy at latents of this backbone, `(B, E)`."""
        return self.f(shown(backbone, latents, self.sees))


def total(tilts: tuple[Tilt, ...]) -> Tilt:
    """Return the sum of tilts that have equal numbers of energies."""
    modules = tuple(dict.fromkeys(module for tilt in tilts for module in tilt.modules))
    variant = tuple(tilt.variant for tilt in tilts)
    return Tilt(lambda latents: torch.stack([tilt.f(latents) for tilt in tilts]).sum(0), modules, variant)
