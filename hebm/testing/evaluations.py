"""Small models with data on which metrics and analyses are checked.

    full                q(z|x), a prior with labels and two chains, images with classes; training lacks one class
    root                the same backbone with a Gaussian prior, which has neither a tilt nor a chain
    without inference   no q(z|x); latents are inferred by MCMC
    without labels      images without classes and attributes
    with attributes     images with attributes instead of classes
    with a context      a root that draws a context

A fixed random projection replaces every extractor, so nothing is trained or downloaded.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from torch import Tensor
from typing_extensions import override

from hebm import registry
from hebm.config.recipes import option, recipe
from hebm.data.dataset_recipe import SPLITS, ImageData, spec
from hebm.data.images import ArrayImages
from hebm.data.splits import Splits
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.extractors import Extractor, ExtractorRecipe
from hebm.evaluation.given_images import GivenImages
from hebm.evaluation.metric import MetricRecipe
from hebm.evaluation.plan import EvaluationPlan
from hebm.evaluation.settings import EvaluateSettings
from hebm.gaussian import GaussianPrior
from hebm.interfaces import Backbone, ImageSpec, InferringBackbone, PriorLearner
from hebm.latents import Latents
from hebm.likelihoods import PixelDistribution
from hebm.noise import BLOCK, Noise
from hebm.testing.reference_priors import ReferencePrior, ReferenceSampler
from hebm.testing.subjects import ReferenceBackbone, seeded
from hebm.trained import TrainedModel
from hebm.training.joint import JointMCMC

FULL, ROOT, WITHOUT_INFERENCE = "full", "root", "without inference"
WITHOUT_LABELS, WITH_ATTRIBUTES, WITH_CONTEXT = "without labels", "with attributes", "with a context"

FEATURES = 6


@recipe
class RandomImages(ImageData):
    """Random 8-bit images in memory with alternating classes."""

    depth: int = option(1, doc="channels", choices=(1, 3))
    height: int = option(8, doc="rows of pixels", low=1)
    width: int = option(8, doc="columns of pixels", low=1)
    names: tuple[str, ...] = option((), doc="names of the classes")
    marks: tuple[str, ...] = option((), doc="names of the attributes")

    def source(self, split: str) -> ArrayImages:
        """Return 192 images of a split, so that without one of two classes more than one batch of 64 remains."""
        n, noise = {"train": 192, "test": 192}[split], Noise(0, "random images", split)
        pixels = noise.integers(256, n, self.depth, self.height, self.width).to(torch.uint8)
        if self.marks:
            return ArrayImages(pixels, noise.integers(2, n, len(self.marks)), attributes=self.marks)
        return ArrayImages(pixels, torch.arange(n) % len(self.names) if self.names else None, self.names)


def random_images(images: ImageSpec) -> RandomImages:
    """Return random images with the given shape and names. The training split leaves out the last class."""
    return RandomImages(
        depth=images.channels,
        height=images.height,
        width=images.width,
        names=images.classes,
        marks=images.attributes,
        without=images.classes[-1:],
        binarize="target" if images.binary else "off",
    )


class StandIn(Extractor):
    """Replaces an extractor of the same name by tanh of a fixed random projection of the pixels.

    Arguments:
        name: name of the extractor.
        classes: number of logits.
    """

    def __init__(self, name: str, classes: int) -> None:
        self.name, self.widths = name, {"features": FEATURES, "logits": max(2, classes)}
        self.sha256 = hashlib.sha256(f"stand-in for {name}".encode()).hexdigest()

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 `(B, C, H, W)` to features and logits."""
        x = pixels.flatten(1).float() / 127.5 - 1
        return {name: self._projected(x, name, width) for name, width in self.widths.items()}

    def _projected(self, x: Tensor, name: str, width: int) -> Tensor:
        weights = Noise(0, "stand-in", name).normal(x.shape[1], width) / math.sqrt(x.shape[1])
        return (x @ weights).tanh()

    def notes(self) -> Mapping[str, str | float | bool | None]:
        """Return an accuracy, as a classifier does."""
        return {"accuracy": 0.5}


class SmallPlan(EvaluationPlan):
    """An evaluation plan that checks no weights, because stand-ins replace all extractors."""

    def _check(self, recipe: ExtractorRecipe) -> None:
        recipe.check_suited(self.images["train"])


class SmallEvaluation(Evaluation):
    """An evaluation with a stand-in for every extractor."""

    @property
    def plan(self) -> SmallPlan:
        """The plan of this evaluation, which metrics receive in `check`."""
        images = spec(self.splits["train"], self.splits.recipe)
        return SmallPlan(self.splits.images, images, self.settings, self.model.backbone, self.model.prior)

    def extractor(self, which: ExtractorRecipe | str | None = None) -> Extractor:
        """Return the stand-in for an extractor. Raises `ConfigError` if the extractor does not suit the data."""
        return _stand_in(self, self._recipe(which))


