"""Every component that this distribution registers keeps the promises of its interface."""

import hashlib
import sys
from importlib import metadata

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from hebm.interfaces import ImageSpec
from hebm.latents import LatentLayout
from hebm.registry import find
from hebm.testing import cases, check_dataset, check_extractor, check_recipe, parametrize
from hebm.testing.dataset_files import check_missing_files
from hebm.testing.subjects import ReferenceBackbone, seeded
from hebm_plugins.priors.multi_stage.settings import Contrast, Drawing

POINTS = [(point.group, point.name) for point in metadata.distribution("hebm").entry_points]
POOL = {"negatives": "pool", "pool": 70}
GROUPS = {group: sorted({name for g, name in POINTS if g == group}) for group, _ in POINTS}

CLASSIFIER = find("hebm_extractors", "classifier")()

LADDER = {"latents": (1, 2), "channels": 6, "encoder_blocks": 1, "context_size": 3}

# published sizes are reduced: a check needs the structure, not the width
REDUCED = {
    "two-layer": [
        {"z_dims": (3, 4), "widths": (6, 4), "prior_width": 5, "inference_width": 7},
        {"z_dims": (4,), "widths": (6,), "generator": "mlp", "likelihood": "bernoulli", "inference_width": 7},
        {"z_dims": (2, 3, 4), "widths": (6, 4), "head": "conv", "prior_width": 5, "inference": "bottom-up"},
    ],
    ("hebm_backbones", "nvae"): [
        {"channels": 4, "groups": 2, "latent_channels": 2, "encoder_cells": 1, "decoder_cells": 1, "flows": 1},
        {
            "channels": 4,
            "decoder_channels": 6,
            "groups": 2,
            "adaptive_groups": True,
            "latent_channels": 2,
            "encoder_cells": 1,
            "decoder_cells": 1,
            "architecture": "res_bnelu",
            "squeeze_excite": False,
            "residual_posterior": False,
            "bits": 5,
            "pad": 2,
        },
    ],
    "hvae": [{"z_channels": (3, 2, 1), "channels": 4, "units": 8}],
    ("hebm_backbones", "dvp"): [
        {**LADDER, "likelihood": None},
        {**LADDER, "pseudo_input": "downsample", "depthwise": True, "growth": 1.5, "bottleneck": 0.5},
        {**LADDER, "pseudo_input": "linear", "aggregate": False, "width": 2, "full_resolution": True},
        {**LADDER, "pseudo_input": "none"},
    ],
    "nvae-tiny": [{"channels": 4, "groups": 2, "latent_channels": 2}],
    ("hebm_backbones", "vdvae"): [
        {"encoder": "", "decoder": "", "width": 8, "latent_channels": 2, "no_bias_above": 4},
        {
            "encoder": "",
            "decoder": "1x2,4m1,8m4,16m8,16x1",
            "width": 4,
            "widths": "8:6,4:6,1:8",
            "latent_channels": 1,
            "bottleneck": 0.5,
            "normalisation": "cifar10",
        },
    ],
    "vdvae-tiny": [{"width": 8, "latent_channels": 2}],
    "conv-time": [{"channels": 8}, {"channels": 8, "net": "plain"}, {"channels": 2, "spectral_norm": False}],
    "conv": [
        {"channels": 3, "width": 5},
        {"channels": 3, "width": 5, "zero_init": True, "coordinate": "z-given-above"},
    ],
    "conv-residual": [
        {"channels": 4, "width": 5, "blocks": 2, "dense_blocks": 2},
        {"channels": 3, "width": 5, "blocks": 1, "dense_blocks": 1, "convolutions": 1, "coordinate": "z-given-above"},
    ],
    "image-conv": [{"channels": 2, "width": 5}, {"channels": 2, "width": 5, "gradient_penalty": 1.0, "dropout": 0.4}],
    "feature-conv": [{"channels": 3, "width": 5, "shift": 1, "gradient_penalty": 1.0}],
    "feature-mlp": [
        {"width": 6, "dropout": 0.3},
        {"width": (6, 5), "depth": 1, "coordinate": "u", "gradient_penalty": 1.0},
    ],
    "mlp": [{}, {"width": 6, "coordinate": "z-given-above"}],
    "mlp-time": [{"width": 6}, {"width": 5, "depth": 1, "zero_init": False, "spectral_norm": True}],
    "adaptive-ce": [{"sampler": find("hebm_samplers", "ula")(steps=3)}],
    "image-contrast": [
        {
            "energy": find("hebm_energies", "image-conv")(channels=8, width=32, shift=0),
            "sampler": find("hebm_samplers", "pcn-mala")(steps=3),
            "contrast": Contrast(negatives="pool", pool=700),
            "start_proposals": 3,
        }
    ],
    "feature-contrast": [
        {
            "energy": find("hebm_energies", "feature-conv")(channels=4, width=16),
            "sampler": find("hebm_samplers", "pcn-mala")(steps=2),
            "contrast": Contrast(negatives="pool", pool=700),
            "start_proposals": 2,
        }
    ],
    "lebm": [
        {
            "sampler": find("hebm_samplers", "ula")(steps=3),
            "start": find("hebm_priors", "score")(width=6, depth=1, steps=2),
            "start_proposals": 2,
        }
    ],
    "ncp": [{"proposals": 150}, {"sampling": "langevin", "sampler": find("hebm_samplers", "ula")(steps=3)}],
    "score": [{"width": (6, 5), "depth": 1, "channels": 3, "blocks": 1, "steps": 2}],
    "multi-stage": [
        {},
        {
            "drawing": Drawing(mode="progressive"),
            "contrast": Contrast(loss="per-layer", **POOL),
            "stages": 2,
            "start_proposals": 3,
        },
        {"drawing": Drawing(mode="progressive", factors="single"), "contrast": Contrast(refresh=3, **POOL)},
        {"drawing": Drawing(mode="smc", particles=3), "stages": 2},
        {"drawing": Drawing(mode="smc", particles=2, threshold=1.0), "contrast": Contrast(**POOL), "stages": 2},
        {"contrast": Contrast(negatives="posterior", pool=7, infer_under="current"), "start_proposals": 3},
    ],
    "kid": [{"subset_size": 32, "subsets": 5}],
    "likelihood": [{}, {"k": 3, "draws": 2, "published": True, "images": 20}],
    "label-agreement": [{"samples": 20}],
    "two-sample": [{"epochs": 1}, {"epochs": 1, "space": "latents"}],
    "hierarchical": [{"rows": 2, "columns": 3}],
    "cost": [{"samples": 48, "steps": (0, 2), "proposals": (1, 3)}],
    "chains": [{"factor": 2, "rows": 1, "chains": 2, "images": 0}],
    "ood": [{"images": 16, "thresholds": 2}],
    "anomaly": [{"images": 16, "thresholds": 2}],
    "context": [{"images": 64, "columns": 2, "width": 4}],
    "interpolation": [{"rows": 2, "columns": 3}, {"ends": "prior", "rows": 2, "columns": 3}],
    "temperature": [{"temperatures": (0.8, 1.0), "columns": 3}],
    "stages": [{"images": 64, "test": 16, "columns": 2}],
    "hole": [{"samples": 64}, {"samples": 64, "rows": ("bottom",), "cuts": 1}],
    "nearest": [{"samples": 64, "rows": 2}],
    "two-layer-joint": [{"z_dims": (5, 6), "widths": (12, 8, 6), "prior_width": 9}],
    "two-layer-multi-stage": [{"z_dims": (5, 6), "widths": (12, 8, 6), "prior_width": 9}],
}


