"""The extractor `classifier`: a small CNN, trained once on the labels of the data set and then cached.

It needs no download and suits grey or tiny images. Compare its distances only with distances measured with the same
weights (`sha256` in the result).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from hebm.config.recipes import recipe
from hebm.data.images import Images
from hebm.evaluation.extractors import Extractor, ExtractorContext, ExtractorRecipe, Note
from hebm.evaluation.references import EvenSubset
from hebm.evaluation.weights_cache import load_weights, save_weights, training_alone
from hebm.noise import Noise, derive_seed
from hebm.pixel_levels import to_pixels
from hebm.store.tensor_files import digest

WIDTH = 64
_CPU_BATCH = 64
"""Images that the net maps at once on a CPU, so that their maps fit in its caches."""
_SEED, _BATCH, _RATE, _DECAY, _LOWERED = 0, 128, 3e-3, 0.2, 3
_LEAST_ROUND, _LONGEST_ROUND, _ROUNDS = 60, 400, 30
_HELD_OUT, _MOST_HELD_OUT = 0.1, 5000
_MOST_IMAGES, _MOST_BYTES, _LARGEST_SIDE, _LAST_SIDE = 60_000, 400 * 2**20, 64, 8
_WIDTHS = (16, 32, WIDTH, WIDTH)
_CONTRAST, _BRIGHTNESS = 0.2, 0.1

logger = logging.getLogger(__name__)


class Halving(nn.MaxPool2d):
    """Take the maximum of each 2×2 pixels; of fewer at the border of an odd side.

    In evaluation it compares slices: the same numbers as torch's pooling, in less time on a CPU.
    """

    def __init__(self) -> None:
        super().__init__(2, ceil_mode=True)

    @override
    def forward(self, maps: Tensor) -> Tensor:
        if self.training or maps.shape[2] % 2 or maps.shape[3] % 2:
            pooled: Tensor = super().forward(maps)
            return pooled
        rows = torch.maximum(maps[:, :, ::2], maps[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


class ClassifierNet(nn.Module):
    """3×3 convolutions with batch normalisation; max pooling halves the image until its side is 8 or less.

    One convolution precedes the first halving, two precede each further one, and three follow the last. Images of 28 or
    32 pixels pass six convolutions. The features are the spatial mean of the last map, `(B, 64)`, and a linear layer
    maps them to logits. Features of a linear layer on the flattened map would grow with the contrast of an image, and
    distances could then favour samples of too high a temperature. Batch normalisation and random changes of contrast
    and brightness in training keep the scale of the features constant.

    Arguments:
        shape: (C, H, W) of the images; images with a longer side are reduced to 64 pixels by average pooling.
        classes: the number of labels.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.sides = (min(shape[1], _LARGEST_SIDE), min(shape[2], _LARGEST_SIDE))
        halvings = max(1, math.ceil(math.log2(max(self.sides) / _LAST_SIDE)))
        middle = [(width, halves) for width in _WIDTHS[1:halvings] for halves in (False, True)]
        channels, layers = shape[0], list[nn.Module]()
        for width, halves in ((_WIDTHS[0], True), *middle, *[(WIDTH, False)] * 3):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
            layers += [Halving()] if halves else []
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map uint8 `(B, C, H, W)` to features `(B, 64)` and logits `(B, classes)`."""
        return self.of(self.prepared(pixels))

    def prepared(self, pixels: Tensor) -> Tensor:
        """Return images in [−1, 1], reduced to at most 64 pixels a side by average pooling."""
        images = pixels.float() / 127.5 - 1
        return images if images.shape[2:] == self.sides else F.adaptive_avg_pool2d(images, self.sides)

    def of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map prepared images to features and logits."""
        features = self.body(images.contiguous(memory_format=torch.channels_last)).mean((2, 3))
        return features, self.head(features)


