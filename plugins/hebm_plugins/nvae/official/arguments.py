"""Convert the command-line arguments of the published code to an experiment, and back."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, NoneType
from typing import Any

from hebm.config.experiment import Experiment
from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec
from hebm_plugins.nvae.cells import ARCHITECTURES
from hebm_plugins.nvae.official.image_sets import PAD, PADDED, name_of, table_of
from hebm_plugins.nvae.recipe import NVAE

DEFAULTS: dict[str, Any] = {
    "root": "expr",
    "save": "run",
    "dataset": "mnist",
    "data": "data",
    "batch_size": 200,
    "learning_rate": 1e-2,
    "learning_rate_min": 1e-4,
    "weight_decay": 3e-4,
    "weight_decay_norm": 0.0,
    "weight_decay_norm_init": 10.0,
    "weight_decay_norm_anneal": False,
    "epochs": 200,
    "warmup_epochs": 5,
    "fast_adamax": False,
    "arch_instance": "res_mbconv",
    "kl_anneal_portion": 0.3,
    "kl_const_portion": 1e-4,
    "kl_const_coeff": 1e-4,
    "num_nf": 0,
    "num_x_bits": 8,
    "num_latent_scales": 1,
    "num_groups_per_scale": 10,
    "num_latent_per_group": 20,
    "ada_groups": False,
    "min_groups_per_scale": 1,
    "num_channels_enc": 32,
    "num_preprocess_blocks": 2,
    "num_preprocess_cells": 3,
    "num_cell_per_cond_enc": 1,
    "num_channels_dec": 32,
    "num_postprocess_blocks": 2,
    "num_postprocess_cells": 3,
    "num_cell_per_cond_dec": 1,
    "num_mixture_dec": 10,
    "use_se": False,
    "res_dist": False,
    "cont_training": False,
    "num_proc_node": 1,
    "node_rank": 0,
    "local_rank": 0,
    "global_rank": 0,
    "num_process_per_node": 1,
    "master_address": "127.0.0.1",
    "seed": 1,
}
"""Defaults of the published command line, for arguments that a file does not contain."""

_KEYS = {
    "channels": "num_channels_enc",
    "scales": "num_latent_scales",
    "groups": "num_groups_per_scale",
    "adaptive_groups": "ada_groups",
    "min_groups": "min_groups_per_scale",
    "latent_channels": "num_latent_per_group",
    "blocks": "num_preprocess_blocks",
    "pre_cells": "num_preprocess_cells",
    "post_cells": "num_postprocess_cells",
    "encoder_cells": "num_cell_per_cond_enc",
    "decoder_cells": "num_cell_per_cond_dec",
    "architecture": "arch_instance",
    "squeeze_excite": "use_se",
    "residual_posterior": "res_dist",
    "flows": "num_nf",
    "bits": "num_x_bits",
}
"""Keys of the recipe, and the arguments that they correspond to."""

_OBJECTIVE = {
    "kl_warmup": "kl_anneal_portion",
    "kl_hold": "kl_const_portion",
    "kl_floor": "kl_const_coeff",
    "norm_penalty": "weight_decay_norm",
}
_MOST = {"num_latent_scales": 16, "num_preprocess_blocks": 16, "num_groups_per_scale": 1000, "num_nf": 1000}
_MOST |= {key: 1000 for key in DEFAULTS if "cell" in key}
"""Upper bounds, far above any real model. A file that exceeds them is damaged or malicious."""


def experiment_of(
    given: Mapping[str, Any], steps: int, weights: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Experiment, ImageSpec]:
    """Return the experiment that trained a model with these arguments, and its images.

    Arguments:
        given: the arguments in the file.
        steps: number of training steps taken.
        weights: the weights by published name. Their shapes give the shape of the images if the published code does not
            know the data set.

    Raises `CheckpointError` for arguments that hebm does not support, and names them.
    """
    args = {**DEFAULTS, **given}
    try:
        _check(args)
        data, images = table_of(args, weights)
        table = {"name": "imported", "data": data, "prior": {"type": "gaussian"}}
        experiment = Experiment.from_table({**table, "backbone": _backbone(args, images), "train": _train(args, steps)})
        nvae_of(experiment).layout(images)
    except ConfigError as error:
        raise CheckpointError(f"the model of the checkpoint's args is not supported: {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"the checkpoint's args have other types than those of the published code: {error}"
        ) from error
    return experiment, images


def _check(args: Mapping[str, Any]) -> None:
    for key in (*DEFAULTS, "num_total_iter"):
        if not isinstance(args.get(key), (str, int, float, NoneType)):
            raise ConfigError(f"{key} is a {type(args[key]).__name__}, expected a number or a text")
    pre, post = args["num_preprocess_blocks"], args["num_postprocess_blocks"]
    if pre != post:
        raise ConfigError(f"num_preprocess_blocks = {pre} and num_postprocess_blocks = {post} must be equal")
    for key, most in _MOST.items():
        if not 0 <= args[key] <= most:
            raise ConfigError(f"{key} = {args[key]} is out of range; allowed are 0 to {most}")
    architecture = args["arch_instance"]
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"arch_instance = {architecture!r} is unknown; allowed are {', '.join(ARCHITECTURES)}")
    if architecture == "res_elu":
        raise ConfigError(
            "arch_instance = 'res_elu' is not supported: the published code sets its weights from the first batch "
            "after every load, so the file does not determine the model"
        )
    if args["num_latent_scales"] == 1 and args["num_groups_per_scale"] == 1:
        raise ConfigError(
            "num_latent_scales = 1 with num_groups_per_scale = 1 is a model without towers, which is not supported"
        )


def _backbone(args: Mapping[str, Any], images: ImageSpec) -> dict[str, Any]:
    table = {"type": "nvae", **{key: args[argument] for key, argument in _KEYS.items()}}
    objective = {key: args[argument] for key, argument in _OBJECTIVE.items()}
    if args["weight_decay_norm_anneal"]:
        objective["norm_penalty_from"] = args["weight_decay_norm_init"]
    if args["num_channels_dec"] != args["num_channels_enc"]:
        table["decoder_channels"] = args["num_channels_dec"]
    return {**table, **_pixels(args, images), "objective": objective}


def _pixels(args: Mapping[str, Any], images: ImageSpec) -> dict[str, Any]:
    if images.binary:
        return {"likelihood": "bernoulli", "pad": PAD if images.height + 2 * PAD == PADDED else 0}
    if args["num_mixture_dec"] == 1:
        return {"likelihood": "gaussian"}
    return {"likelihood": "logistic-mixture", "mixtures": args["num_mixture_dec"]}


def _train(args: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the table of Adamax with the published constants, and of a schedule that ends at the last step taken."""
    rate = args["learning_rate"]
    backbone = {
        "steps": steps,
        "optimizer": "adamax",
        "learning_rate": rate,
        "epsilon": 1e-3,
        "weight_decay": args["weight_decay"],
        "clip": 0.0,  # the published code does not clip, unlike the default of two-phase
        "final": min(1.0, max(args["learning_rate_min"] / rate, 1e-9)),
        **_schedule(args, steps),
    }
    return {"type": "two-phase", "backbone": backbone}


