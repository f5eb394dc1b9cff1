"""Convert `checkpoint.pt` of the published code to a trained NVAE, and back."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from hebm.config.experiment import Experiment
from hebm.config.recipes import recipe
from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec
from hebm.porting import CheckpointFormat, ConvertedCheckpoint, ForeignFile, only_file
from hebm.published_weights import in_single_precision, listed, number, unwrapped
from hebm_plugins.nvae.adamax import moments_of, with_moments
from hebm_plugins.nvae.backbone import NVAEBackbone
from hebm_plugins.nvae.cells import ARCHITECTURES
from hebm_plugins.nvae.official.arguments import DEFAULTS, arguments_of, experiment_of, nvae_of
from hebm_plugins.nvae.official.averages import of_averages
from hebm_plugins.nvae.official.image_sets import is_known
from hebm_plugins.nvae.official.names import official_names
from hebm_plugins.nvae.official.state_dict import (
    assembled,
    check_state,
    keys_of,
    own_aliases,
    parameters_in,
    with_whole_counts,
)

_LICENCE = (
    "weights published by NVIDIA have their own licence, which may allow non-commercial use only; "
    "read it where you downloaded the file"
)


@recipe
class NVAECheckpoint(CheckpointFormat):
    """`checkpoint.pt` of the published NVAE code (arXiv 2007.03898), and of code that builds on it."""

    allowed: ClassVar[tuple[type, ...]] = (Namespace,)

    def read(self, files: tuple[ForeignFile, ...]) -> ConvertedCheckpoint:
        """Convert arguments to an experiment and names to names, strictly; keep as leftovers what has no place here."""
        content = only_file(files).content
        state, args, step, said = _parts(content)
        experiment, images = experiment_of(args, step, state)
        _check_count(experiment, len(state))
        backbone = _outline(experiment, images)
        names = official_names(backbone)
        check_state(state, backbone, names)
        moments, rest = moments_of(content.get("optimizer"), parameters_in(state, names), backbone)
        left = {**content, "state_dict": None, "args": vars(content["args"]).copy()}
        leftovers = {
            "content": {**left, "optimizer": rest} if "optimizer" in content else left,
            "keys": list(state),
            "aliases": own_aliases(state),
            "metadata": getattr(state, "_metadata", None),
        }
        tensors = {ours: state[theirs] for ours, theirs in names.items()}
        unknown = not moments and bool(isinstance(rest, dict) and rest.get("state"))
        notes = (*_notes(experiment, unknown), *_of_images(args, images), *said, of_averages(content))
        return ConvertedCheckpoint(experiment, images, tensors, moments, step, leftovers, notes)

    def write(self, converted: ConvertedCheckpoint) -> ForeignFile:
        """Write the published file of a run: what it was imported from, with the run's weights and moments."""
        backbone = _outline(converted.experiment, converted.images)
        names = official_names(backbone)
        absent = [ours for ours in names if ours not in converted.backbone]
        if absent:
            raise CheckpointError(f"the run's backbone lacks {listed(absent)}; another version of hebm wrote it")
        left = converted.leftovers
        if left is None:
            args = arguments_of(converted.experiment, converted.images)
            left = {"content": _fresh(args), "keys": keys_of(names, backbone), "aliases": {}}
        state = assembled({theirs: converted.backbone[ours] for ours, theirs in names.items()}, left)
        given = Namespace()
        vars(given).update(left["content"]["args"])
        content = {**left["content"], "state_dict": state, "args": given}
        gone_on = converted.leftovers is None or content.get("global_step", 0) != converted.step
        content |= {"global_step": converted.step} if gone_on else {}
        if "optimizer" in content:
            parameters = parameters_in(state, names)
            content["optimizer"] = with_moments(content["optimizer"], converted.moments, parameters, gone_on)
        return ForeignFile("checkpoint.pt", content)

    def example(self) -> tuple[Experiment, ImageSpec]:
        """Return a small NVAE of binarised digits."""
        sizes = {"channels": 4, "groups": 2, "latent_channels": 2, "encoder_cells": 1, "decoder_cells": 1, "blocks": 1}
        backbone = {"type": "nvae", "likelihood": "bernoulli", "pad": 2, "pre_cells": 1, "post_cells": 1, **sizes}
        table = {"data": {"type": "mnist", "binarize": "both"}, "backbone": backbone, "prior": {"type": "gaussian"}}
        return Experiment.from_table({"name": "example", **table}), ImageSpec(1, 28, 28, binary=True)


# ---------------------------------------------------------------- reading


