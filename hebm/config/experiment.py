"""A whole experiment, read from one TOML file or put together from recipes in Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import attrs

from hebm import defaults
from hebm.config.document import Document, read, read_text
from hebm.config.live_values import with_recipe
from hebm.config.overrides import Changes, Override, parse
from hebm.config.recipes import option, recipe
from hebm.config.settings import RunSettings
from hebm.config.structure import structure
from hebm.config.sweep_file import is_sweep
from hebm.config.writing import dumps, in_toml
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.errors import ConfigError
from hebm.evaluation.settings import EvaluateSettings
from hebm.interfaces import BackboneRecipe, PriorRecipe
from hebm.store.durable import replace_file, reporting
from hebm.training.phases import SchemeRecipe

E = TypeVar("E")

_UNNAMED = "experiment"
_FOLDER_NAME = r"\w[\w.+-]{0,99}"


@recipe
class Experiment:
    """The data, backbone and prior of a run, and how it is trained and measured.

    Example:
        >>> import hebm
        >>> experiment = hebm.Experiment(data=hebm.Digits(), backbone=hebm.TwoLayer(), prior=hebm.Joint())
        >>> experiment.train.prior.steps
        2000
    """

    name: str = option(
        _UNNAMED,
        doc="name of the run and its folder, by default the file's name; at most 100 letters, digits and . _ + -",
        pattern=_FOLDER_NAME,
    )
    seed: int = option(0, low=0, high=2**63 - 1, doc="seed of all random numbers")
    data: DatasetRecipe = option(doc="the data set of images")
    backbone: BackboneRecipe = option(doc="the top-down generator")
    prior: PriorRecipe = option(doc="the prior over its latents")
    train: SchemeRecipe = option(factory=defaults.TRAIN, doc="the training scheme; two-phase by default")
    evaluate: EvaluateSettings = option(factory=EvaluateSettings, doc="metrics and settings of evaluation")
    run: RunSettings = option(factory=RunSettings, doc="device, precision, checkpoints, logging")

    @classmethod
    def load(cls, path: str | Path, changes: Changes = ()) -> Self:
        """Read the experiment of a TOML file.

        Arguments:
            path: the file. Its stem is the experiment's name unless the file sets one.
            changes: values by dotted key, such as `{"seed": 1, "prior.sampler": hebm.ULA(steps=10)}`: TOML values,
                recipes, or None, which removes a key; or `--set` texts. A change of a `type` drops the file's keys of
                this table that the new type does not have.

        Raises `ConfigError` with all problems of the file, each with its place, its key and the allowed values.

        Example:
            experiment = hebm.Experiment.load("benchmarks/quickstart.toml", {"seed": 1})
        """
        overrides = parse(changes)
        document = read(path, in_toml(overrides))
        if is_sweep(document.table):
            raise ConfigError(
                f"{path}: is a sweep file, for several runs; start them with `hebm sweep {path}`, list them with "
                f"`hebm sweep {path} --dry-run`, check them with `hebm check {path}`"
            )
        document.table.setdefault("name", Path(path).stem)
        return _with_recipes(structure(cls, document), overrides)

    @classmethod
    def from_toml(cls, text: str, name: str, changes: Changes = ()) -> Self:
        """Return the experiment of a run's configuration.

        Arguments:
            text: the content of a run's `config.toml`.
            name: its name in messages.
            changes: as for `load`.

        Raises `ConfigError` like `load`.
        """
        overrides = parse(changes)
        return _with_recipes(structure(cls, read_text(text, name, in_toml(overrides))), overrides)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Self:
        """Return the experiment of a table in memory. Raises `ConfigError` like `load`, without line numbers."""
        return structure(cls, Document("table", "", table=table))

    def __str__(self) -> str:
        return self.to_toml()

    def to_toml(self) -> str:
        """Return the whole experiment as TOML, including defaults. Reading it back gives an equal experiment.

        Raises `ConfigError` for a value that TOML cannot hold.
        """
        return dumps(self)

    def save(self, path: str | Path) -> None:
        """Write the experiment to a TOML file. An existing file is replaced.

        An experiment without a name takes the name of the file.

        Raises `ConfigError` for a value that TOML cannot hold, and `CheckpointError` if the file cannot be written.
        """
        file = Path(os.path.abspath(path))
        named: Any = attrs.evolve(self, name=file.stem) if self.name == _UNNAMED else self  # type: ignore[misc]
        text = dumps(named)
        with reporting(f"write {path}"):
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, text.encode())


def require_experiment(value: Any) -> Experiment:
    """Return the value if it is an experiment. Raises `ConfigError` for anything else, such as a file name."""
    if isinstance(value, Experiment):
        return value
    raise ConfigError(
        f"expected a hebm.Experiment, got {type(value).__name__}; hebm.Experiment.load(path) reads one from a file"
    )


def _with_recipes(experiment: E, overrides: Sequence[Override]) -> E:
    for override in overrides:
        experiment = with_recipe(experiment, override.path, override.value)
    return experiment
