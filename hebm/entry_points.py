"""Read the entry points of each group, and the interface number that each distribution declares.

This reads only metadata and imports no plugin.
"""

from __future__ import annotations

import functools
import importlib
from importlib import metadata

import attrs

from hebm.distributions import Distribution, installed_distributions, normalised
from hebm.errors import PluginError
from hebm.suggest import did_you_mean

COMMANDS = "hebm_commands"
GROUPS = {
    "hebm_backbones": "hebm.interfaces:BackboneRecipe",
    "hebm_energies": "hebm.interfaces:EnergyRecipe",
    "hebm_priors": "hebm.interfaces:PriorRecipe",
    "hebm_samplers": "hebm.samplers:Sampler",
    "hebm_datasets": "hebm.data.dataset_recipe:DatasetRecipe",
    "hebm_extractors": "hebm.evaluation.extractors:ExtractorRecipe",
    "hebm_metrics": "hebm.evaluation.metric:MetricRecipe",
    "hebm_schemes": "hebm.training.phases:SchemeRecipe",
    "hebm_formats": "hebm.porting:CheckpointFormat",
    "hebm_analyses": "hebm.analysis.analysis_recipe:AnalysisRecipe",
    COMMANDS: "click:Command",
}
"""The interface of each group. Components are subclasses of it; commands are instances."""
INTERFACE = 6
"""The version of these interfaces. It increases when a working plugin could break. The first releases had 1."""
INTERFACE_GROUP = "hebm_interface"
"""Entry-point group in which a distribution declares, as a name, the interface number of its plugins."""

_OWN = "hebm"  # the distribution of the interfaces themselves


@attrs.frozen
class Origin:
    """The origin of a registered name.

    Arguments:
        distribution: the distribution that declares it; None for a name registered by hand.
        version: the distribution's version.
        module: the module of the object.
        attr: the object's name in the module.
        file, line: where the object is defined, if known.
        interfaces: the interface numbers that the distribution declares.
    """

    distribution: str | None
    version: str | None
    module: str
    attr: str
    file: str | None = None
    line: int | None = None
    interfaces: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}" if self.distribution else "registered by hand"

    @property
    def path(self) -> str:
        """Return `module:attr`, the value of the entry point."""
        return f"{self.module}:{self.attr}"

    @property
    def outdated(self) -> str | None:
        """Return a message if the distribution declares another interface number; None if this one, or none at all."""
        if not self.interfaces or str(INTERFACE) in self.interfaces:
            return None
        return (
            f"written for interface {' and '.join(self.interfaces)}, this hebm has {INTERFACE}; install a release of "
            f"{self.distribution} for interface {INTERFACE}, or another hebm"
        )

    @property
    def undeclared(self) -> str:
        """Return a hint for a broken plugin whose distribution declares no interface number; "" for others."""
        if self.interfaces or self.distribution is None or normalised(self.distribution) == _OWN:
            return ""
        return f"; {self.distribution} does not declare which interface it was written for, this hebm has {INTERFACE}"


def full_group(group: str) -> str:
    """Return `hebm_priors` for `priors` or `hebm_priors`. Raises `PluginError` for an unknown group."""
    return require_group(group if group in GROUPS else f"hebm_{group.removeprefix('hebm_')}")


def require_group(group: str) -> str:
    """Return the group unchanged. Raises `PluginError` if it is not in `GROUPS`."""
    if group not in GROUPS:
        raise PluginError(f"unknown group {group!r}{did_you_mean(group, GROUPS)}; groups: {', '.join(GROUPS)}")
    return group


def short_group(group: str) -> str:
    """Return the short name of a group, as commands show it: `priors` for `hebm_priors`."""
    return group.removeprefix("hebm_")


@functools.cache
def installed(group: str) -> tuple[tuple[str, Origin], ...]:
    """List (name, origin) of a group's entry points in readable distributions."""
    return tuple(
        (point.name, _origin(one, point))
        for one in installed_distributions().declaring
        for point in one.points
        if point.group == group
    )


def reread() -> None:
    """Clear the caches, so that newly installed distributions are found."""
    installed.cache_clear()
    installed_distributions.cache_clear()
    importlib.invalidate_caches()


def _origin(one: Distribution, point: metadata.EntryPoint) -> Origin:
    module, _, attr = point.value.partition("[")[0].partition(":")
    numbers = tuple(sorted({point.name for point in one.points if point.group == INTERFACE_GROUP}))
    return Origin(one.name, one.version, module.strip(), attr.strip(), interfaces=numbers)
