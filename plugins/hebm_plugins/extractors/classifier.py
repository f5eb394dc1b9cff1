"""The extractor `classifier`: a small CNN trained once on the data set's own labels, and kept.

It needs no download and suits grey or tiny images. Its distances are on a scale of their own: they are comparable
only with distances by the same weights (`sha256` in the result).
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm.config.recipes import recipe
from hebm.data.images import Images
from hebm.evaluation.extractors import Extractor, ExtractorContext, ExtractorRecipe, Note
from hebm.evaluation.references import EvenSubset
from hebm.evaluation.weights_cache import load_weights, save_weights
from hebm.noise import Noise, derive_seed
from hebm.pixel_levels import to_pixels
from hebm.store.tensor_files import digest

WIDTH = 64
_SEED, _STEPS, _EPOCHS, _BATCH, _PEAK_RATE = 0, 450, 20, 128, 4e-3
_MOST_IMAGES, _MOST_BYTES, _LARGEST_SIDE = 60_000, 400 * 2**20, 64
_CHANNELS = (16, 32, 64, 64)

logger = logging.getLogger(__name__)


class ClassifierNet(nn.Module):
    """Convolutions, each halving the image, down to a side of at most 4; then a layer of 64 features, then logits.

    Arguments:
        shape: (C, H, W) of the images.
        classes: the number of labels.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels = shape[0]
        self.sides = (min(shape[1], _LARGEST_SIDE), min(shape[2], _LARGEST_SIDE))
        sides = list(self.sides)
        layers: list[nn.Module] = []
        for width in _CHANNELS[: max(1, math.ceil(math.log2(max(sides) / 4)))]:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels, sides = width, [-(-side // 2) for side in sides]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * math.prod(sides), WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map uint8 `(B, C, H, W)` to features `(B, 64)` and logits `(B, classes)`."""
        images = pixels.float() / 127.5 - 1
        if images.shape[2:] != self.sides:
            images = F.adaptive_avg_pool2d(images, self.sides)
        features = self.body(images)
        return features, self.head(features)


class ClassifierExtractor(Extractor):
    """Features and logits of a trained `ClassifierNet`.

    Arguments:
        net: on its device.
        accuracy: on the test split, or None where there is none.
    """

    name = "classifier"

    def __init__(self, net: ClassifierNet, accuracy: float | None) -> None:
        self.net, self.accuracy = net.eval().requires_grad_(False), accuracy
        self.widths = {"features": WIDTH, "logits": net.head.out_features}
        self.sha256 = digest(net.state_dict())

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 `(B, C, H, W)` to features and logits."""
        features, logits = self.net(pixels.to(self.net.head.weight.device))
        return {"features": features, "logits": logits}

    def notes(self) -> dict[str, Note]:
        """Return the accuracy on the test split."""
        return {"accuracy": self.accuracy}


class LabelledPixels(NamedTuple):
    """uint8 `(N, C, H, W)` and class indices `(N,)`."""

    pixels: Tensor
    labels: Tensor


@recipe
class Classifier(ExtractorRecipe):
    """A small CNN trained on the data set's class labels: 64 features, logits. It needs no download."""

    needs_classes: ClassVar[bool] = True

    def build(self, context: ExtractorContext) -> ClassifierExtractor:
        """Take the weights from the cache, or train them on the train split in the first process."""
        images, processes = context.images["train"], context.processes
        net = new_net(images.shape, len(images.classes))
        accuracy: float | None = None
        if processes.rank == 0:
            accuracy = _load_or_train(net, context)
        _share(net.to(context.device), context)
        known = processes.from_first(torch.tensor([math.nan if accuracy is None else accuracy], device=context.device))
        return ClassifierExtractor(net, None if known.isnan() else round(float(known), 6))


def new_net(shape: tuple[int, int, int], classes: int) -> ClassifierNet:
    """Make an untrained net, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(_SEED, "classifier-extractor") >> 1)
        return ClassifierNet(shape, classes)


def _load_or_train(net: ClassifierNet, context: ExtractorContext) -> float | None:
    path = context.cache / "extractors" / f"classifier-{_cache_key(context)}.safetensors"
    kept = load_weights(path, net)
    if kept is not None:
        return float(kept["accuracy"]) if kept["accuracy"] else None
    net.to(context.device)
    train(net, labelled_pixels(context.images["train"]), context.device)
    accuracy = test_accuracy(net, context)
    logger.info("trained the classifier extractor, test accuracy %s", accuracy)
    save_weights(path, net, {"accuracy": "" if accuracy is None else repr(accuracy)})
    return accuracy


def _cache_key(context: ExtractorContext) -> str:
    """Return a hash of the data and of this file's text: a change in either needs new weights."""
    parts = [
        Path(__file__).read_bytes(),
        *(images.fingerprint().encode() for _, images in sorted(context.images.items())),
    ]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:32]


def labelled_pixels(images: Images) -> LabelledPixels:
    """Read evenly spread images, at most as many as training may hold in memory."""
    spread = EvenSubset(images, min(_MOST_IMAGES, _MOST_BYTES // math.prod(images.shape)))
    pixels = torch.cat([to_pixels(spread.read(rows)) for rows in torch.split(torch.arange(len(spread)), 1000)])
    return LabelledPixels(pixels, torch.as_tensor(spread.labels))


def train(net: ClassifierNet, data: LabelledPixels, device: torch.device) -> None:
    """Minimise the cross-entropy by AdamW with a one-cycle rate, in a seeded order; small sets for 20 epochs."""
    batch = min(_BATCH, len(data.labels))
    steps = max(4, min(_STEPS, _EPOCHS * len(data.labels) // batch))  # the schedule needs a few
    optimizer = torch.optim.AdamW(net.parameters(), lr=_PEAK_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=steps)
    per_epoch = len(data.labels) // batch
    net.train()
    for step in range(steps):
        if step % per_epoch == 0:
            order = Noise(_SEED, "classifier-order", step // per_epoch).uniform(len(data.labels)).argsort()
        rows = order[step % per_epoch * batch :][:batch]
        _, logits = net(data.pixels[rows].to(device))
        loss = F.cross_entropy(logits, data.labels[rows].to(device))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    net.eval()


@torch.no_grad()
def test_accuracy(net: ClassifierNet, context: ExtractorContext) -> float | None:
    """Return the share of test images that are classified correctly; None without a labelled test split."""
    images = context.images.get("test")
    if images is None or images.labels is None or not len(images):
        return None
    data = labelled_pixels(images)
    pairs = zip(torch.split(data.pixels, 500), torch.split(data.labels, 500), strict=True)
    right = sum(int((net(pixels.to(context.device))[1].argmax(1).cpu() == labels).sum()) for pixels, labels in pairs)
    return right / len(data.labels)


def _share(net: ClassifierNet, context: ExtractorContext) -> None:
    """Give every process the first one's weights."""
    for tensor in net.state_dict().values():
        tensor.copy_(context.processes.from_first(tensor.reshape(-1)).view_as(tensor))
