"""The components that the core uses if a file names none.

This is the only module of `hebm/` that names a plugin (the example that `hebm init` writes names some, too). Each
default is found when it is needed, so that importing the core imports no plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from hebm import registry


@attrs.frozen
class Default:
    """A component given by name; calling it finds and makes the component.

    Arguments:
        group: of the registry.
        name: in the group.
        keys: that differ from the component's own defaults.
    """

    group: str
    name: str
    keys: Mapping[str, Any] = attrs.field(factory=dict)

    def __call__(self) -> Any:
        """Make the recipe. Raises `PluginError` if it is not available."""
        return registry.find(self.group, self.name)(**self.keys)


TRAIN = Default("hebm_schemes", "two-phase")
POSTERIOR_SAMPLER = Default("hebm_samplers", "langevin", {"steps": 40, "step_size": 0.1})
ANNEALED_SAMPLER = Default("hebm_samplers", "pcn-mala", {"steps": 4, "target_acceptance": 0.6})
EXTRACTORS = (Default("hebm_extractors", "classifier"), Default("hebm_extractors", "efficientnet-lite0"))
"""The first of them that is suited to the images is used."""
DIAGNOSIS = Default("hebm_analyses", "hole")
METRICS = (Default("hebm_metrics", "fd"), Default("hebm_metrics", "gap-closed"))


def metrics() -> tuple[Any, ...]:
    """Make the default metrics. Raises `PluginError` if one is not available."""
    return tuple(make() for make in METRICS)


EXAMPLE = {"[data]": "digits", "[backbone]": "two-layer", "[prior]": "joint"}
"""The components of the experiment in the example of a new plugin, by table."""
