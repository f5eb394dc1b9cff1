"""List the components that a distribution declares. It reads only metadata and imports no plugin."""

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
"""The groups in order of dependency, so that the cause of a failure is listed before its effects."""


@attrs.frozen
class Declared:
    """A component that a distribution declares.

    Arguments:
        distribution: its name, normalised.
        group: the group, such as `hebm_priors`.
        name: the component's name.
    """

    distribution: str
    group: str
    name: str

    def __str__(self) -> str:
        return f"{self.distribution}/{self.key}"

    @property
    def key(self) -> str:
        """Return the component within its distribution, such as `priors:joint`."""
        return f"{short_group(self.group)}:{self.name}"


def everything() -> tuple[Declared, ...]:
    """List all declared components without blocked ones, ordered by group and name."""
    return tuple(
        Declared(owner, group, name)
        for group in IN_ORDER
        for name, origins in sorted(registry.declared(group).items())
        for owner in sorted({normalised(origin.distribution) for origin in origins if origin.distribution})
    )


def declared_by(what: str) -> tuple[Declared, ...]:
    """List the components of `DISTRIBUTION`, or the single one `DISTRIBUTION/GROUP:NAME`.

    Raises `PluginError` if no distribution of this name declares components, or if it does not declare this one.
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