class ClassifierExtractor(Extractor):
    """Computes the features and logits of a trained `ClassifierNet`.

    Arguments:
        net: the network, on the device to compute on.
        accuracy: accuracy on the test split, or None without a labelled test split.
    """

    name = "classifier"

    def __init__(self, net: ClassifierNet, accuracy: float | None) -> None:
        self.net, self.accuracy = net.eval().requires_grad_(False), accuracy
        self.widths = {"features": WIDTH, "logits": net.head.out_features}
        self.sha256 = digest(net.state_dict())

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 `(B, C, H, W)` to features and logits."""
        device = self.net.head.weight.device
        at_once = _CPU_BATCH if device.type == "cpu" else max(len(pixels), 1)
        parts = [self.net(few.to(device)) for few in torch.split(pixels, at_once)]
        features, logits = (torch.cat(found) for found in zip(*parts, strict=True))
        return {"features": features, "logits": logits}

    def notes(self) -> dict[str, Note]:
        """Return the accuracy on the test split."""
        return {"accuracy": self.accuracy}


class LabelledPixels(NamedTuple):
    """Images, uint8 `(N, C, H, W)`, and their class indices `(N,)`."""

    pixels: Tensor
    labels: Tensor


@recipe
class Classifier(ExtractorRecipe):
    """A small CNN trained on the data set's class labels: 64 features, logits. It needs no download."""

    needs_classes: ClassVar[bool] = True
    width: ClassVar[int] = WIDTH

    def is_ready(self, context: ExtractorContext) -> bool:
        """Return whether the weights for these data are in the cache."""
        return _weights(context).exists()

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
    """Make an untrained net with a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(_SEED, "classifier-extractor") >> 1)
        return ClassifierNet(shape, classes)


def _load_or_train(net: ClassifierNet, context: ExtractorContext) -> float | None:
    """Load the weights into `net`, or train and store them; return the test accuracy."""
    path = _weights(context)
    kept = load_weights(path, net)
    if kept is None:
        wait = 'waits for another run, which trains the extractor "classifier" on these data'
        with training_alone(path, lambda: context.say(wait)):
            kept = load_weights(path, net) or _trained(net, context, path)
    return float(kept["accuracy"]) if kept["accuracy"] else None


def _trained(net: ClassifierNet, context: ExtractorContext, path: Path) -> dict[str, str]:
    net.to(context.device)
    data = labelled_pixels(context.images["train"])
    context.say(f'trains the extractor "classifier" on {len(data.labels):,} images, once for these data')
    train(net, data, context.device)
    accuracy = test_accuracy(net, context)
    logger.info("trained the classifier extractor, test accuracy %s", accuracy)
    notes = {"accuracy": "" if accuracy is None else repr(accuracy)}
    save_weights(path, net, notes)
    return notes


def _weights(context: ExtractorContext) -> Path:
    """Return the path of the weights for these data in the cache."""
    return context.cache / "extractors" / f"classifier-{_cache_key(context)}.safetensors"


def _cache_key(context: ExtractorContext) -> str:
    """Return a hash of the data and of the code of this file: if either changes, the net is trained again."""
    parts = [
        _own_code().encode(),
        *(images.fingerprint().encode() for _, images in sorted(context.images.items())),
    ]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:32]


@functools.cache
def _own_code() -> str:
    return code_of(Path(__file__).read_text(encoding="utf-8"))


def code_of(source: str) -> str:
    """Return the syntax tree of Python source as text, without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def labelled_pixels(images: Images) -> LabelledPixels:
    """Read an evenly spaced subset of the images, of at most 60,000 images and 400 MiB."""
    spread = EvenSubset(images, min(_MOST_IMAGES, _MOST_BYTES // math.prod(images.shape)))
    pixels = torch.cat([to_pixels(spread.read(rows)) for rows in torch.split(torch.arange(len(spread)), 1000)])
    return LabelledPixels(pixels, torch.as_tensor(spread.labels))


def train(net: ClassifierNet, data: LabelledPixels, device: torch.device) -> None:
    """Minimise the cross-entropy by AdamW until the accuracy on held-out images stops rising.

    A tenth of the images is held out. A round is one epoch, but at least 60 and at most 400 steps. After a round that
    does not raise the held-out accuracy, the learning rate is divided by five. Training ends when this has happened
    three times, or after 30 rounds. Contrast and brightness of each image change at every step: x ← (1 + 0.2 a) x +
    0.1 b with a, b ~ U(−1, 1).
    """
    shown, held_out = _parted(data)
    batch = min(_BATCH, len(shown.labels))
    steps = min(max(_LEAST_ROUND, len(shown.labels) // batch), _LONGEST_ROUND)
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=0.01)
    best, lowered = -1.0, 0
    for finished in range(_ROUNDS):
        _round(net, optimizer, shown, batch, range(finished * steps, (finished + 1) * steps), device)
        accuracy = share_right(net, held_out, device)
        logger.info("classifier: round %d, held-out accuracy %.4f", finished + 1, accuracy)
        if accuracy <= best:
            lowered += 1
            for group in optimizer.param_groups:
                group["lr"] *= _DECAY
        best = max(best, accuracy)
        if lowered == _LOWERED:
            break


def _parted(data: LabelledPixels) -> tuple[LabelledPixels, LabelledPixels]:
    """Split the images into training and held-out ones with a fixed seed. A single image is used for both."""
    order = Noise(_SEED, "classifier-held-out").uniform(len(data.labels)).argsort()
    count = min(math.ceil(_HELD_OUT * len(order)), _MOST_HELD_OUT)
    held_out, shown = order[:count], order[count:] if len(order) > count else order
    return LabelledPixels(*(part[shown] for part in data)), LabelledPixels(*(part[held_out] for part in data))


def _round(
    net: ClassifierNet,
    optimizer: torch.optim.Optimizer,
    data: LabelledPixels,
    batch: int,
    steps: range,
    device: torch.device,
) -> None:
    """Train for one round. The images of step i, and their contrast and brightness, depend on i alone."""
    per_epoch = len(data.labels) // batch
    net.train()
    for step in steps:
        epoch, place = divmod(step, per_epoch)
        if not place or step == steps[0]:
            order = Noise(_SEED, "classifier-order", epoch).uniform(len(data.labels)).argsort()
        rows = order[place * batch :][:batch]
        a, b = (2 * Noise(_SEED, "classifier-changes", step).uniform(2, batch) - 1).view(2, batch, 1, 1, 1).to(device)
        images = (1 + _CONTRAST * a) * net.prepared(data.pixels[rows].to(device)) + _BRIGHTNESS * b
        loss = F.cross_entropy(net.of(images)[1], data.labels[rows].to(device))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    net.eval()


def test_accuracy(net: ClassifierNet, context: ExtractorContext) -> float | None:
    """Return the accuracy on the test images, or None without a labelled test split."""
    images = context.images.get("test")
    if images is None or images.labels is None or not len(images):
        return None
    return share_right(net, labelled_pixels(images), context.device)


@torch.no_grad()
def share_right(net: ClassifierNet, data: LabelledPixels, device: torch.device) -> float:
    """Return the accuracy: the fraction of images that are classified correctly."""
    pairs = zip(torch.split(data.pixels, 500), torch.split(data.labels, 500), strict=True)
    right = sum(int((net(pixels.to(device))[1].argmax(1).cpu() == labels).sum()) for pixels, labels in pairs)
    return right / len(data.labels)


def _share(net: ClassifierNet, context: ExtractorContext) -> None:
    """Copy the weights of the first process to all processes."""
    for tensor in net.state_dict().values():
        tensor.copy_(context.processes.from_first(tensor.reshape(-1)).view_as(tensor))
