"""The whole configuration file: an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hebm import defaults
from hebm.config.document import Document, read
from hebm.config.recipe import option, recipe
from hebm.config.settings import RunSettings
from hebm.config.structure import structure
from hebm.data.recipe import DatasetRecipe
from hebm.evaluate.settings import EvaluateSettings
from hebm.interfaces import BackboneRecipe, PriorRecipe
from hebm.training.phases import SchemeRecipe

_FOLDER_NAME = r"\w[\w.+-]{0,99}"


@recipe
class Experiment:
    """What one TOML file says: data, backbone, prior, how to train, evaluate and run them."""

    name: str = option(
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


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read the experiment of a TOML file.

    Arguments:
        path: the file; its stem is the experiment's name unless it gives one.
        overrides: `--set` texts, `key=value`, the value being TOML or a bare word. An override of a `type` drops
            the keys of its table in the file that the new type does not have.

    Raises `ConfigError` with every problem of the file, each with its place, key and what is allowed.
    """
    document = read(path, overrides)
    document.table.setdefault("name", Path(path).stem)
    return structure(Experiment, document)


def from_table(table: dict[str, Any]) -> Experiment:
    """Read the experiment of a table in memory. Raises `ConfigError` as `load` does, without line numbers."""
    return structure(Experiment, Document("table", "", table=table))
