"""The two bottom-up inference models q(z|x)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from hebm.normals import Normal
from hebm_plugins.hvae.nets import ConditionalNormal


class Inferred(NamedTuple):
    """A draw from q(z|x) and the distribution of each of its layers, top first.

    Arguments:
        z: `(B, *shape_i)` per layer.
        q: q(z_i | ·) per layer.
    """

    z: tuple[Tensor, ...]
    q: tuple[Normal, ...]


class BottomUp(nn.Module):
    """q(z|x) = q(z_1|x) Π_{i<L} q(z_{i+1}|z_i): each layer is inferred from the draw of the layer below.

    Arguments:
        layers: q(z_1|x), then q(z_{i+1}|z_i) from the bottom up.
    """

    def __init__(self, layers: Sequence[ConditionalNormal]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, noise: tuple[Tensor, ...]) -> Inferred:
        """Infer latents of images x `(B, C, H, W)` with noise ξ_i `(B, *shape_i)`, top first."""
        z: list[Tensor] = []
        q: list[Normal] = []
        for layer, xi in zip(self.layers, reversed(noise), strict=True):
            q.append(layer(z[-1] if z else x))
            z.append(q[-1].at(xi))
        return Inferred(tuple(z[::-1]), tuple(q[::-1]))


class SharedPath(nn.Module):
    """q(z|x) = Π_i q(z_i|h_i), h_1 = e_1(x), h_{i+1} = e_{i+1}(h_i): layers share a deterministic path.

    The layers are independent given x.

    Arguments:
        paths: e_i, from the bottom up.
        heads: q(z_i|h_i), from the bottom up.
    """

    def __init__(self, paths: Sequence[nn.Module], heads: Sequence[ConditionalNormal]) -> None:
        super().__init__()
        self.paths, self.heads = nn.ModuleList(paths), nn.ModuleList(heads)

    def forward(self, x: Tensor, noise: tuple[Tensor, ...]) -> Inferred:
        """Infer latents of images x `(B, C, H, W)` with noise ξ_i `(B, *shape_i)`, top first."""
        h, q = x, []
        for path, head in zip(self.paths, self.heads, strict=True):
            h = path(h)
            q.append(head(F.silu(h)))
        q.reverse()
        return Inferred(tuple(qi.at(xi) for qi, xi in zip(q, noise, strict=True)), tuple(q))
