"""The configuration of weights: the published models by their shapes, any other by layer strings that fit them."""

import attrs
import pytest
import torch
from vdvae_files import TINY, config, like, manifest, options, weights

from hebm.errors import CheckpointError
from hebm.interfaces import ImageSpec
from hebm_plugins.vdvae.official.configuration import Wanted, configuration_of, outline, preset_of
from hebm_plugins.vdvae.official.sizes import BlockSize, sizes_of
from hebm_plugins.vdvae.presets import PRESETS
from hebm_plugins.vdvae.recipe import VDVAE

NOTHING = Wanted(None, None, None, {}, None)


def wanted(name, **changes):
    found = {**options(name), **changes}
    inputs = {"normalisation": found["normalisation"]} if found["normalisation"] else {}
    return Wanted(None, found["encoder"], found["decoder"], inputs, None)


@pytest.fixture(scope="module", params=PRESETS)
def published(request):
    return request.param, manifest(request.param)


def test_names_order_and_shapes_of_a_published_model_are_the_published_ones(published):
    name, shapes = published
    side = PRESETS[name].side
    own = outline(VDVAE(**PRESETS[name].backbone), ImageSpec(3, side, side)).state_dict()
    assert [(key, tuple(value.shape)) for key, value in own.items()] == list(shapes.items())


def test_a_published_model_is_recognised_by_its_shapes_alone(published):
    name, shapes = published
    found = configuration_of(like(shapes), NOTHING)
    assert found.backbone == VDVAE(**PRESETS[name].backbone)
    assert (found.preset, found.images) == (name, ImageSpec(3, PRESETS[name].side, PRESETS[name].side))
    assert found.notes[0] == f"by the shapes of its weights, this is the published model {name}"
    bits = 5 if name == "ffhq256" else 8
    assert f"the input constants of {name} and {bits} bits are assumed" in found.notes[1]


def test_every_shape_is_compared_with_the_recognised_model():
    changed = {**manifest("cifar10"), "decoder.dec_blocks.3.enc.c2.weight": (1, 2, 3, 4)}
    assert preset_of(sizes_of(like(changed)).fingerprint) == "cifar10"
    with pytest.raises(CheckpointError, match=r"model \w+:\n  other shape: decoder\.dec_blocks\.3\.enc\.c2\.weight"):
        configuration_of(like(changed), NOTHING)


def test_the_file_published_as_ffhq1024_is_refused_under_that_preset_and_the_error_says_what_it_is():
    asked = Wanted("ffhq1024", None, None, {}, None)
    with pytest.raises(CheckpointError, match=r"shapes of ffhq256, not of ffhq1024.*issue 3.*--preset ffhq256"):
        configuration_of(like(manifest("ffhq256")), asked)


def test_a_preset_of_another_model_is_an_error_with_both_sizes():
    with pytest.raises(CheckpointError, match=r"33 encoder and 43 decoder blocks, width 384.*the weights: 10 encoder"):
        configuration_of(weights("tiny_cifar"), Wanted("cifar10", None, None, {}, None))


def test_a_fine_tuned_model_has_the_constants_that_are_given():
    asked = Wanted(None, None, None, {"normalisation": "imagenet32"}, 5)
    found = configuration_of(like(manifest("cifar10")), asked)
    assert (found.backbone.normalisation, found.backbone.bits, found.preset) == ("imagenet32", 5, "cifar10")
    constants = {"input_mean": 9.0, "input_std": 3.0}
    given = configuration_of(like(manifest("cifar10")), Wanted(None, None, None, constants, 8))
    assert (given.backbone.normalisation, given.backbone.input_mean, given.backbone.bits) == ("data", 9.0, 8)


@pytest.mark.parametrize("name", TINY)
def test_what_the_weights_show_need_not_be_given(name):
    found, known = configuration_of(weights(name), wanted(name)).backbone, config(name)
    assert found.structure(known["image_size"]).shapes == tuple(map(tuple, known["layers_top_first"]))
    assert (found.width, found.latent_channels, found.mixtures) == (
        known["width"],
        known["zdim"],
        known["num_mixtures"],
    )
    assert (found.widths, found.bottleneck) == (known["custom_width_str"], known["bottleneck_multiple"])
    assert (found.no_bias_above, found.bits) == (known["no_bias_above"], 5 if name == "tiny_ffhq256" else 8)


@pytest.mark.parametrize(
    ("left_out", "asked_for"),
    [
        ({"encoder", "decoder", "normalisation"}, {"--encoder", "--decoder", "--normalisation"}),
        ({"encoder"}, {"--encoder"}),
        ({"decoder"}, {"--decoder"}),
        ({"normalisation"}, {"--normalisation"}),
    ],
)
def test_what_the_weights_do_not_show_is_asked_for_by_its_option(left_out, asked_for):
    with pytest.raises(CheckpointError) as caught:
        configuration_of(weights("tiny_cifar"), wanted("tiny_cifar", **dict.fromkeys(left_out)))
    said = str(caught.value)
    assert "10 encoder and 8 decoder blocks, width 16, 10 mixture components, biases at sides 1, 4, 8, 16, 32" in said
    assert {option for option in ("--encoder", "--decoder", "--normalisation") if option in said} == asked_for