def _schedule(args: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the published schedule if the length of an epoch is known, else a similar cosine schedule."""
    epochs, warm, total = args["epochs"], args["warmup_epochs"], args.get("num_total_iter", 0)
    epoch = total // epochs if total % epochs == 0 else 0
    if epoch > 1 and steps >= (warm + 1) * epoch:
        return {"schedule": "epoch-cosine", "epoch": epoch, "warmup": warm * epoch}
    return {"schedule": "cosine", "decay_from": min(warm / epochs, 1.0), "warmup": round(warm / epochs * steps)}


# ---------------------------------------------------------------- from an experiment


def nvae_of(experiment: Experiment) -> NVAE:
    """Return the experiment's backbone. Raises `CheckpointError` if it is not an NVAE."""
    recipe = experiment.backbone
    if not isinstance(recipe, NVAE):
        raise CheckpointError(f"the run's backbone is a {type(recipe).__name__}; this format supports only nvae")
    return recipe


def arguments_of(experiment: Experiment, images: ImageSpec) -> dict[str, Any]:
    """Return the arguments with which the published code builds the model of a run that hebm trained.

    Raises `CheckpointError` for a model that the published code does not support.
    """
    recipe = nvae_of(experiment)
    if images.channels == 3 and recipe.likelihood == "bernoulli":
        raise CheckpointError("the published code supports a bernoulli likelihood only for grey images")
    if images.channels == 3 and recipe.likelihood != "gaussian" and recipe.mixtures == 1:
        raise CheckpointError(
            "the published code reads one mixture component as a gaussian likelihood; use backbone.mixtures > 1"
        )
    args = {**DEFAULTS, "dataset": name_of(experiment, recipe.pad, images)}
    args |= {argument: getattr(recipe, key) for key, argument in _KEYS.items()}
    args |= {argument: getattr(recipe.objective, key) for key, argument in _OBJECTIVE.items()}
    args |= {"num_postprocess_blocks": recipe.blocks, "num_channels_dec": recipe.decoder_channels or recipe.channels}
    args |= {"batch_size": experiment.data.batch_size, "fast_adamax": True, "distributed": False}
    args["num_mixture_dec"] = 1 if recipe.likelihood == "gaussian" else recipe.mixtures
    if recipe.objective.norm_penalty_from is not None:
        args |= {"weight_decay_norm_anneal": True, "weight_decay_norm_init": recipe.objective.norm_penalty_from}
    try:
        _check(args)
    except ConfigError as error:
        raise CheckpointError(f"the published code does not support the model of this run: {error}") from error
    return args
