"""Energies of the decoded image, or of the decoder's last feature, from which the image is computed.

    log p(u) = f(E[x | T(u)]) + log N(u; 0, I) − log Z

In a deep hierarchy the decoder ignores most of u. A net of u, or of single layers, fits this noise. A net of the
decoder's output sees how well the layers fit together.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import EnergyFn, EnergyRecipe
from hebm.latents import LatentLayout, Latents
from hebm.perturbations import Dropout, Rounding, Shift
from hebm.tilts import expect_shown
from hebm_plugins.energies.layerwise import expect_one_level, started

_SMALLEST = 4
"""Maps are halved until their longer side is at most this."""


class ImageEnergy(EnergyFn):
    """f(E[x|z]), computed by one net.

    Arguments:
        net: images `(B, C, H, W)` → `(B, K)`.
        gradient_penalty: weight of `EnergyFn.penalty`.
    """

    sees = ("image",)

    def __init__(self, net: nn.Module, gradient_penalty: float = 0.0) -> None:
        super().__init__()
        self.net, self.gradient_penalty = net, gradient_penalty

    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, 1, K)`."""
        f: Tensor = self.net(self.seen(latents)).unsqueeze(1)
        return f

    def seen(self, latents: Latents) -> Tensor:
        """Return the input of the net."""
        return latents.image


class FeatureEnergy(ImageEnergy):
    """f(d), computed by one net, where d is the decoder's last feature."""

    sees = ("last-feature",)

    def seen(self, latents: Latents) -> Tensor:
        """Return the decoder's last feature."""
        return latents.last_feature


def halving(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    """Return a convolution that takes a side s to ⌈s/2⌉, and its activation; the kernel is odd."""
    return [nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2), nn.SiLU()]


def halvings(shape: tuple[int, ...]) -> int:
    """Return how often a map `(c, h, w)` is halved until its longer side is at most 4."""
    side, count = max(shape[1:]), 0
    while side > _SMALLEST:
        side, count = -(-side // 2), count + 1
    return count


def cells(shape: tuple[int, ...], count: int) -> int:
    """Return how many positions of a map `(c, h, w)` are left after `count` halvings."""
    height, width = (math.ceil(side / (1 << count)) for side in shape[1:])
    return height * width


def head(inputs: int, width: int, dropout: float, logits: int, zero: bool) -> list[nn.Module]:
    """Return dropout and two linear layers on a flattened map; if `zero`, the last one starts at 0."""
    out = nn.Linear(width, logits)
    started(out, zero)
    return [nn.Flatten(), Dropout(dropout), nn.Linear(inputs, width), nn.SiLU(), out]


_TIMELESS = 'use prior.energy.type = "feature-mlp", or prior.type = "multi-stage"'
_DROPOUT = "dropout rate of the flattened map, in training only"
PENALTY_DOC = (
    "w of the penalty (w/2) E |∇f|² in the loss, the gradient by the input of f at posterior draws (R1, "
    "arXiv 1801.04406); 0 for none"
)


@recipe
class ImageConv(EnergyRecipe):
    """f(E[x|z]), one convolutional net of the decoded image.

    The net has a 5×5 convolution (`channels`) and 3×3 convolutions (twice as many channels), all with stride 2 and
    SiLU, until the longer side is at most 4. There are at least three; images of 64 pixels need one more, and images of
    256 pixels three more. Dropout, a hidden linear layer and the output follow. With the defaults the net has 187,585
    weights for images of 1×28×28.

    In training, images are rounded to 8-bit levels, and each is shifted by a random number of pixels, with repeated
    edges. Chains, scores and evaluation use the decoded image unchanged. This net is not from a paper.

    Example:
        >>> from hebm import ImageSpec, TwoLayer
        >>> energy = ImageConv().build(TwoLayer().build(ImageSpec(1, 28, 28)).layout)
        >>> sum(p.numel() for p in energy.parameters())
        187585
    """

    channels: int = option(32, doc="channels of the first convolution; the others have twice as many", low=1)
    width: int = option(128, doc="units of the hidden linear layer", low=1)
    dropout: float = option(0.1, doc=_DROPOUT, low=0, high=0.99)
    shift: int = option(
        1, doc="largest random shift of the image in training, each way; 0 for none", unit="px", low=0, high=1024
    )
    gradient_penalty: float = option(0.0, doc=PENALTY_DOC, low=0)
    zero_init: bool = option(True, doc="start at f = 0, where the prior is its root")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> ImageEnergy:
        """Build the net. Raises `ConfigError` if the backbone does not show the image, and for several levels."""
        expect_one_level(levels, "image-conv", _TIMELESS)
        expect_shown(layout, ImageEnergy.sees)
        shape: tuple[int, ...] = layout.image or ()
        wide = 2 * self.channels
        count = max(3, halvings(shape))
        convolutions = halving(shape[0], self.channels, 5) + halving(self.channels, wide, 3)
        for _ in range(count - 2):
            convolutions += halving(wide, wide, 3)
        last = head(wide * cells(shape, count), self.width, self.dropout, logits, self.zero_init)
        return ImageEnergy(nn.Sequential(Rounding(), Shift(self.shift), *convolutions, *last), self.gradient_penalty)


@recipe
class FeatureConv(EnergyRecipe):
    """f(d), one convolutional net of the decoder's last feature map d, from which the image is computed.

    Chains do not run the image head. The net has a 3×3 convolution with stride 1, then 3×3 convolutions with stride 2
    until the longer side is at most 4, all with SiLU. Dropout, a hidden linear layer and the output follow. This net is
    not from a paper.

    Example:
        >>> from hebm import ImageSpec, NVAETiny
        >>> energy = FeatureConv(channels=8).build(NVAETiny().build(ImageSpec(1, 32, 32)).layout)
        >>> energy.sees
        ('last-feature',)
    """

    channels: int = option(64, doc="channels of every convolution", low=1)
    width: int = option(128, doc="units of the hidden linear layer", low=1)
    dropout: float = option(0.1, doc=_DROPOUT, low=0, high=0.99)
    shift: int = option(
        0, doc="largest random shift of the map in training, each way; 0 for none", unit="px", low=0, high=1024
    )
    gradient_penalty: float = option(0.0, doc=PENALTY_DOC, low=0)
    zero_init: bool = option(True, doc="start at f = 0, where the prior is its root")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> FeatureEnergy:
        """Build the net. Raises `ConfigError` unless the backbone shows a last feature map, and for several levels."""
        expect_one_level(levels, "feature-conv", _TIMELESS)
        expect_shown(layout, FeatureEnergy.sees)
        shape = layout.last_feature or ()
        if len(shape) != 3:
            raise ConfigError(
                "prior.energy: 'feature-conv' needs a last decoder feature of shape (channels, height, width), and "
                f'this backbone has one of shape {shape}; use prior.energy.type = "feature-mlp" or "image-conv"'
            )
        count = halvings(shape)
        convolutions: list[nn.Module] = [nn.Conv2d(shape[0], self.channels, 3, padding=1), nn.SiLU()]
        for _ in range(count):
            convolutions += halving(self.channels, self.channels, 3)
        inputs = self.channels * cells(shape, count)
        last = head(inputs, self.width, self.dropout, logits, self.zero_init)
        return FeatureEnergy(nn.Sequential(Shift(self.shift), *convolutions, *last), self.gradient_penalty)
