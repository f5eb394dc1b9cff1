"""A whole experiment: what one TOML file says, or recipes put together in Python."""

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
    """What is trained on what, and how it is trained and measured.

    Example:
        >>> import hebm
        >>> experiment = hebm.Experiment(data=hebm.Digits(), backbone=hebm.TwoLayer(), prior=hebm.Joint())
        >>> experiment.train.prior.steps
        2000
    """

    name: str = option(
        _UNNAMED,
        doc="the run's folder; the file's name when left out; at most 100 letters, digits and . _ + -",
        pattern=_FOLDER_NAME,
    )
    seed: int = option(0, low=0, high=2**63 - 1, doc="every random number is derived from it")
    data: DatasetRecipe = option(doc="the images")
    backbone: BackboneRecipe = option(doc="the top-down generator")
    prior: PriorRecipe = option(doc="the prior over its latents")
    train: SchemeRecipe = option(factory=defaults.TRAIN, doc="the training scheme; two-phase when left out")
    evaluate: EvaluateSettings = option(factory=EvaluateSettings, doc="what is measured, and how")
    run: RunSettings = option(factory=RunSettings, doc="device, precision, checkpoints, logging")

    @classmethod
    def load(cls, path: str | Path, changes: Changes = ()) -> Self:
        """Read the experiment of a TOML file.

        Arguments:
            path: the file; its stem is the experiment's name unless it gives one.
            changes: values by dotted key, such as `{"seed": 1, "prior.sampler": hebm.ULA(steps=10)}`: what TOML can
                hold, recipes, or None, which leaves a key out. `--set` texts do as well. A change of a `type` drops the
                keys of its table in the file that the new type does not have.

        Raises `ConfigError` with every problem of the file, each with its place, key and what is allowed.

        Example:
            experiment = hebm.Experiment.load("benchmarks/quickstart.toml", {"seed": 1})
        """
        overrides = parse(changes)
        document = read(path, in_toml(overrides))
        if is_sweep(document.table):
            raise ConfigError(
                f"{path}: is a sweep, a file for several runs; start them with `hebm sweep {path}`, list them with "
                f"`hebm sweep {path} --dry-run`, check them with `hebm check {path}`"
            )
        document.table.setdefault("name", Path(path).stem)
        return _with_recipes(structure(cls, document), overrides)

    @classmethod
    def from_toml(cls, text: str, name: str, changes: Changes = ()) -> Self:
        """Return the experiment of a resolved configuration's text.

        Arguments:
            text: the content of a run's `config.toml`.
            name: what to call it in messages.
            changes: as for `load`.

        Raises `ConfigError` as `load` does.
        """
        overrides = parse(changes)
        return _with_recipes(structure(cls, read_text(text, name, in_toml(overrides))), overrides)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Self:
        """Read the experiment of a table in memory. Raises `ConfigError` as `load` does, without line numbers."""
        return structure(cls, Document("table", "", table=table))

    def __str__(self) -> str:
        return self.to_toml()

    def to_toml(self) -> str:
        """Return the whole experiment as TOML, defaults included; reading it back gives an equal one.

        Raises `ConfigError` for a value that TOML cannot hold.
        """
        return dumps(self)

    def save(self, path: str | Path) -> None:
        """Write the experiment as a TOML file; an existing file is replaced.

        An experiment that was given no name takes the file's.

        Raises `ConfigError` for a value that TOML cannot hold, `CheckpointError` if the file cannot be written.
        """
        file = Path(os.path.abspath(path))
        named: Any = attrs.evolve(self, name=file.stem) if self.name == _UNNAMED else self  # type: ignore[misc]
        text = dumps(named)
        with reporting(f"write {path}"):
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, text.encode())


def require_experiment(value: Any) -> Experiment:
    """Return a value that is an experiment. Raises `ConfigError` for anything else, a file's name for example."""
    if isinstance(value, Experiment):
        return value
    raise ConfigError(
        f"expected a hebm.Experiment, got {type(value).__name__}; hebm.Experiment.load(path) reads one from a file"
    )


def _with_recipes(experiment: E, overrides: Sequence[Override]) -> E:
    for override in overrides:
        experiment = with_recipe(experiment, override.path, override.value)
    return experiment
