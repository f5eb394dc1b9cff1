"""The evaluation that metrics receive: images (`hebm.evaluation.drawn_images`), their features, and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.config.paths import expanded
from hebm.config.settings import CACHE_FOLDER
from hebm.data.splits import Splits
from hebm.errors import ConfigError
from hebm.evaluation.drawn_images import DrawnImages, Kind, Span, title_of
from hebm.evaluation.extractors import Extractor, ExtractorContext, ExtractorRecipe, require_one
from hebm.evaluation.frechet import Moments, Reference, frechet_estimate, moments
from hebm.evaluation.illustration import Illustration
from hebm.evaluation.image_identity import ImageIdentity, ImageSources
from hebm.evaluation.jackknife import Estimate
from hebm.evaluation.kept_features import FeatureBatch, FeatureStore, KeptFeatures
from hebm.evaluation.kinds import DATA, PRIOR
from hebm.evaluation.settings import EvaluateSettings
from hebm.evaluation.shares import Processes
from hebm.trained import TrainedModel
from hebm.training.listeners import Listener, counted


class Evaluation(DrawnImages):
    """Provides a trained model's images, their features and Fréchet distances to metrics.

    Arguments:
        model: the trained model.
        splits: the splits of its data set.
        settings: the `[evaluate]` table; without extractors, the default one for the data is filled in.
        processes: how several processes divide images; each computes whole batches.
        cache_folder: folder of trained extractors (`run.cache_folder`).
        store: store of features; None keeps them only in memory.
        sources: what images depend on besides weights; needed if there is a store.
        listener: a listener that is called with the number of finished images.
    """

    def __init__(
        self,
        model: TrainedModel,
        splits: Splits,
        settings: EvaluateSettings,
        processes: Processes | None = None,
        cache_folder: str = CACHE_FOLDER,
        store: FeatureStore | None = None,
        sources: ImageSources | None = None,
        listener: Listener | None = None,
    ) -> None:
        super().__init__(model, splits, settings, processes, listener)
        self.cache_folder, self.store, self.sources = cache_folder, store, sources or ImageSources()
        self._identity = ImageIdentity(model, self.references, splits.recipe.binarize, self.sources)
        self._features: dict[tuple[Kind, str], Mapping[str, Tensor]] = {}
        self._moments: dict[tuple[Kind, str], Moments] = {}
        self._estimates: dict[tuple[Kind, str], Estimate] = {}
        self._data: dict[str, Reference] = {}
        self.extractors: dict[str, Extractor] = {}
        self._recipes: dict[str, ExtractorRecipe] = {}
        self.illustrations: dict[str, Illustration] = {}

    def show(self, name: str, illustration: Illustration) -> None:
        """Show images on the page of the run, below its samples.

        Arguments:
            name: file name in lower case; a second illustration of the same name replaces the first.
            illustration: the images with title and caption.
        """
        self.illustrations[name] = illustration

    def measured_on(self, samples: int) -> Evaluation:
        """Return the same evaluation on another number of images. The two share extractors."""
        if samples == self.settings.samples:
            return self
        settings = attrs.evolve(self.settings, samples=samples)  # type: ignore[misc]
        shared = self.processes, self.cache_folder, self.store, self.sources, self.listener
        other = type(self)(self.model, self.splits, settings, *shared)
        other.extractors, other._recipes = self.extractors, self._recipes
        return other

    # ------------------------------------------------------------ extractors

    def extractor(self, which: ExtractorRecipe | str | None = None) -> Extractor:
        """Return an extractor, loaded on first use.

        Arguments:
            which: a recipe, or a name (see `EvaluateSettings.extractor_called`); None for the first of the settings.

        Raises `ConfigError` if it does not suit the data, or if another recipe of the same name is in use.
        """
        recipe = self._recipe(which)
        name = require_one(self._recipes, recipe)
        if name not in self.extractors:
            self.extractors[name] = recipe.load(self._context)
        return self.extractors[name]

    def has_extractor(self, which: ExtractorRecipe | str | None = None) -> bool:
        """Return whether an extractor can be loaded without training it first."""
        return self._recipe(which).is_ready(self._context)

    @property
    def _context(self) -> ExtractorContext:
        cache = Path(expanded(self.cache_folder))
        return ExtractorContext(self.splits.images, cache, self.model.device, self.processes, self.listener.said)

    @property
    def unsuited(self) -> str | None:
        """The reason why the first extractor of the settings does not suit these images, or None. Loads nothing."""
        try:
            self.settings.extractors[0].check(self.splits["train"])
        except ConfigError as error:
            return str(error)
        return None

    def _recipe(self, which: ExtractorRecipe | str | None) -> ExtractorRecipe:
        return self.settings.extractor_called(which) if isinstance(which, str) else which or self.settings.extractors[0]

    # ------------------------------------------------------------ features

    def features(self, kind: Kind, layer: str = "features", extractor: ExtractorRecipe | str | None = None) -> Tensor:
        """Return the features of all images of a kind, float32 `(N, F)` on the CPU."""
        model = self.extractor(extractor)
        self._extract(kind, [model])
        return self._features[kind, model.name][layer]

    def _extract(self, kind: Kind, models: Sequence[Extractor]) -> None:
        """Compute the missing features of all extractors from the same draws."""
        missing = [model for model in models if (kind, model.name) not in self._features]
        found = self._completed(kind, missing) if missing else {}
        for model in missing:
            made = found[model.name]
            self._require_finite(kind, [batch.finite for batch in made])
            self._features[kind, model.name] = {
                name: self._join(kind, [batch.features[name] for batch in made], torch.empty(0, width))
                for name, width in model.widths.items()
            }

    def _completed(self, kind: Kind, models: Sequence[Extractor]) -> dict[str, list[FeatureBatch]]:
        """Return this process's batches of features by extractor. Stored batches are read, the others computed."""
        spans = self.processes.batches(self.count(kind), self.rows)
        kept = {model.name: self._kept(kind, model) for model in models}
        found: dict[tuple[str, Span], FeatureBatch] = {}
        for name, batches in kept.items():
            found |= {(name, span): batch for span in spans if batches and (batch := batches.read(*span)) is not None}
        lacking = [span for span in spans if any((name, span) not in found for name in kept)]
        for span in counted(title_of(kind), lacking, self.listener, sum(rows for _, rows in spans)):
            for model in models:
                if (model.name, span) not in found:
                    found[model.name, span] = self._extracted(kind, model, span, kept[model.name])
        if kind == PRIOR:
            self._diagnostics |= {span[0]: batch.diagnostics for (_, span), batch in found.items()}
        return {name: [found[name, span] for span in spans] for name in kept}

    def _extracted(self, kind: Kind, model: Extractor, span: Span, kept: KeptFeatures | None) -> FeatureBatch:
        """Compute the features of a batch, and store them."""
        drawn = self.pixel_batch(kind, *span)
        features = {name: values.cpu() for name, values in model(drawn.pixels).items()}
        made = FeatureBatch(features, drawn.finite, drawn.diagnostics)
        if kept is not None:
            kept.write(*span, made)
        return made

    def _kept(self, kind: Kind, model: Extractor) -> KeptFeatures | None:
        """Return the stored features of a kind, keyed by everything that they depend on; None without a store."""
        if self.store is None:
            return None
        identity = self._identity.of(kind)
        name = f"{identity['kind']}-{model.name}"
        return self.store.of(name, {**identity, "extractor": [model.name, model.sha256]})

    def forget(self, kind: Kind) -> None:
        """Free the memory of a kind's images and features. They are read or computed again on the next use."""
        self._drawn.pop(kind, None)
        self._features = {key: found for key, found in self._features.items() if key[0] != kind}
        self._moments = {key: found for key, found in self._moments.items() if key[0] != kind}
        self._estimates = {key: found for key, found in self._estimates.items() if key[0] != kind}
        self._data = {} if kind == DATA else self._data

    # ------------------------------------------------------------ distances

    def distance(self, kind: Kind, extractor: ExtractorRecipe | str | None = None) -> float:
        """Return the Fréchet distance of a kind to the data in the features of an extractor (None for the first)."""
        model = self.extractor(extractor)
        return self._reference(model).distance(self._moments_of(kind, model))

    def estimate(self, kind: Kind, extractor: ExtractorRecipe | str | None = None) -> Estimate:
        """Return the Fréchet distance as `distance` does, with its error."""
        model = self.extractor(extractor)
        self._extract(kind, [model])
        return self._estimate(kind, model)

    def distances(self, kind: Kind) -> dict[str, Estimate]:
        """Return the Fréchet distance of a kind to the data, with its error, in each extractor of the settings."""
        names = self.settings.extractor_names
        models = [self.extractor(name) for name in names]
        for measured in (DATA, kind):
            self._extract(measured, models)
        return {name: self._estimate(kind, model) for name, model in zip(names, models, strict=True)}

    def _estimate(self, kind: Kind, model: Extractor) -> Estimate:
        key = kind, model.name
        if key not in self._estimates:
            features, found = self._features[key]["features"], self._moments_of(kind, model)
            self._estimates[key] = frechet_estimate(features, self._reference(model), found)
        return self._estimates[key]

    def _reference(self, model: Extractor) -> Reference:
        if model.name not in self._data:
            self._extract(DATA, [model])
            self._data[model.name] = Reference(self._features[DATA, model.name]["features"])
        return self._data[model.name]

    def _moments_of(self, kind: Kind, model: Extractor) -> Moments:
        """Return the moments of a kind in an extractor, read from the store or computed from its features."""
        key = kind, model.name
        if key not in self._moments and (kept := self._kept_moments(kind, model)) is not None:
            self._moments[key] = kept
        if key not in self._moments:
            self._extract(kind, [model])
            self._moments[key] = moments(self._features[key]["features"])
            store = self._kept_with_moments(kind, model)
            if store is not None and self.processes.rank == 0:
                store.write_moments(self.count(kind), self.rows, self._moments[key])
        return self._moments[key]

    def _kept_moments(self, kind: Kind, model: Extractor) -> Moments | None:
        """Return stored moments if every process finds them, or else None."""
        kept = self._kept_with_moments(kind, model)
        if kept is None:
            return None
        found = kept.read_moments(self.count(kind), self.rows)
        return (
            found if self.processes.total(int(found is not None), self.model.device) == self.processes.world else None
        )

    def _kept_with_moments(self, kind: Kind, model: Extractor) -> KeptFeatures | None:
        """Return the store of moments; None for the learned prior, whose diagnostics are stored with its features."""
        return None if kind == PRIOR else self._kept(kind, model)