def _parts(content: Any) -> tuple[Mapping[str, Any], dict[str, Any], int, list[str]]:
    """Return the state dict, the arguments and the step of a published file, and notes on conversions.

    Raises `CheckpointError` for any other kind of file.
    """
    needed = "it needs state_dict, args (an argparse.Namespace), optimizer and global_step"
    if not isinstance(content, dict):
        raise CheckpointError(f"this is not an NVAE checkpoint: it holds a {type(content).__name__}; {needed}")
    state, args, step = content.get("state_dict"), content.get("args"), number(content.get("global_step", 0))
    if not isinstance(state, dict) or not isinstance(args, Namespace):
        alone = any(isinstance(value, Tensor) for value in content.values())
        what = "weights alone, without the arguments that describe their model" if alone else "something else"
        raise CheckpointError(f"this is not an NVAE checkpoint: it holds {what} ({listed(list(content))}); {needed}")
    if type(step) not in (int, float) or step < 0 or step != step // 1:
        raise CheckpointError(f"global_step is {step!r}, expected a number of training steps; the file is damaged")
    bare, unwrapping = unwrapped(state)
    single, converting = in_single_precision(bare)
    counted, counting = with_whole_counts(single)
    numbers = {key: number(value) for key, value in vars(args).items()}
    return counted, numbers, int(step), [*unwrapping, *converting, *counting]


def _of_images(args: Mapping[str, Any], images: ImageSpec) -> list[str]:
    """Return a note on the assumed images if the published code does not know the data set."""
    name = str(args.get("dataset", DEFAULTS["dataset"]))
    if is_known(name):
        return []
    kind = "binary " if images.binary else ""
    return [
        f"dataset {name!r} is not one of the published code: by the shapes of the weights its images are {kind}"
        f"{images.channels}x{images.height}x{images.width}, so data is set to an image-folder; "
        "set data.root, or data.type and its keys, to your images"
    ]


def _notes(experiment: Experiment, unknown: bool) -> tuple[str, ...]:
    notes = [_LICENCE]
    if unknown:
        notes.append("the optimiser's state has an unknown format: it is kept for export, but training cannot use it")
    if nvae_of(experiment).likelihood == "gaussian":
        notes.append("VAEBM (arXiv 2010.00654) scores its models with backbone.log_sigma_floor = -2; this run does not")
    return tuple(notes)


def _check_count(experiment: Experiment, tensors: int) -> None:
    """Raise `CheckpointError` if the model has more parts than the file has tensors, before building it."""
    size = nvae_of(experiment).structure
    parts = size.encoder_cells + size.decoder_cells + 2 * size.flows + 2
    least = len(size.scales) * parts + size.blocks * (size.pre_cells + size.post_cells)
    if least > tensors:
        raise CheckpointError(
            f"args describe a model of at least {least} parts, but the file holds only {tensors} tensors"
        )


def _outline(experiment: Experiment, images: ImageSpec) -> NVAEBackbone:
    """Build the model on the meta device. Raises `CheckpointError` if this fails."""
    try:
        with torch.device("meta"):
            return nvae_of(experiment).build(images)
    except (ConfigError, RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"the model of these args cannot be built: {error}") from error


# ---------------------------------------------------------------- writing


def _fresh(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a new file except its weights, from which the published code can resume."""
    ops = ARCHITECTURES[args["arch_instance"]]
    parts = {"enc": ops.encoder, "dec": ops.decoder, "pre": ops.pre, "post": ops.post}
    ways = {"enc": "down", "dec": "up", "pre": "down", "post": "up"}
    cells = {f"{way}_{part}": list(parts[part]) for part in parts for way in ("normal", ways[part])}
    rate, least = args["learning_rate"], args["learning_rate_min"]
    group = {"lr": rate, "betas": (0.9, 0.999), "eps": 1e-3, "weight_decay": args["weight_decay"], "params": []}
    schedule = {"T_max": float(args["epochs"] - args["warmup_epochs"] - 1), "eta_min": least, "base_lrs": [rate]}
    scale = {"scale": 1024.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000}
    return {
        "epoch": args["epochs"],
        "state_dict": None,
        "optimizer": {"state": {}, "param_groups": [group]},
        "global_step": 0,
        "args": dict(args),
        "arch_instance": {**cells, "ar_nn": [""]},
        "scheduler": {**schedule, "last_epoch": 0, "_step_count": 1, "verbose": False, "_last_lr": [rate]},
        "grad_scalar": {**scale, "_growth_tracker": 0},
    }
