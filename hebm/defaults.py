"""The default components, which the core uses if a configuration names none.

No other module of `hebm/` names a plugin, except the example that `hebm init` writes. Defaults are looked up when
needed, so importing the core imports no plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from hebm import registry


@attrs.frozen
class Default:
    """A component given by group and name. Calling it returns the component's recipe.

    Arguments:
        group: the group in the registry.
        name: the name in the group.
        keys: keys that differ from the component's own defaults.
    """

    group: str
    name: str
    keys: Mapping[str, Any] = attrs.field(factory=dict)

    def __call__(self) -> Any:
        """Return the recipe. Raises `PluginError` if the component is not available."""
        return registry.find(self.group, self.name)(**self.keys)


TRAIN = Default("hebm_schemes", "two-phase")
POSTERIOR_SAMPLER = Default("hebm_samplers", "langevin", {"steps": 40, "step_size": 0.1})
ANNEALED_SAMPLER = Default("hebm_samplers", "pcn-mala", {"steps": 4, "target_acceptance": 0.6})
EXTRACTORS = (Default("hebm_extractors", "classifier"), Default("hebm_extractors", "efficientnet-lite0"))
"""The first extractor that suits the images is the default."""
DIAGNOSIS = Default("hebm_analyses", "hole")
METRICS = (Default("hebm_metrics", "fd"), Default("hebm_metrics", "gap-closed"))


def metrics() -> tuple[Any, ...]:
    """Return the recipes of the default metrics. Raises `PluginError` if one is not available."""
    return tuple(make() for make in METRICS)


EXAMPLE = {"[data]": "digits", "[backbone]": "two-layer", "[prior]": "joint"}
"""The components in the example experiment of a new plugin, by table."""
