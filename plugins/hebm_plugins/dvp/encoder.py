"""The deterministic bottom-up path of q(z|x)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from hebm_plugins.dvp.blocks import EncoderBlock
from hebm_plugins.dvp.structure import Scale


class Encoder(nn.Module):
    """Map x to one feature map per scale: residual blocks, then average pooling to the scale's resolution.

    Arguments:
        colours: channels of x.
        scales: finest first.
        blocks: residual blocks of each scale.
        bottleneck: hidden channels of a block divided by its input channels.
        levels: mean and standard deviation of pixel levels (0 to 255) that standardise the input, or None.
    """

    def __init__(
        self,
        colours: int,
        scales: Sequence[Scale],
        blocks: int,
        bottleneck: float,
        levels: tuple[float, float] | None,
    ) -> None:
        super().__init__()
        self.sizes, self.levels = [scale.size for scale in scales], levels
        self.stem = nn.Conv2d(colours, scales[0].channels, 1)
        self.scales = nn.ModuleList()
        inputs = scales[0].channels
        for scale in scales:
            widths = [inputs, *[scale.channels] * blocks]
            pairs = zip(widths[:-1], widths[1:], strict=True)
            self.scales.append(nn.Sequential(*(EncoderBlock(a, b, int(a * bottleneck)) for a, b in pairs)))
            inputs = scale.channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images `(B, C, H, W)` to features `(B, c_j, h_j, w_j)`, the coarsest scale first."""
        if self.levels is not None:
            mean, std = self.levels
            x = (127.5 * x + 127.5 - mean) / std
        h, found = self.stem(x), []
        for blocks, size in zip(self.scales, self.sizes, strict=True):
            h = blocks(h)
            h = F.avg_pool2d(h, h.shape[-2] // size[0])
            found.append(h)
        return found[::-1]