def negatives(recipe):
    """What a recipe's stages are trained against; "chain" where it has no such choice."""
    return recipe.contrast.negatives if hasattr(recipe, "contrast") else "chain"


def unkept(recipe):
    """Why a recipe's draws do not follow its density, by check; {} where they do."""
    if getattr(recipe, "drawing", None) != Drawing(mode="progressive", factors="single"):
        return {}
    reason = "as in the paper's text, a stage climbs its own factor; the density is that of the product"
    return {"draws": reason, "draws-given-layers": reason}


def made(group, name):
    """The recipes by which a registered class is checked: reduced, or with its defaults."""
    return [find(group, name)(**fields) for fields in REDUCED.get((group, name), REDUCED.get(name, [{}]))]


def walk(group, leave_out=frozenset(), **options):
    names = [name for name in GROUPS[group] if name not in leave_out]
    recipes = [recipe for name in names for recipe in made(group, name)]
    return [case for recipe in recipes for case in cases(recipe, **options, expect_failure=unkept(recipe))]


SQUARE = {"vdvae", "vdvae-tiny"}
PASSED_IN_PYTHON = {"auto-encoder"}
"""Backbones whose modules are passed in Python; tests/plugins/auto_encoder checks them."""


@parametrize(walk("hebm_backbones", leave_out=SQUARE | PASSED_IN_PYTHON))
def test_backbones_keep_their_promises(check):
    check()