class SmallGivenImages(GivenImages):
    """An evaluation of given images with a stand-in for every extractor."""

    @property
    def plan(self) -> SmallPlan:
        """The plan of this evaluation, which metrics receive in `check`."""
        images = spec(self.splits["train"], self.splits.recipe)
        return SmallPlan(self.splits.images, images, self.settings, given=self.given)

    def extractor(self, which: ExtractorRecipe | str | None = None) -> Extractor:
        """Return the stand-in for an extractor. Raises `ConfigError` if the extractor does not suit the data."""
        return _stand_in(self, self._recipe(which))


def _stand_in(evaluation: Evaluation, recipe: ExtractorRecipe) -> Extractor:
    recipe.check_suited(evaluation.splits["train"])
    name = registry.name_of(recipe)
    return evaluation.extractors.setdefault(name, StandIn(name, len(evaluation.splits["train"].classes)))


def given_images(images: ImageSpec) -> SmallGivenImages:
    """Return an evaluation of given images, which are the test split of random images."""
    data = random_images(images)
    splits = Splits(data, {split: data.load(split) for split in SPLITS})
    settings = EvaluateSettings(samples=BLOCK, batch_size=BLOCK, metrics=())
    return SmallGivenImages(splits["test"], splits, settings, 0, torch.device("cpu"))


class GeneratorOnly(Backbone):
    """The reference backbone without its inference model."""

    def __init__(self, images: ImageSpec) -> None:
        super().__init__()
        self.whole = ReferenceBackbone(images=images)
        self.layout = self.whole.layout

    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """Map u to latents z = T(u)."""
        return self.whole.latents(u, context)

    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        """Map latents z to u = T⁻¹(z)."""
        return self.whole.invert(z, context)

    @override
    def likelihood(self, latents: Latents) -> PixelDistribution:
        return self.whole.likelihood(latents)

    @override
    def generative(self) -> tuple[torch.nn.Module, ...]:
        return self.whole.generative()


@attrs.frozen(eq=False)
class Subject:
    """A kind of evaluation that a metric or an analysis may receive.

    Arguments:
        name: name in messages.
        images: shape and names of the images.
        build: builds the backbone.
        tilted: whether a prior tilts the root.
    """

    name: str
    images: ImageSpec
    build: Callable[[], Backbone]
    tilted: bool = True

    def evaluation(
        self, metrics: Sequence[MetricRecipe] = (), samples: int = BLOCK, rows: int = BLOCK
    ) -> SmallEvaluation:
        """Return a new evaluation; repeated calls return equal ones.

        Arguments:
            metrics: metrics in its settings.
            samples: number of images to draw.
            rows: number of images per batch.
        """
        data = random_images(self.images)
        splits = Splits(data, {split: data.load(split) for split in SPLITS})
        settings = EvaluateSettings(samples=samples, batch_size=rows, metrics=tuple(metrics))
        backbone = seeded(self.build)
        prior = seeded(lambda: self._prior(backbone))
        scheme = None if isinstance(backbone, InferringBackbone) else JointMCMC(posterior_sampler=ReferenceSampler())
        return SmallEvaluation(TrainedModel(backbone, prior, scheme, rows=rows), splits, settings)

    def _prior(self, backbone: Backbone) -> PriorLearner:
        if self.tilted:
            return ReferencePrior(backbone.layout, len(self.images.classes))
        return GaussianPrior(backbone.layout)


def subjects(images: ImageSpec, backbone: Backbone | None) -> dict[str, Subject]:
    """Return the kinds of evaluations, by name.

    Arguments:
        images: description of the images.
        backbone: backbone of the kinds "full" and "root"; None for the reference backbone.
    """

    def reference() -> Backbone:
        return ReferenceBackbone(images=images) if backbone is None else copy.deepcopy(backbone)

    def contextual() -> Backbone:
        layout = attrs.evolve(ReferenceBackbone(images=images).layout, context=(1, 2, 2))
        return ReferenceBackbone(layout, images)

    plain = attrs.evolve(images, classes=(), attributes=())
    marked = attrs.evolve(images, classes=(), attributes=("x", "y"))
    made = (
        Subject(FULL, images, reference),
        Subject(ROOT, images, reference, tilted=False),
        Subject(WITHOUT_INFERENCE, images, lambda: GeneratorOnly(images)),
        Subject(WITHOUT_LABELS, plain, reference),
        Subject(WITH_ATTRIBUTES, marked, reference),
        Subject(WITH_CONTEXT, images, contextual),
    )
    return {subject.name: subject for subject in made}
