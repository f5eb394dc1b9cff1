"""The ladder's residual blocks and its interpolation, without normalisation layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Residual(nn.Module):
    """y = skip(x) + net(x); skip is the identity, or a 1×1 convolution if the number of channels changes."""

    def __init__(self, inputs: int, outputs: int, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, inputs, H, W)` to `(B, outputs, H, W)`."""
        y: Tensor = self.skip(x) + self.net(x)
        return y

    @property
    def last(self) -> nn.Conv2d:
        """Return the last convolution of the branch."""
        return next(part for part in reversed(self.net) if isinstance(part, nn.Conv2d))


class EncoderBlock(_Residual):
    """Four convolutions, each after an activation: 1×1 into h channels, 3×3, 3×3, and 1×1.

    Arguments:
        inputs, outputs: channels.
        hidden: h.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        convs = (
            nn.Conv2d(inputs, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.Conv2d(hidden, outputs, 1),
        )
        parts = [part for conv in convs for part in (nn.SiLU(), conv)]
        super().__init__(inputs, outputs, nn.Sequential(*parts))


class DecoderBlock(_Residual):
    """Convolutions with activations between them: 1×1 into h channels, two 3×3 (or one depthwise 5×5), and 1×1.

    Arguments:
        inputs, outputs: channels.
        hidden: h.
        depthwise: use one depthwise 5×5 convolution instead of the two 3×3.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, depthwise: bool = False) -> None:
        middle = (
            [nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden)]
            if depthwise
            else [nn.Conv2d(hidden, hidden, 3, padding=1) for _ in range(2)]
        )
        parts: list[nn.Module] = [nn.Conv2d(inputs, hidden, 1)]
        for conv in (*middle, nn.Conv2d(hidden, outputs, 1)):
            parts += [nn.SiLU(), conv]
        super().__init__(inputs, outputs, nn.Sequential(*parts))


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly, corners not aligned, without antialiasing; return x itself if the size is the same."""
    return x if x.shape[-2:] == torch.Size(size) else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