@parametrize(walk("hebm_backbones", {*GROUPS["hebm_backbones"]} - SQUARE, images=ImageSpec(3, 16, 16)))
def test_backbones_of_square_images_keep_their_promises(check):
    check()


OTHER = ImageSpec(3, 16, 8, classes=("a", "b"), binary=True)


@parametrize(walk("hebm_backbones", leave_out=SQUARE | PASSED_IN_PYTHON, images=OTHER))
def test_backbones_keep_their_promises_on_other_images(check):
    check()


# two channels or more: of a 1 × 1 weight, spectral norm leaves the sign, which has no gradient
MAPS = LatentLayout(((2, 2, 2), (3, 8, 8)))
MAPS_ONLY = {"conv", "conv-residual", "conv-time"}
TIMED = {"conv-time", "mlp-time", "feature-mlp"}


CONTEXTUAL = {"with-context"}


@parametrize(
    [
        *walk("hebm_energies", leave_out=MAPS_ONLY | CONTEXTUAL),
        *walk("hebm_energies", leave_out=CONTEXTUAL, layout=MAPS),
        *cases(find("hebm_energies", "with-context")(), layout=attrs.evolve(MAPS, context=(1, 2, 2))),
    ]
)
def test_energies_keep_their_promises(check):
    check()


@parametrize(walk("hebm_energies", leave_out=set(GROUPS["hebm_energies"]) - TIMED, layout=MAPS, levels=3))
def test_energies_with_levels_keep_their_promises(check):
    check()


ROOTS_WITH_A_CONTEXT = {"dvp"}


@parametrize(walk("hebm_priors", leave_out=ROOTS_WITH_A_CONTEXT))
def test_priors_keep_their_promises(check):
    check()


DIFFUSIONS = [
    {"blocks": 1},
    {"blocks": 1, "schedule": "cosine", "time": "discrete", "steps": 4, "dropout": 0.2},
    {"blocks": 1, "prediction": "velocity", "stable": True, "learn_gamma_min": True, "steps": 3},
]


def contextual():
    """Cases of priors for a backbone with a context: first those of roots and of each prior on one, then variants."""
    layout = LatentLayout(((3,), (4,)), context=(1, 3, 3))
    roots = [find("hebm_priors", "dvp")(**fields) for fields in DIFFUSIONS]
    flat = {"adaptive-ce", "lebm"}
    first, variants = list(roots), []
    for name in GROUPS["hebm_priors"]:
        recipes = [recipe for recipe in made("hebm_priors", name) if name not in flat and negatives(recipe) == "chain"]
        tilts = [attrs.evolve(recipe, root=roots[0]) for recipe in recipes if hasattr(recipe, "root")]
        first += tilts[:1]
        variants += tilts[1:]
    backbone = seeded(lambda: ReferenceBackbone(layout))
    return [[case for recipe in part for case in cases(recipe, backbone=backbone)] for part in (first, variants)]


GIVEN_A_CONTEXT, VARIANTS_GIVEN_A_CONTEXT = contextual()


@parametrize(GIVEN_A_CONTEXT)
def test_priors_keep_their_promises_given_a_context(check):
    check()


@pytest.mark.slow
@parametrize(VARIANTS_GIVEN_A_CONTEXT)
def test_variants_of_priors_keep_their_promises_given_a_context(check):
    check()


@parametrize(walk("hebm_samplers"))
def test_samplers_keep_their_promises(check):
    check()


NEED_MAPS = {"feature-contrast"}
"""Priors whose energy needs a decoder's feature map: the small generator here has a flat feature."""


@pytest.mark.parametrize("name", sorted(set(GROUPS["hebm_priors"]) - ROOTS_WITH_A_CONTEXT - NEED_MAPS))
def test_priors_keep_their_promises_on_the_first_party_backbone(name):
    backbone = seeded(lambda: made("hebm_backbones", "two-layer")[0].build(ImageSpec(1, 8, 8)))
    with torch.no_grad():
        for parameter in backbone.generator.parameters():
            parameter.mul_(2)  # images of an untrained generator hardly vary
    for case in cases(made("hebm_priors", name)[0], backbone=backbone):
        case()


