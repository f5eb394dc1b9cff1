"""Map our names of an NVAE's tensors to the names of the published code, by walking a built model."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from hebm_plugins.nvae.backbone import NVAEBackbone
from hebm_plugins.nvae.cells import Cell, Doubling, Halving
from hebm_plugins.nvae.convolutions import WNConv2d
from hebm_plugins.nvae.ops import ConvOp, InvertedBottleneck, SqueezeExcite

ALIAS = ".weight_normalized"
"""The suffix under which published files repeat the weight of every plain convolution."""

Pairs = Iterator[tuple[str, str]]


def official_names(backbone: NVAEBackbone) -> dict[str, str]:
    """Map our name to the published name of every tensor, in the published order and without aliases."""
    names = {"decoder.feature": "prior_ftr0"}
    for ours, theirs in _modules(backbone):
        for key in backbone.get_submodule(ours).state_dict():
            names[f"{ours}.{key}"] = f"{theirs}.{key}"
    return names


def aliased(backbone: NVAEBackbone, name: str) -> bool:
    """Return whether a tensor is the kernel of a plain convolution, which published files store twice."""
    owner = backbone.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, nn.Conv2d) and not isinstance(owner, WNConv2d)


def alias_of(name: str) -> str:
    """Return the second name of a kernel in the published files."""
    return name.removesuffix(".weight") + ALIAS


def _modules(backbone: NVAEBackbone) -> Pairs:
    """Yield our name and the published name of every module that owns tensors."""
    count = len(backbone.layout)
    yield "encoder.stem", "stem"
    yield from _cells(backbone, _numbered("encoder.pre", "pre_process", len(backbone.encoder.pre)))
    yield from _cells(backbone, zip(_bottom_up(backbone), _slots("enc_tower"), strict=False))
    yield "encoder.top", "enc0.1"
    yield from ((f"encoder.groups.{i}.normal", f"enc_sampler.{i}") for i in range(count))
    yield from ((f"decoder.groups.{i}.normal", f"dec_sampler.{i - 1}.1") for i in range(1, count))
    yield from _flows(backbone)
    yield from _cells(backbone, zip(_top_down(backbone), _slots("dec_tower"), strict=False))
    yield from _cells(backbone, _numbered("decoder.post", "post_process", len(backbone.decoder.post)))
    yield "decoder.head", "image_conditional.1"


def _numbered(ours: str, theirs: str, count: int) -> Pairs:
    return ((f"{ours}.{n}", f"{theirs}.{n}") for n in range(count))


def _slots(tower: str) -> Iterator[str]:
    n = 0
    while True:
        yield f"{tower}.{n}"
        n += 1


def _bottom_up(backbone: NVAEBackbone) -> Iterator[str]:
    """Yield our names in the order of the published encoder tower: cells, combiner of the group, downsampling cell."""
    steps = backbone.encoder.steps
    for k, step in enumerate(steps):
        group = len(steps) - 1 - k
        yield from (f"encoder.steps.{k}.cells.{n}" for n in range(len(step.cells)))
        if group:
            yield f"encoder.groups.{group}.combine"
        if step.down is not None:
            yield f"encoder.steps.{k}.down"


def _top_down(backbone: NVAEBackbone) -> Iterator[str]:
    """Yield our names in the order of the published decoder tower: cells, combiner of z, upsampling cell."""
    for i, group in enumerate(backbone.decoder.groups):
        yield from (f"decoder.groups.{i}.cells.{n}" for n in range(len(group.cells)))
        yield f"decoder.groups.{i}.combine"
        if group.up is not None:
            yield f"decoder.groups.{i}.up"


def _flows(backbone: NVAEBackbone) -> Pairs:
    place = _slots("nf_cells")
    for i, group in enumerate(backbone.encoder.groups):
        for n in range(len(group.flows)):
            flow = next(place)
            for half, cell in (("first", "cell1"), ("second", "cell2")):
                ours, theirs = f"encoder.groups.{i}.flows.{n}.{half}", f"{flow}.{cell}"
                yield f"{ours}.spread", f"{theirs}.conv.convz.0"
                yield f"{ours}.depthwise", f"{theirs}.conv.convz.2"
                yield f"{ours}.mean", f"{theirs}.mu.conv_0"


def _cells(backbone: NVAEBackbone, pairs: Pairs) -> Pairs:
    """Yield the modules within each cell, and the convolution of each combiner."""
    for ours, theirs in pairs:
        found = backbone.get_submodule(ours)
        if isinstance(found, Cell):
            yield from ((f"{ours}.{inner}", f"{theirs}.{published}") for inner, published in _cell(found))
        else:
            yield ours, f"{theirs}.conv"


def _cell(cell: Cell) -> Pairs:
    if isinstance(cell.skip, Halving):
        yield from ((f"skip.convs.{n}", f"skip.conv_{n + 1}") for n in range(len(cell.skip.convs)))
    if isinstance(cell.skip, Doubling):
        yield "skip.conv", "skip.1"
    for j, op in enumerate(cell.ops):
        yield from ((f"ops.{j}.{ours}", f"_ops.{j}.{theirs}") for ours, theirs in _op(op))
    if isinstance(cell.se, SqueezeExcite):
        yield from (("se.squeeze", "se.se.0"), ("se.excite", "se.se.2"))


def _op(op: nn.Module) -> Pairs:
    if isinstance(op, ConvOp):
        yield from _conv_op(op)
    if isinstance(op, InvertedBottleneck):
        yield from _bottleneck(op)


def _conv_op(op: ConvOp) -> Pairs:
    if not isinstance(op.norm, nn.Identity):
        yield "norm", "bn.bn" if isinstance(op.activation, nn.ELU) else "bn_act"
    yield "conv", "conv_0"


def _bottleneck(op: InvertedBottleneck) -> Pairs:
    o = int(op.upsample)  # the upsampling takes index 0
    yield "norm", f"conv.{o}.bn"
    yield from (("expand", f"conv.{o + 1}.conv.0"), ("expand_norm", f"conv.{o + 1}.conv.1"))
    yield from (("spatial", f"conv.{o + 2}.conv.0"), ("spatial_norm", f"conv.{o + 2}.conv.1"))
    yield from (("project", f"conv.{o + 3}"), ("project_norm", f"conv.{o + 4}.bn"))
