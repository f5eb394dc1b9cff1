"""The part of a run's file that measuring images needs: data, `[evaluate]`, and where to compute."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from hebm.config.document import Document, read
from hebm.config.experiment import Experiment
from hebm.config.live_values import with_recipe
from hebm.config.overrides import Changes, parse
from hebm.config.paths import located
from hebm.config.recipes import fields_of, option, recipe
from hebm.config.settings import RunSettings
from hebm.config.structure import structure
from hebm.config.sweep_file import is_sweep
from hebm.config.writing import in_toml
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.errors import ConfigError
from hebm.evaluation.settings import EvaluateSettings


@recipe
class Reference:
    """The data that images are compared with, and the settings of the comparison."""

    seed: int = option(0, low=0, high=2**63 - 1, doc="seed of the random numbers of metrics, such as subsets")
    data: DatasetRecipe = option(doc="the data set that images are compared with")
    evaluate: EvaluateSettings = option(factory=EvaluateSettings, doc="metrics and settings of evaluation")
    run: RunSettings = option(factory=RunSettings, doc="device and cache_folder; other keys are ignored")

    @classmethod
    def load(cls, path: str | Path, changes: Changes = ()) -> tuple[Self, bool]:
        """Return the reference in a run's file, and whether the file names metrics. Other tables are not read.

        Arguments:
            path: a run's file, or one with `[data]` and optionally `[evaluate]`.
            changes: as for `Experiment.load`, for keys in these tables.

        Raises `ConfigError` with all problems of these tables, and for a change of another table.
        """
        overrides = parse(changes)
        own = {field.name for field in fields_of(cls)}
        unused = {field.name for field in fields_of(Experiment)} - own
        for override in overrides:
            if override.path[0] in unused:
                allowed = ", ".join(sorted(own))
                raise ConfigError(f"{override.source}: images are measured without a model; set only keys of {allowed}")
        document = read(path, in_toml(overrides))
        if is_sweep(document.table):
            raise ConfigError(f"{path}: is a sweep file; give the file of a run, or one with [data] and [evaluate]")
        document.table = {key: value for key, value in document.table.items() if key not in unused}
        found = structure(cls, document)
        for override in overrides:
            found = with_recipe(found, override.path, override.value)
        return located(found, {}), _names_metrics(document)


def _names_metrics(document: Document) -> bool:
    table = document.table.get("evaluate")
    return isinstance(table, dict) and "metrics" in table