def decoded():
    """Priors whose energies see what the decoder makes of the latents."""
    image = find("hebm_energies", "image-conv")(channels=8, width=32, shift=0, zero_init=False)
    feature = find("hebm_energies", "feature-mlp")(width=16, dropout=0.1)
    energies = {"joint": (image, feature), "multi-stage": (image,), "ncp": (feature,), "diffusion": (feature,)}
    made = [find("hebm_priors", name)(energy=energy) for name, each in energies.items() for energy in each]
    return [attrs.evolve(recipe, proposals=150) if hasattr(recipe, "proposals") else recipe for recipe in made]


@pytest.mark.slow
@parametrize([case for recipe in decoded() for case in cases(recipe)])
def test_priors_of_what_is_decoded_keep_their_promises(check):
    check()


@parametrize(walk("hebm_metrics"))
def test_metrics_keep_their_promises(check):
    check()


COLOUR = ImageSpec(3, 16, 8, classes=("a", "b", "c"), binary=True)


@parametrize(walk("hebm_metrics", images=COLOUR))
def test_metrics_keep_their_promises_on_other_images(check):
    check()


@parametrize(walk("hebm_schemes"))
def test_schemes_keep_their_promises(check):
    check()


@parametrize(walk("hebm_analyses"))
def test_analyses_keep_their_promises(check):
    check()


@parametrize(walk("hebm_formats"))
def test_checkpoint_formats_keep_their_promises(check):
    check()


@parametrize([case for name in GROUPS["hebm_commands"] for case in cases(find("hebm_commands", name))])
def test_commands_keep_their_promises(check):
    check()


OTHERS = ("hebm_schemes", "hebm_metrics", "hebm_datasets", "hebm_extractors", "hebm_formats", "hebm_analyses")


@pytest.mark.parametrize("group", OTHERS)
def test_other_recipes_are_frozen_documented_and_go_to_toml_and_back(group):
    read = {"fingerprint": "0" * 64}
    required = {
        "image-folder": {"root": "images"},
        "huggingface": {"path": "images"},
        "tensors": read,
        "from-dataset": read,
    }
    for name in GROUPS[group]:
        check_recipe(find(group, name)(**required.get(name, {})))


def test_a_vae_that_is_passed_in_python_goes_to_toml_and_back_without_its_modules():
    check_recipe(find("hebm_backbones", "auto-encoder")(latent_shape=(4,), fingerprint="0" * 64))


@parametrize([case for channels in (1, 3) for case in cases(CLASSIFIER, images=ImageSpec(channels, 9, 12, ("a", "b")))])
def test_the_classifier_keeps_its_promises(check, monkeypatch):
    monkeypatch.setattr(sys.modules[CLASSIFIER.__module__], "_LEAST_ROUND", 4)
    check()


@parametrize(cases(find("hebm_extractors", "efficientnet-lite0")(), images=ImageSpec(3, 9, 12)))
def test_efficientnet_lite0_keeps_its_promises(check):
    check()


@pytest.mark.slow
def test_inception_keeps_its_promises(inception_weights):
    sha256 = hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    check_extractor(find("hebm_extractors", "inception")(weights=str(inception_weights), sha256=sha256))


def test_digits_keeps_the_promises_of_a_data_set():
    check_dataset(find("hebm_datasets", "digits")())


def test_images_in_memory_keep_the_promises_of_a_data_set():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8))
    check_dataset(find("hebm_datasets", "tensors")(train=pixels, labels=torch.arange(60) % 3, batch_size=10))


def test_arrays_keeps_the_promises_of_a_data_set(tmp_path):
    generator = np.random.default_rng(0)
    files = {}
    for split, n in (("train", 20), ("test", 12)):
        files[split] = str(tmp_path / f"{split}.npy")
        np.save(files[split], generator.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8))
    check_dataset(find("hebm_datasets", "arrays")(**files))


def test_image_folder_keeps_the_promises_of_a_data_set(tmp_path):
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(4):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{i}.png")
    check_dataset(find("hebm_datasets", "image-folder")(root=str(tmp_path)))


ELSEWHERE = ("mnist", "fashion-mnist", "cifar10", "svhn", "celeba", "omniglot", "omniglot-iwae", "lsun")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_data_sets_that_are_downloaded_say_where_they_looked(name):
    check_missing_files(find("hebm_datasets", name)())


def test_every_group_of_components_is_walked():
    walked = {"hebm_backbones", "hebm_energies", "hebm_priors", "hebm_samplers"}
    walked |= set(OTHERS)
    walked |= {"hebm_commands", "console_scripts", "pytest11"}
    assert set(GROUPS) <= walked
    assert torch.get_default_dtype() is torch.float32
