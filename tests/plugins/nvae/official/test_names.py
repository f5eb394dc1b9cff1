"""Every published configuration has, after mapping, exactly the published names, in order, with their shapes."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest
import torch

from hebm.interfaces import ImageSpec
from hebm_plugins.nvae.official.arguments import experiment_of
from hebm_plugins.nvae.official.names import ALIAS, alias_of, aliased, official_names
from hebm_plugins.nvae.recipe import NVAE

MANIFESTS = Path(__file__).parents[3] / "vectors" / "nvae" / "manifests"
SUMMARY = json.loads((MANIFESTS / "summary.json").read_text())
SMALL = {"channels": 8, "scales": 2, "groups": 2, "latent_channels": 2, "flows": 1}


def outline(recipe, images):
    with torch.device("meta"):
        return recipe.build(images)


@pytest.fixture(scope="module", params=SUMMARY)
def published(request):
    """(summary, manifest, the model built from its configuration)."""
    with gzip.open(MANIFESTS / f"{request.param}.json.gz") as file:
        manifest = json.load(file)
    experiment, images = experiment_of(manifest["config"], 0)
    return SUMMARY[request.param], manifest["state_dict"], outline(experiment.backbone, images)


def test_names_order_aliases_and_shapes_are_the_published_ones(published):
    summary, manifest, backbone = published
    own, found = backbone.state_dict(), {}
    for ours, theirs in official_names(backbone).items():
        found[theirs] = list(own[ours].shape)
        if aliased(backbone, ours):
            found[alias_of(theirs)] = found[theirs]
    assert list(found.items()) == list(manifest.items())
    lines = "\n".join(f"{name} {tuple(shape)}" for name, shape in sorted(found.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == summary["sha256_of_sorted_name_shape_lines"]
    assert (len(found), summary["keys_without_alias"]) == (summary["keys"], len([n for n in found if ALIAS not in n]))


def test_parameters_and_latents_are_as_many_as_published(published):
    summary, _, backbone = published
    parameters = list(backbone.parameters())
    assert round(sum(p.numel() for p in parameters) / 1e6, 3) == summary["params_M"]
    assert (len(parameters), len(backbone.layout)) == (summary["parameters"], summary["num_groups"])
    assert backbone.layout.dim == summary["latent_dims_total"]
    assert list(reversed(backbone.structure.groups)) == summary["groups_per_scale_fine_to_coarse"]


@pytest.mark.parametrize("architecture", ["res_bnelu", "mbconv_sep11", "mbconv_res", "mbconv_den", "res53_mbconv"])
def test_every_tensor_but_those_of_the_power_iteration_has_one_published_name(architecture):
    backbone = outline(NVAE(architecture=architecture, **SMALL), ImageSpec(3, 16, 16))
    names = official_names(backbone)
    assert len(set(names.values())) == len(names)
    assert set(names) == {name for name in backbone.state_dict() if not name.startswith("spectral.")}