CIFAR, MANY = options("tiny_cifar"), options("tiny_imagenet64")
WRONG = [
    ("tiny_cifar", {"encoder": "32x2,32d2,16x1"}, ["encoder: the string has 4 blocks, the weights have 10"]),
    ("tiny_cifar", {"decoder": "1x1,4m1"}, ["decoder: the string has 2 blocks, the weights have 8"]),
    (
        "tiny_cifar",
        {"encoder": CIFAR["encoder"].replace("4d4,1x1", "4d2,2x1")},
        [],
    ),
    (
        "tiny_cifar",
        {"decoder": CIFAR["decoder"].replace("1x1,4m1", "4x1,4x1")},
        [
            "kernels (1x1 at sides 1 and 2, else 3x3): decoder.dec_blocks.0 at side 4",
            "biases: the weights have them at sides 1, 4, 8, 16, 32; the decoder's sides are 4, 8, 16, 32",
        ],
    ),
    (
        "tiny_imagenet64",
        {"encoder": MANY["encoder"].replace("32d2,16", "32d2,32")},
        ["widths at side 32: 16 in encoder.enc_blocks.4, but 12 in encoder.enc_blocks.2"],
    ),
]


@pytest.mark.parametrize(("name", "changes", "said"), WRONG)
def test_strings_that_do_not_fit_the_weights_are_one_error_with_all_that_differs(name, changes, said):
    with pytest.raises(CheckpointError) as caught:
        configuration_of(weights(name), wanted(name, **changes))
    if said:
        assert str(caught.value).splitlines()[1:] == [f"  {line}" for line in said]
    else:  # the shapes fit, but no model has these strings
        assert "describe no valid model: backbone.decoder: the encoder has no map of side 1" in str(caught.value)


def test_the_inner_channels_of_all_blocks_must_be_one_fraction():
    changed = dict(weights("tiny_cifar"))
    changed["encoder.enc_blocks.0.c1.weight"] = torch.zeros(9, 16, 1, 1)
    with pytest.raises(CheckpointError, match="not one fraction of their widths"):
        configuration_of(changed, wanted("tiny_cifar"))


@pytest.mark.parametrize(
    ("blocks", "fraction"),
    [([(384, 96)], 0.25), ([(10, 5)], 0.5), ([(8, 2), (12, 3), (16, 4), (24, 7)], 0.3), ([(100, 33)], 0.33)],
)
def test_the_bottleneck_is_a_quarter_or_the_shortest_decimal(blocks, fraction):
    sizes = sizes_of(weights("tiny_cifar"))
    specs = tuple(BlockSize(width, inner, 3) for width, inner in blocks)
    assert attrs.evolve(sizes, encoder=specs, decoder=()).bottleneck() == fraction


def edited(**changes):
    found = {**weights("tiny_cifar"), **changes}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder.in_conv.weight": None}, r"lacks encoder\.in_conv\.weight"),
        ({"encoder.in_conv.weight": torch.zeros(3)}, r"encoder\.in_conv\.weight has the shape \(3,\)"),
        ({"encoder.in_conv.weight": torch.zeros(16, 1, 3, 3)}, "images of 1 channels"),
        ({"decoder.out_net.out_conv.weight": torch.zeros(7, 16, 1, 1)}, "has 7 outputs"),
        ({"encoder.enc_blocks.2.c4.weight": None}, r"lacks encoder\.enc_blocks\.2\.c4\.weight"),
        ({"encoder.enc_blocks.12.c1.weight": torch.zeros(4, 16, 1, 1)}, r"not whole: it lacks encoder\.enc_blocks\.10"),
        ({"decoder.dec_blocks.0.z_proj.weight": torch.zeros(16, 0, 1, 1)}, "are empty"),
        ({"decoder.gain": torch.zeros(1, 16, 1, 1, dtype=torch.int64)}, r"other type: decoder\.gain torch\.int64"),
        ({"decoder.gain": torch.full((1, 16, 1, 1), float("nan"))}, r"not finite: decoder\.gain"),
        ({"decoder.gain": [1]}, r"not a tensor: decoder\.gain"),
        ({"surplus": torch.zeros(1)}, "surplus: surplus"),
    ],
)
def test_damaged_weights_are_an_error_that_names_them(changed, said):
    with pytest.raises(CheckpointError, match=said):
        configuration_of(edited(**changed), wanted("tiny_cifar"))
