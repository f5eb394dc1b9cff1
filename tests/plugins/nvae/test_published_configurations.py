"""`benchmarks/nvae`: one file per published configuration, of the published sizes, and consistent in itself."""

import gzip
import json
import math
from pathlib import Path

import pytest

from hebm.config.experiment import Experiment

ROOT = Path(__file__).parents[3]
MANIFESTS = ROOT / "tests" / "vectors" / "nvae" / "manifests"

# file: (manifest, training images, epochs, warm-up epochs, GPUs, images on each)
PUBLISHED = {
    "mnist": ("mnist", 60_000, 400, 5, 2, 200),
    "cifar10": ("cifar10", 50_000, 400, 5, 8, 32),
    "celeba-64": ("celeba_64", 162_770, 90, 5, 8, 16),
    "imagenet-32": ("imagenet_32", 1_281_147, 45, 1, 24, 24),
    "celeba-hq-256": ("celeba_256", 27_000, 300, 5, 24, 4),
    "ffhq-256": ("ffhq", 63_000, 200, 5, 24, 4),
    "vaebm-cifar10": ("vaebm_cifar10", 50_000, 400, 5, 8, 32),
    "vaebm-celeba-64": ("vaebm_celeba_64", 162_770, 50, 1, 8, 32),
    "vaebm-lsun-church-64": ("vaebm_lsun_church_64", 126_227, 60, 1, 8, 32),
    "vaebm-celeba-hq-256": ("vaebm_celeba_256", 27_000, 200, 5, 8, 8),
}

# key of the recipe: (the published argument, its default)
SIZES = {
    "channels": ("num_channels_enc", 32),
    "scales": ("num_latent_scales", 1),
    "groups": ("num_groups_per_scale", 10),
    "adaptive_groups": ("ada_groups", False),
    "min_groups": ("min_groups_per_scale", 1),
    "latent_channels": ("num_latent_per_group", 20),
    "blocks": ("num_preprocess_blocks", 2),
    "pre_cells": ("num_preprocess_cells", 3),
    "post_cells": ("num_postprocess_cells", 3),
    "encoder_cells": ("num_cell_per_cond_enc", 1),
    "decoder_cells": ("num_cell_per_cond_dec", 1),
    "architecture": ("arch_instance", "res_mbconv"),
    "squeeze_excite": ("use_se", False),
    "residual_posterior": ("res_dist", False),
    "flows": ("num_nf", 0),
    "bits": ("num_x_bits", 8),
}


@pytest.fixture(params=PUBLISHED)
def published(request):
    """(the experiment, its row of the table)."""
    return Experiment.load(ROOT / "benchmarks" / "nvae" / f"{request.param}.toml"), PUBLISHED[request.param]


def manifest(name):
    return json.loads(gzip.decompress((MANIFESTS / f"{name}.json.gz").read_bytes()))["config"]


def test_no_published_configuration_is_left_out():
    assert {row[0] for row in PUBLISHED.values()} == {p.name.removesuffix(".json.gz") for p in MANIFESTS.glob("*.gz")}


def test_sizes_are_those_of_the_published_checkpoint(published):
    experiment, row = published
    arguments = manifest(row[0])
    expected = {key: arguments.get(argument, default) for key, (argument, default) in SIZES.items()}
    assert {key: getattr(experiment.backbone, key) for key in SIZES} == expected
    assert experiment.backbone.decoder_channels in (None, arguments["num_channels_dec"])


def test_the_image_distribution_is_the_published_one(published):
    experiment, row = published
    arguments, backbone = manifest(row[0]), experiment.backbone
    if arguments["dataset"] == "mnist":
        assert (backbone.likelihood, backbone.pad, experiment.data.binarize) == ("bernoulli", 2, "both")
    elif arguments.get("num_mixture_dec", 10) == 1:
        assert (backbone.likelihood, backbone.log_sigma_floor) == ("gaussian", -2)
    else:
        assert (backbone.likelihood, backbone.mixtures) == ("logistic-mixture", 10)
    assert experiment.data.flip == (arguments["dataset"] != "mnist")


def test_steps_epoch_and_warm_up_agree_with_the_published_epochs_and_batch(published):
    experiment, (_, images, epochs, warmup, gpus, each) = published
    training = experiment.train.backbone
    assert experiment.data.batch_size == gpus * each
    assert training.epoch == images // (gpus * each)
    assert (training.steps, training.warmup) == (epochs * training.epoch, warmup * training.epoch)


def test_the_optimiser_is_the_published_one(published):
    training = published[0].train.backbone
    assert (training.optimizer, training.betas, training.epsilon) == ("adamax", (0.9, 0.999), 1e-3)
    assert (training.weight_decay, training.ema) == (3e-4, 0.0)
    assert training.clip == 0  # off; the scheme itself clips unless told not to
    assert training.rate(0, training.steps) == 0.0
    assert training.rate(training.steps - 1, training.steps) == pytest.approx(1e-4)
    peak = max(training.rate(step, training.steps) for step in range(training.warmup + training.epoch))
    assert peak == pytest.approx(training.learning_rate * (1 - 1 / training.warmup))


def test_regularisation_is_the_published_one(published):
    experiment, row = published
    published_penalties = {"imagenet_32": (1e-2, 1.0), "celeba_256": (1e-2, 1.0), "ffhq": (1e-1, 1.0)}
    published_penalties |= {"vaebm_celeba_256": (1e-2, 10.0), "mnist": (1e-2, None), "cifar10": (1e-2, None)}
    objective = experiment.backbone.objective
    assert (objective.norm_penalty, objective.norm_penalty_from) == published_penalties.get(row[0], (1e-1, None))
    assert objective.balance
    assert math.isclose(objective.kl_warmup, 0.3)
