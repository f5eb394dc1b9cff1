"""Make the experiment of a checkpoint: its data set, and its training as far as it is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hebm.config.experiment import Experiment
from hebm.config.writing import to_table
from hebm.errors import CheckpointError, ConfigError
from hebm_plugins.vdvae.official.configuration import Configuration
from hebm_plugins.vdvae.official.files import Checkpoint
from hebm_plugins.vdvae.official.moments import settings_of
from hebm_plugins.vdvae.presets import PRESETS

_PUBLISHED: dict[str, Any] = {
    "lr": 1.5e-4,
    "wd": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.9,
    "eps": 1e-8,
    "warmup_iters": 100,
    "n_batch": 32,
    "ema_rate": 0.999,
    "grad_clip": 200.0,
    "skip_threshold": 400.0,
}
"""The settings of the published training by their published names, where a preset, the optimiser and the log are
silent."""


def experiment_of(checkpoint: Checkpoint, configuration: Configuration) -> tuple[Experiment, tuple[str, ...]]:
    """Return the experiment whose training ends at the checkpoint, and notes on what is unknown.

    Raises `CheckpointError` for settings that hebm does not support.
    """
    preset = _of_preset(configuration.preset)
    settings = {**_PUBLISHED, **preset, **_of_optimizer(checkpoint), **_of_log(checkpoint)}
    settings["n_batch"] = preset.get("n_batch", settings["n_batch"])  # of all GPUs; the log's is that of one
    data = {**_data(configuration), "batch_size": int(settings["n_batch"])}
    table = {
        "name": "imported",
        "data": data,
        "backbone": to_table(configuration.backbone),
        "prior": {"type": "gaussian"},
        "train": {"type": "two-phase", "unit": "nats/dim", "backbone": _phase(settings, checkpoint.step)},
    }
    try:
        experiment = Experiment.from_table(table)
    except (ConfigError, OverflowError) as error:
        raise CheckpointError(f"the training of this checkpoint is not supported: {error}") from error
    return experiment, tuple(_unknown(data, checkpoint, configuration))


def _unknown(data: Mapping[str, Any], checkpoint: Checkpoint, configuration: Configuration) -> Iterator[str]:
    """Yield notes on what is unknown of the data set and the training."""
    if "root" in data:
        yield f"data.root = {data['root']!r} is a guess: set it to the place of the images (--set data.root=PATH)"
    if configuration.preset is None and checkpoint.log is not None:
        yield f"data.batch_size = {data['batch_size']} is the log's n_batch, which counts the images on one GPU"
    if configuration.preset is None and checkpoint.log is None:
        but = "" if checkpoint.optimizer is None else " but those of the optimiser's file"
        yield f"the settings of the training are unknown; all{but} are set to usual ones of the published code"


def _of_preset(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    preset = PRESETS[name]
    return {
        "lr": preset.learning_rate,
        "n_batch": preset.batch_size,
        "ema_rate": preset.ema,
        "grad_clip": preset.clip,
        "skip_threshold": preset.skip,
    }


def _of_optimizer(checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.optimizer is None:
        return {}
    group = settings_of(checkpoint.optimizer)
    first, second = (
        betas if isinstance(betas := group.get("betas"), (tuple, list)) and len(betas) == 2 else (None, None)
    )
    found = {
        "lr": group.get("initial_lr", group.get("lr")),
        "wd": group.get("weight_decay"),
        "adam_beta1": first,
        "adam_beta2": second,
        "eps": group.get("eps"),
    }
    return {key: value for key, value in found.items() if type(value) in (int, float)}


def _of_log(checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.log is None:
        return {}
    found = {key: checkpoint.log.number(key) for key in _PUBLISHED if key != "eps"}
    return {key: value for key, value in found.items() if value is not None}


def _phase(settings: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the table of AdamW with the published schedule. Norms of gradients are in nats per dimension."""
    return {
        "steps": steps,
        "optimizer": "adamw",
        "learning_rate": settings["lr"],
        "betas": [settings["adam_beta1"], settings["adam_beta2"]],
        "epsilon": settings["eps"],
        "weight_decay": settings["wd"],
        "schedule": "constant",
        "warmup": int(settings["warmup_iters"]),
        "warmup_from_zero": True,
        "clip": settings["grad_clip"],
        "skip_above": max(settings["skip_threshold"], 0.0),
        "ema": settings["ema_rate"],
        "ema_warmup": False,
    }


def _data(configuration: Configuration) -> dict[str, Any]:
    """Return the table [data]: CIFAR-10, or a folder of images whose place is unknown."""
    side = configuration.images.height
    name = configuration.backbone.normalisation
    if (name, side) == ("cifar10", 32):
        return {"type": "cifar10"}
    root = f"data/{name}" if name != "data" else "data/images"
    return {"type": "image-folder", "root": root, "size": side, "channels": 3}
