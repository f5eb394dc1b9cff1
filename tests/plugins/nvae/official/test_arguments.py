"""The published code's arguments as an experiment, and back."""

import attrs
import pytest
import torch

from hebm.config.experiment import Experiment
from hebm.errors import CheckpointError
from hebm.interfaces import ImageSpec
from hebm_plugins.nvae.official.arguments import DEFAULTS, arguments_of, experiment_of

CIFAR = {"dataset": "cifar10", "num_preprocess_blocks": 1, "num_postprocess_blocks": 1}


def test_arguments_that_old_files_lack_are_filled():
    """Files from before these existed mean their defaults."""
    given = {k: v for k, v in DEFAULTS.items() if k not in ("ada_groups", "min_groups_per_scale", "num_mixture_dec")}
    assert experiment_of({**given, **CIFAR}, 5) == experiment_of({**DEFAULTS, **CIFAR}, 5)
    backbone = experiment_of(CIFAR, 5)[0].backbone
    assert (backbone.adaptive_groups, backbone.min_groups, backbone.mixtures) == (False, 1, 10)


def test_likelihoods_penalties_and_widths_are_carried_over():
    gaussian = experiment_of({**CIFAR, "num_mixture_dec": 1, "num_channels_dec": 16}, 5)[0].backbone
    assert (gaussian.likelihood, gaussian.channels, gaussian.decoder_channels) == ("gaussian", 32, 16)
    annealed = experiment_of({**CIFAR, "weight_decay_norm_anneal": True, "weight_decay_norm": 0.5}, 5)[0].backbone
    assert (annealed.objective.norm_penalty, annealed.objective.norm_penalty_from) == (0.5, 10.0)


def test_the_optimiser_and_its_schedule_are_the_published_ones():
    args = {**CIFAR, "epochs": 40, "warmup_epochs": 5, "num_total_iter": 4000, "learning_rate": 8e-3}
    phase = experiment_of(args, 4000)[0].train.backbone
    assert (phase.optimizer, phase.epsilon, phase.weight_decay, phase.steps) == ("adamax", 1e-3, 3e-4, 4000)
    assert (phase.schedule, phase.epoch, phase.warmup) == ("epoch-cosine", 100, 500)
    assert phase.final * phase.learning_rate == pytest.approx(1e-4)
    short = experiment_of({**CIFAR, "epochs": 40}, 7)[0].train.backbone  # nothing says how long an epoch was
    assert (short.schedule, short.steps) == ("cosine", 7)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_postprocess_blocks": 1}, "num_preprocess_blocks = 2 and num_postprocess_blocks = 1 must be equal"),
        ({"arch_instance": "res_wnelu"}, "arch_instance = 'res_wnelu' is unknown"),
        ({"arch_instance": ["res_mbconv"]}, "arch_instance is a list, expected a number or a text"),
        ({"epochs": torch.ones(2)}, "epochs is a Tensor, expected"),
        ({"num_total_iter": {}}, "num_total_iter is a dict, expected"),
        ({"arch_instance": "res_elu"}, "'res_elu' is not supported"),
        ({"num_latent_scales": 1, "num_groups_per_scale": 1}, "a model without towers"),
        ({"dataset": "stacked_mnist"}, "dataset = 'stacked_mnist' is unknown"),
        ({"dataset": None}, "is unknown"),
        ({"dataset": "celeba_64", "num_latent_scales": 9}, "divides"),
        ({"dataset": "lsun_church_50"}, "divides"),
        ({"num_x_bits": 9}, "bits"),
        ({"num_channels_enc": 1.5}, "channels"),
        ({"num_channels_enc": "32"}, "channels"),
        ({"use_se": 1}, "squeeze_excite"),
        ({"num_groups_per_scale": 10**9}, "is out of range"),
        ({"num_cell_per_cond_enc": "two"}, "other types"),
        ({"learning_rate": 0.0}, "other types"),
        ({"epochs": 0}, "other types"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_arguments_that_make_no_model_are_named(given, said):
    with pytest.raises(CheckpointError, match="checkpoint's args") as caught:
        experiment_of({"num_latent_scales": 2, **given}, 5)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"num_latent_scales": 2, "ada_groups": True, "use_se": True},
        {"dataset": "omniglot", "num_latent_scales": 2, "arch_instance": "mbconv_den"},
        {**CIFAR, "num_mixture_dec": 1, "num_nf": 2, "num_x_bits": 5, "num_channels_dec": 16},
        {**CIFAR, "dataset": "lsun_tower_64", "weight_decay_norm_anneal": True, "weight_decay_norm_init": 3.0},
    ],
)
def test_arguments_of_a_run_give_the_same_run(given):
    experiment, images = experiment_of(given, 5)
    args = arguments_of(experiment, images)
    assert {key: args[key] for key in given} == given
    assert experiment_of(args, 5) == (experiment, images)


@pytest.mark.parametrize(
    ("backbone", "images", "said"),
    [
        ({"type": "nvae", "likelihood": "bernoulli"}, ImageSpec(1, 8, 8), "28x28"),
        ({"type": "nvae", "mixtures": 1}, ImageSpec(3, 32, 32), "one mixture component"),
        ({"type": "nvae", "likelihood": "bernoulli"}, ImageSpec(3, 32, 32), "only for grey images"),
        ({"type": "nvae", "architecture": "res_elu"}, ImageSpec(3, 32, 32), "res_elu"),
        ({"type": "two-layer"}, ImageSpec(3, 32, 32), "TwoLayer"),
    ],
)
def test_what_the_published_code_cannot_express_is_said(backbone, images, said):
    table = {"name": "x", "data": {"type": "cifar10"}, "backbone": backbone, "prior": {"type": "gaussian"}}
    with pytest.raises(CheckpointError, match=said):
        arguments_of(Experiment.from_table(table), images)


def test_a_preset_is_written_as_what_it_is():
    table = {"name": "x", "data": {"type": "svhn"}, "backbone": {"type": "nvae-tiny"}, "prior": {"type": "gaussian"}}
    experiment = Experiment.from_table(table)
    args = arguments_of(experiment, ImageSpec(3, 32, 32))
    back = experiment_of(args, 5)[0].backbone
    expected = {**attrs.asdict(experiment.backbone, recurse=False), "likelihood": "logistic-mixture"}
    assert attrs.asdict(back, recurse=False) == expected
