"""Every layer of NVAE against the published code's numbers."""

import pytest
import torch
from nvae_vectors import close, load, ours, state
from torch import nn

from hebm_plugins.nvae.batch_norm import BatchNorm
from hebm_plugins.nvae.cells import ARCHITECTURES, Cell, Doubling, Halving
from hebm_plugins.nvae.convolutions import WNConv2d
from hebm_plugins.nvae.flows import Flow, FlowHalf
from hebm_plugins.nvae.ops import UP, SqueezeExcite, make_op

VECTORS = load("unit/layers")
CASES = sorted({key.split("/")[0] for key in VECTORS})
STRIDES = {"normal": 1, "down": 2, "up": UP}


def build(case, channels):
    """Return the layer of a case for inputs with this number of channels."""
    kind, *rest = case.split(".")
    if kind == "op":
        stride = int(rest[1].removeprefix("stride"))
        return make_op(rest[0], channels, {1: channels, 2: 2 * channels, UP: channels // 2}[stride], stride)
    if kind == "cell":
        step, part = rest[1].split("_")
        ops = getattr(ARCHITECTURES[rest[0]], {"enc": "encoder", "dec": "decoder"}.get(part, part))
        return Cell(ops, channels, STRIDES[step], squeeze_excite=rest[2:] == ["se"])
    if kind == "skip":
        return Halving(channels) if rest[0] == "factorized_reduce" else Doubling(channels)
    if kind == "flow":
        return Flow(channels) if rest[0] == "paired" else FlowHalf(channels, mirrored=False)
    return SqueezeExcite(channels)


def fill(layer, tensors):
    """Load all but BatchNorm's counters, strictly."""
    missing, surplus = layer.load_state_dict(tensors, strict=False)
    assert not surplus, surplus
    assert not [name for name in missing if not name.endswith("num_batches_tracked")], missing
    return layer


def layer_of(case, dtype=torch.float64):
    x = VECTORS[f"{case}/in.0"].to(dtype)
    return fill(build(case, x.shape[1]).to(dtype), state(VECTORS, case, dtype=dtype)), x


LAYERS = [case for case in CASES if not case.startswith("combiner")]


@pytest.mark.parametrize("case", LAYERS)
def test_evaluates_as_published(case):
    layer, x = layer_of(case)
    close(layer.eval()(x), VECTORS[f"{case}/out_eval"])


@pytest.mark.parametrize("case", LAYERS)
def test_evaluates_as_published_in_float32(case):
    layer, x = layer_of(case, torch.float32)
    close(layer.eval()(x), VECTORS[f"{case}/out_eval"], 1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if f"{case}/out_train" in VECTORS])
def test_trains_as_published(case):
    layer, x = layer_of(case)
    close(layer.train()(x), VECTORS[f"{case}/out_train"], 1e-6)
    after = state(VECTORS, case, "after_train")
    statistics = {name: value for name, value in layer.state_dict().items() if "running" in name}
    assert set(statistics) == set(after)
    for name, expected in after.items():
        close(statistics[name], expected, 1e-6)


def combiner(case):
    """The 1×1 convolution of a combiner, and its two inputs."""
    tensors = {key.rpartition(".")[2]: value for key, value in state(VECTORS, case).items()}
    outputs, inputs = tensors["weight"].shape[:2]
    conv = WNConv2d(inputs, outputs, 1).double()
    conv.load_state_dict(tensors)
    return conv, *(VECTORS[f"{case}/in.{k}"].double() for k in (0, 1))


def test_the_encoders_combiner_adds_the_decoders_feature():
    conv, encoder_feature, decoder_feature = combiner("combiner.enc")
    close(encoder_feature + conv(decoder_feature), VECTORS["combiner.enc/out_eval"])


def test_the_decoders_combiner_sees_feature_then_latent():
    conv, feature, z = combiner("combiner.dec")
    close(conv(torch.cat([feature, z], dim=1)), VECTORS["combiner.dec/out_eval"])


def test_masks_are_those_of_the_published_flow():
    flow = Flow(3)
    masks = {key.split("/mask/")[1]: value for key, value in VECTORS.items() if "/mask/" in key}
    convs = {"convz.0": "spread", "convz.2": "depthwise", "mu": "mean"}
    assert len(masks) == 6
    for name, expected in masks.items():
        half, _, conv = name.partition(".")
        close(getattr(getattr(flow, {"cell1": "first", "cell2": "second"}[half]), convs[conv]).mask, expected, 0)


def test_a_flow_preserves_volume():
    layer, x = layer_of("flow.paired.z3")
    x = x[:1, :, :3, :3]
    jacobian = torch.autograd.functional.jacobian(lambda z: layer(z.reshape(x.shape)).flatten(), x.flatten())
    close(torch.linalg.slogdet(jacobian).logabsdet, 0.0, 1e-12)


def test_every_bottleneck_position_is_named():
    assert ours("_ops.0.conv.2.conv.1.weight", ["_ops.0.conv.1.bn.weight"]) == "ops.0.expand_norm.weight"
    assert ours("_ops.0.conv.2.conv.1.weight", ["_ops.0.conv.0.bn.weight"]) == "ops.0.spatial_norm.weight"


def test_initial_norms_are_those_of_the_default_initialisation():
    conv = WNConv2d(3, 5, 3)
    norms = conv.weight.flatten(1).norm(dim=1)
    close(conv.log_weight_norm.flatten(), (norms + 1e-2).log(), 1e-6)
    assert isinstance(conv, nn.Conv2d)
    assert BatchNorm(4).momentum == 0.05
