"""The five published configurations of VDVAE (arXiv 2011.10650), as keys of the recipe and of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen
class Preset:
    """A published configuration.

    Arguments:
        images: the data set.
        side: S, the image's side.
        backbone: keys of the recipe `vdvae`.
        batch_size: images per step, over all processes.
        learning_rate: of AdamW with betas (0.9, 0.9) and weight decay 0.01.
        ema: decay of the averaged weights.
        clip, skip: bounds of the gradient's norm, in nats per dimension.
    """

    images: str
    side: int
    backbone: Mapping[str, Any]
    batch_size: int
    learning_rate: float
    ema: float
    clip: float
    skip: float


CIFAR10 = Preset(
    "CIFAR-10",
    32,
    {
        "encoder": "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3",
        "decoder": "1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21",
        "width": 384,
        "normalisation": "cifar10",
    },
    batch_size=32,
    learning_rate=2e-4,
    ema=0.9999,
    clip=200,
    skip=400,
)
IMAGENET32 = Preset(
    "ImageNet 32 x 32",
    32,
    {
        "encoder": "32x15,32d2,16x9,16d2,8x8,8d2,4x6,4d4,1x6",
        "decoder": "1x2,4m1,4x4,8m4,8x9,16m8,16x19,32m16,32x40",
        "width": 512,
        "normalisation": "imagenet32",
    },
    batch_size=256,
    learning_rate=1.5e-4,
    ema=0.999,
    clip=200,
    skip=300,
)
IMAGENET64 = Preset(
    "ImageNet 64 x 64",
    64,
    {
        "encoder": "64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5",
        "decoder": "1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12",
        "width": 512,
        "normalisation": "imagenet64",
    },
    batch_size=128,
    learning_rate=1.5e-4,
    ema=0.999,
    clip=220,
    skip=380,
)
FFHQ256 = Preset(
    "FFHQ 256 x 256",
    256,
    {
        "encoder": "256x3,256d2,128x8,128d2,64x12,64d2,32x17,32d2,16x7,16d2,8x5,8d2,4x5,4d4,1x4",
        "decoder": "1x2,4m1,4x3,8m4,8x4,16m8,16x9,32m16,32x21,64m32,64x13,128m64,128x7,256m128",
        "width": 512,
        "bits": 5,
        "normalisation": "ffhq256",
    },
    batch_size=32,
    learning_rate=1.5e-4,
    ema=0.999,
    clip=130,
    skip=180,
)
FFHQ1024 = Preset(
    "FFHQ 1024 x 1024",
    1024,
    {
        "encoder": "1024x1,1024d2,512x3,512d2,256x5,256d2,128x7,128d2,64x10,64d2,"
        "32x14,32d2,16x7,16d2,8x5,8d2,4x5,4d4,1x4",
        "decoder": "1x2,4m1,4x3,8m4,8x4,16m8,16x9,32m16,32x20,64m32,64x14,128m64,128x7,256m128,256x2,512m256,1024m512",
        "width": 16,
        "widths": "512:32,256:64,128:512,64:512,32:512,16:512,8:512,4:512,1:512",
        "mixtures": 2,
        "normalisation": "ffhq1024",
    },
    batch_size=32,
    learning_rate=7e-5,
    ema=0.999,
    clip=360,
    skip=500,
)

PRESETS: Mapping[str, Preset] = {
    "cifar10": CIFAR10,
    "imagenet32": IMAGENET32,
    "imagenet64": IMAGENET64,
    "ffhq256": FFHQ256,
    "ffhq1024": FFHQ1024,
}
"""The published configurations by name."""
