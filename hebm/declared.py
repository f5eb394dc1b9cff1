"""List what one distribution declares. Only metadata is read; no plugin is imported."""

from __future__ import annotations

import attrs

from hebm import registry
from hebm.distributions import normalised
from hebm.entry_points import short_group
from hebm.errors import PluginError
from hebm.suggest import did_you_mean

IN_ORDER = (
    "hebm_datasets",
    "hebm_extractors",
    "hebm_energies",
    "hebm_samplers",
    "hebm_backbones",
    "hebm_priors",
    "hebm_schemes",
    "hebm_metrics",
    "hebm_analyses",
    "hebm_formats",
    "hebm_commands",
)
"""The groups, each after those whose components it uses: the cause of a failure then stands before its effects."""


@attrs.frozen
class Declared:
    """A component that a distribution declares.

    Arguments:
        distribution: its name, normalised.
        group: such as `hebm_priors`.
        name: of the component.
    """

    distribution: str
    group: str
    name: str

    def __str__(self) -> str:
        return f"{self.distribution}/{self.key}"

    @property
    def key(self) -> str:
        """Return `priors:joint`: the component within its distribution."""
        return f"{short_group(self.group)}:{self.name}"


def everything() -> tuple[Declared, ...]:
    """List all components that distributions declare, without blocked ones, in the order of groups and of names."""
    return tuple(
        Declared(owner, group, name)
        for group in IN_ORDER
        for name, origins in sorted(registry.declared(group).items())
        for owner in sorted({normalised(origin.distribution) for origin in origins if origin.distribution})
    )


def declared_by(what: str) -> tuple[Declared, ...]:
    """List the components of `DISTRIBUTION`, or the one called `DISTRIBUTION/GROUP:NAME`.

    Raises `PluginError` if no distribution of this name declares components, or this one does not declare it.
    """
    distribution, _, key = what.strip().partition("/")
    owner, known = normalised(distribution), everything()
    owned = tuple(one for one in known if one.distribution == owner)
    if not owned:
        owners = sorted({one.distribution for one in known})
        near = did_you_mean(owner, owners)
        raise PluginError(
            f"no installed distribution {distribution!r} declares components of hebm{near} "
            f"(distributions that do: {', '.join(owners)}); install it, or check its [project.entry-points.hebm_…]"
        )
    chosen = tuple(one for one in owned if key in ("", one.key))
    if not chosen:
        keys = [one.key for one in owned]
        alike = [other for other in keys if other.partition(":")[0] == key.partition(":")[0]]
        declares = ", ".join(alike or keys)
        raise PluginError(f"{owner} declares no {key!r}{did_you_mean(key, keys)} (it declares {declares})")
    return chosen
