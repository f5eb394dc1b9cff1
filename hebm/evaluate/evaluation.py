"""What metrics see of a trained model: images of every kind, their features, and distances between them.

Kinds of images, all decoded in one way and by one backbone:

    "data"              the reference images of the split
    "reconstruction"    the same images, inferred by the training scheme and decoded
    "gaussian"          the backbone's own prior: the root that the learned prior tilts
    ("gaussian", τ)     the same draws with u scaled by τ, the control in which nothing is learned
    "prior"             the prior in question; of a root, the draws of "gaussian" themselves

The i-th image of a kind has its own derived noise, whatever the batch size or the number of processes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.config.settings import CACHE_FOLDER
from hebm.data.batches import Batches
from hebm.data.images import Images
from hebm.data.recipe import DatasetRecipe
from hebm.errors import ConfigError, DataError, NonFiniteError
from hebm.evaluate.extractors import Extractor, ExtractorContext, ExtractorRecipe, require_one
from hebm.evaluate.frechet import Moments, frechet_distance, moments
from hebm.evaluate.references import EvenSubset, to_pixels
from hebm.evaluate.settings import EvaluateSettings
from hebm.evaluate.shares import Gather, Processes
from hebm.interfaces import Backbone, Batch, Draw, PriorLearner, Request
from hebm.latents import Latents
from hebm.noise import Noise
from hebm.training.phases import SchemeRecipe

Kind = str | tuple[str, float]
_KEPT_BYTES = 2**30


class Evaluation:
    """A trained model beside its data.

    Arguments:
        backbone, prior: on `device`; used in eval mode, put back as they were.
        scheme: how latents of given images are inferred.
        recipe: the data set's, for how batches are made.
        images: splits "train" and "test".
        settings: the `[evaluate]` table.
        seed: of the run.
        device: where to compute.
        world, rank, gather: for several processes, see `Processes`; each computes whole batches.
        cache_folder: where extractors that were trained are kept (`run.cache_folder`).
    """

    def __init__(
        self,
        backbone: Backbone,
        prior: PriorLearner,
        scheme: SchemeRecipe,
        recipe: DatasetRecipe,
        images: Mapping[str, Images],
        settings: EvaluateSettings,
        seed: int = 0,
        device: torch.device | str = "cpu",
        world: int = 1,
        rank: int = 0,
        gather: Gather | None = None,
        cache_folder: str = CACHE_FOLDER,
    ) -> None:
        self.backbone, self.prior, self.scheme, self.recipe = backbone, prior, scheme, recipe
        self.images, self.settings, self.seed, self.device = images, settings, seed, torch.device(device)
        self.processes, self.cache_folder = Processes(world, rank, gather), cache_folder
        self.references = EvenSubset(images[settings.split], settings.samples)
        if len(self.references) < 2:
            raise DataError(f"evaluate.split: {settings.split!r} has {len(self.references)} images, at least 2 needed")
        self._shares: dict[Kind, list[Tensor]] = {}
        self._features: dict[tuple[Kind, str], Mapping[str, Tensor]] = {}
        self._moments: dict[Kind, Moments] = {}
        self.extractors: dict[str, Extractor] = {}
        self._recipes: dict[str, ExtractorRecipe] = {}
        self._figures: dict[int, Mapping[str, Tensor]] = {}

    def beside(self, prior: PriorLearner | None = None, samples: int | None = None) -> Evaluation:
        """The same model and data with another prior on the same root, or measured on another number of images.

        Extractors are shared, and all figures that do not change; reconstructions may, where latents are inferred under
        the prior.
        """
        other = copy.copy(self)
        other.prior, changed = prior or self.prior, samples not in (None, self.settings.samples)
        anew = {"prior", "reconstruction"} if prior is not None else {"prior"}
        if changed:
            other.settings = attrs.evolve(self.settings, samples=samples)  # type: ignore[misc]
            other.references = EvenSubset(self.images[self.settings.split], other.settings.samples)
        other._shares = {k: v for k, v in self._shares.items() if k not in anew and not changed}
        other._features = {k: v for k, v in self._features.items() if k[0] not in anew and not changed}
        other._moments = {k: v for k, v in self._moments.items() if k not in anew and not changed}
        other._figures = {}
        return other

    # ------------------------------------------------------------ images

    @property
    def root(self) -> PriorLearner:
        """The prior at the bottom of the tilts: the backbone's own."""
        prior = self.prior
        while prior.base is not None:
            prior = prior.base
        return prior

    @cached_property
    def generator(self) -> Backbone:
        """The backbone's folded copy, which is equal: what chains and decoding run on."""
        with evaluating(self.backbone):
            return self.backbone.folded()

    def count(self, kind: Kind) -> int:
        """How many images of a kind are used: for data and reconstructions no more than the split has."""
        return len(self.references) if kind in ("data", "reconstruction") else self.settings.samples

    def noise(self, kind: Kind, start: int = 0) -> Noise:
        """The noise of a kind's images from number `start` on; scaled draws share that of the unscaled."""
        name = kind if isinstance(kind, str) else kind[0]
        return Noise(self.seed, "sample", name, start=start, device=self.device, dtype=self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        parameter = next(self.backbone.parameters(), None)
        return torch.float32 if parameter is None else parameter.dtype

    def latents(self, kind: Kind, start: int, rows: int) -> Latents:
        """Latents number `start` to `start + rows` of any kind but "data"."""
        with evaluating(self.backbone, self.prior):
            if kind == "reconstruction":
                batch = self.batch(self.references, start, rows)
                return self.scheme.posterior(self.backbone, self.prior, batch, self.noise(kind, start)).latents
            draw = self._draw(kind, start, rows)
            return self.generator.latents(draw.u, draw.context)

    def _draw(self, kind: Kind, start: int, rows: int) -> Draw:
        if kind == "prior" and self.prior.base is not None:
            steps = self.settings.chain_steps
            drawn = self.prior.sample(self.generator, rows, self.noise(kind, start), Request(steps=steps))
            self._figures[start] = {name: figure.double().cpu() for name, figure in drawn.figures.items()}
            return drawn
        scale = kind[1] if isinstance(kind, tuple) else 1.0
        draw = self.root.sample(self.generator, rows, self.noise("gaussian", start))
        return draw if scale == 1 else Draw(scale * draw.u, draw.context)

    def decoded(self, kind: Kind, start: int, rows: int) -> Tensor:
        """Images number `start` to `start + rows` of a kind, `(rows, C, H, W)`, as the model gives them."""
        if kind == "data":
            return self.references.read(torch.arange(start, start + rows))
        with evaluating(self.backbone, self.prior):
            decoder = self.backbone if kind == "reconstruction" else self.generator
            likelihood = decoder.likelihood(self.latents(kind, start, rows))
            if self.settings.decode == "mean":
                return likelihood.mean
            draw = getattr(likelihood, "draw", None)
            if draw is None:
                raise ConfigError(
                    f'evaluate.decode: {type(likelihood).__name__} has no draw(noise); use decode = "mean"'
                )
            sample: Tensor = draw(self.noise(kind, start).derive("decode"))
            return sample

    def drawing(self) -> dict[str, float]:
        """Means of what the prior says of its draws (`Draw.figures`), over those that this process made so far."""
        names = dict.fromkeys(name for figures in self._figures.values() for name in figures)
        return {name: float(torch.cat([f[name] for f in self._figures.values()]).mean()) for name in names}

    def draws(self, kind: Kind, n: int) -> Tensor:
        """The first n images of a kind in [−1, 1], `(n, C, H, W)`, computed by this process; for pictures."""
        size = self.settings.rows
        parts = [self.decoded(kind, start, min(size, n - start)) for start in range(0, n, size)]
        return torch.cat(parts).clamp(-1, 1)

    def pixels(self, kind: Kind) -> Tensor:
        """All images of a kind, uint8 `(N, C, H, W)`. Raises `NonFiniteError` if any is not finite."""
        return self._join(kind, self._share(kind), torch.empty((0, *self.references.shape), dtype=torch.uint8))

    def batch(self, images: Images, start: int, rows: int) -> Batch:
        """Images of a data set as the model is shown them, on its device."""
        batches = Batches(images, self.recipe, self.seed, training=False, device=self.device, dtype=self._dtype)
        return batches.in_order(start, rows)

    def _share(self, kind: Kind) -> list[Tensor]:
        """This process's batches of pixels; kept while they are small."""
        if kind in self._shares:
            return self._shares[kind]
        nonfinite, share = 0, []
        for start, rows in self._batches(kind):
            images = self.decoded(kind, start, rows)
            nonfinite += int((~images.flatten(1).isfinite().all(1)).sum())
            share.append(to_pixels(images).cpu())
        self._refuse(kind, nonfinite)
        if isinstance(kind, str) and sum(part.numel() for part in share) <= _KEPT_BYTES:
            self._shares[kind] = share
        return share

    def _refuse(self, kind: Kind, nonfinite: int) -> None:
        nonfinite = self.processes.total(nonfinite, self.device)
        if nonfinite:
            raise NonFiniteError(
                f"{nonfinite} of {self.count(kind)} images of kind {kind!r} are not finite; nothing is measured of the "
                "rest. A chain that diverges needs a smaller step size; see the energies in metrics.jsonl"
            )

    def _batches(self, kind: Kind) -> list[tuple[int, int]]:
        return self.processes.batches(self.count(kind), self.settings.rows)

    def _join(self, kind: Kind, parts: list[Tensor], empty: Tensor) -> Tensor:
        if self.processes.gather is not None:
            parts, empty = [part.to(self.device) for part in parts], empty.to(self.device)
        return self.processes.join(parts, empty, self.count(kind), self.settings.rows).cpu()

    # ------------------------------------------------------------ features and distances

    def extractor(self, which: ExtractorRecipe | str | None = None) -> Extractor:
        """Load an extractor when it is first needed.

        Arguments:
            which: a recipe, or a name (see `EvaluateSettings.extractor_called`); None for the settings' own.

        Raises `ConfigError` if it is not suited to the data, or if two recipes of one name would be used.
        """
        recipe = self.settings.extractor_called(which) if isinstance(which, str) else which or self.settings.extractor
        name = require_one(self._recipes, recipe)
        if name not in self.extractors:
            cache = Path(self.cache_folder).expanduser()
            self.extractors[name] = recipe.load(ExtractorContext(self.images, cache, self.device, self.processes))
        return self.extractors[name]

    def features(self, kind: Kind, layer: str = "features", extractor: ExtractorRecipe | str | None = None) -> Tensor:
        """Return the features of all images of a kind, float32 `(N, F)` on the CPU."""
        model = self.extractor(extractor)
        key = (kind, model.name)
        if key not in self._features:
            made = [model(part) for part in self._share(kind)]
            found = {
                name: self._join(kind, [part[name].cpu() for part in made], torch.empty(0, width))
                for name, width in model.widths.items()
            }
            if not isinstance(kind, str):
                return found[layer]
            self._features[key] = found
        return self._features[key][layer]

    def distance(self, kind: Kind) -> float:
        """The Fréchet distance of a kind to "data", in the settings' extractor."""
        return frechet_distance(self._moments_of(kind), self._moments_of("data"))

    def _moments_of(self, kind: Kind) -> Moments:
        if kind not in self._moments:
            self._moments[kind] = moments(self.features(kind))
        return self._moments[kind]

    # ------------------------------------------------------------ figures per image

    def per_image(
        self,
        split: str,
        score: Callable[[Batch, Noise], Tensor],
        most: int | None = None,
        shape: tuple[int, ...] = (),
    ) -> Tensor:
        """A score of each image of a split, float64 `(N, *shape)`, in order.

        Arguments:
            split: "train" or "test".
            score: of a batch and its noise, `(B, *shape)`.
            most: how many images at most, evenly spread.
            shape: of one image's score.
        """
        whole = self.images[split]
        images = EvenSubset(whole, len(whole) if most is None else most)
        parts = []
        with evaluating(self.backbone, self.prior):
            for start, rows in self.processes.batches(len(images), self.settings.rows):
                noise = self.noise("per-image", start).derive(split)
                parts.append(score(self.batch(images, start, rows), noise).double())
        empty = torch.empty(0, *shape, dtype=torch.float64, device=self.device)
        return self.processes.join(parts, empty, len(images), self.settings.rows).cpu()


@contextmanager
def evaluating(*modules: torch.nn.Module) -> Iterator[None]:
    """Inside, modules are in eval mode and no graph is kept; afterwards each part is as it was."""
    training = [part for module in modules for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True
