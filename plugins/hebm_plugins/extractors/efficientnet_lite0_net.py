"""EfficientNet-Lite0: a convolutional network of inverted bottlenecks, for images of 224 × 224 pixels.

Each block (MBConv) computes

    x ← x + P(D(E(x))),   E: 1 × 1 convolution to t C channels,  D: k × k depthwise,  P: 1 × 1

The skip connection is left out if input and output differ in shape. BatchNorm follows every convolution, and ReLU6
follows E and D. Unlike EfficientNet, the Lite networks have no squeeze-and-excitation and no swish. Convolutions of
stride 2 pad one more pixel at the right and at the bottom, as TensorFlow does.

References:
    EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan & Le, 2019), table 1
    https://arxiv.org/abs/1905.11946
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIDE = 224
WIDTH, CLASSES = 1280, 1000
_EPSILON = 1e-3
_STEM = 32
_STAGES = (
    # t, k, stride, channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class Convolution(nn.Module):
    """A convolution, BatchNorm and, if `active`, ReLU6. Stride 2 halves an even side.

    Arguments:
        channels: input channels.
        width: output channels.
        kernel: side of the kernel.
        stride: 1 or 2.
        groups: groups of channels, as in `nn.Conv2d`.
        active: whether ReLU6 follows.
    """

    def __init__(
        self, channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.pad = ((kernel - stride) // 2, (kernel - stride + 1) // 2)
        self.conv = nn.Conv2d(channels, width, kernel, stride, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(width, eps=_EPSILON)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, width, H / stride, W / stride)`."""
        y: Tensor = self.norm(self.conv(F.pad(x, self.pad * 2) if any(self.pad) else x))
        return F.relu6(y, inplace=True) if self.active else y

    def fold(self) -> None:
        """Fold the BatchNorm into the convolution. This is faster, and exact in eval mode only."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class Block(nn.Module):
    """An inverted bottleneck.

    Arguments:
        channels: C, input channels.
        width: output channels.
        expansion: t, the factor by which E increases the channels; 1 leaves out E.
        kernel: k, side of D's kernel.
        stride: stride of D.
    """

    def __init__(self, channels: int, width: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inside = expansion * channels
        self.expand = Convolution(channels, inside, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(inside, inside, kernel, stride, groups=inside)
        self.project = Convolution(inside, width, 1, active=False)
        self.skips = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, width, H / stride, W / stride)`."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """The whole network: 4.7 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, _STEM, 3, 2)
        blocks, channels = [], _STEM
        for expansion, kernel, stride, width, count in _STAGES:
            for i in range(count):
                blocks.append(Block(channels, width, expansion, kernel, stride if i == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = Convolution(channels, WIDTH, 1)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised images `(B, 3, 224, 224)` to features `(B, 1280)` and logits `(B, 1000)`."""
        features: Tensor = self.head(self.blocks(self.stem(x))).mean((2, 3))
        return features, self.classifier(features)

    def fold(self) -> None:
        """Fold every BatchNorm into its convolution. The result is exact in eval mode only."""
        for module in list(self.modules()):
            if isinstance(module, Convolution):
                module.fold()
