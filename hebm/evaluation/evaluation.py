"""What metrics see of a trained model: images of every kind, their features, and distances between them.

Kinds of images (`hebm.evaluation.kinds`), all decoded in one way and by one backbone:

    "data"              the reference images of the split
    "reconstruction"    the same images, inferred by the training scheme and decoded
    "gaussian"          the backbone's own prior: the root that the learned prior tilts
    ("gaussian", τ)     the same draws with u scaled by τ, the control in which nothing is learned
    "prior"             the prior in question; of a root, the draws of "gaussian" themselves

The i-th image of a kind has its own derived noise, whatever the batch size or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.config.settings import CACHE_FOLDER
from hebm.data.images import Images
from hebm.data.splits import Splits
from hebm.draws import Draw
from hebm.errors import ConfigError, DataError, NonFiniteError
from hebm.evaluation.extractors import Extractor, ExtractorContext, ExtractorRecipe, require_one
from hebm.evaluation.frechet import Moments, Reference, frechet_estimate, moments
from hebm.evaluation.jackknife import Estimate
from hebm.evaluation.kinds import DATA, GAUSSIAN, PRIOR, RECONSTRUCTION
from hebm.evaluation.references import EvenSubset
from hebm.evaluation.settings import EvaluateSettings
from hebm.evaluation.shares import Processes
from hebm.interfaces import Batch, PriorLearner
from hebm.noise import Noise
from hebm.pixel_levels import to_pixels
from hebm.trained import TrainedModel, count_nonfinite, evaluating
from hebm.walking import root_of

Kind = str | tuple[str, float]
_KEPT_BYTES = 2**30


class Evaluation:
    """A trained model with its data.

    Arguments:
        model: draws, decodes and infers.
        splits: its data set.
        settings: the `[evaluate]` table; where it names no extractor, the one that suits the data is filled in.
        processes: how several processes divide images; each computes whole batches.
        cache_folder: where extractors that were trained are kept (`run.cache_folder`).
    """

    def __init__(
        self,
        model: TrainedModel,
        splits: Splits,
        settings: EvaluateSettings,
        processes: Processes | None = None,
        cache_folder: str = CACHE_FOLDER,
    ) -> None:
        self.model, self.splits, self.settings = model, splits, settings.suited_to(splits["train"])
        self.processes, self.cache_folder = processes or Processes(), cache_folder
        self.references = EvenSubset(splits[settings.split], settings.samples)
        if len(self.references) < 2:
            raise DataError(f"evaluate.split: {settings.split!r} has {len(self.references)} images, at least 2 needed")
        self._shares: dict[Kind, list[Tensor]] = {}
        self._features: dict[tuple[Kind, str], Mapping[str, Tensor]] = {}
        self._moments: dict[tuple[Kind, str], Moments] = {}
        self._estimates: dict[tuple[Kind, str], Estimate] = {}
        self._data: dict[str, Reference] = {}
        self.extractors: dict[str, Extractor] = {}
        self._recipes: dict[str, ExtractorRecipe] = {}
        self._diagnostics: dict[int, Mapping[str, Tensor]] = {}

    def measured_on(self, samples: int) -> Evaluation:
        """Return the same evaluation on another number of images; extractors are shared."""
        if samples == self.settings.samples:
            return self
        settings = attrs.evolve(self.settings, samples=samples)  # type: ignore[misc]
        other = type(self)(self.model, self.splits, settings, self.processes, self.cache_folder)
        other.extractors, other._recipes = self.extractors, self._recipes
        return other

    # ------------------------------------------------------------ images

    @property
    def root(self) -> PriorLearner:
        """The root that the prior tilts: the backbone's own prior."""
        return root_of(self.model.prior)

    def count(self, kind: Kind) -> int:
        """Return how many images of a kind are used: of data and reconstructions no more than the split has."""
        return len(self.references) if kind in (DATA, RECONSTRUCTION) else self.settings.samples

    def noise(self, kind: Kind, start: int = 0) -> Noise:
        """Return the noise of a kind's images from number `start` on; scaled draws share that of the unscaled."""
        return self.model.noise(kind if isinstance(kind, str) else kind[0], start)

    def draw(self, kind: Kind, start: int, rows: int) -> Draw:
        """Return draws number `start` to `start + rows` of the prior, or of the root at a temperature."""
        if kind == PRIOR and self.model.prior.root is not None:
            draw = self.model.draw(rows, self.noise(kind, start))
            self._diagnostics[start] = {name: values.double().cpu() for name, values in draw.diagnostics.items()}
            return draw
        draw = self.model.draw_root(rows, self.noise(GAUSSIAN, start))
        return attrs.evolve(draw, u=kind[1] * draw.u) if isinstance(kind, tuple) else draw

    def decoded(self, kind: Kind, start: int, rows: int) -> Tensor:
        """Return images number `start` to `start + rows` of a kind, `(rows, C, H, W)`, as the model gives them."""
        if kind == DATA:
            return self.references.read(torch.arange(start, start + rows))
        noise = self.noise(kind, start)
        if kind == RECONSTRUCTION:
            return self.model.reconstructed(self.batch(self.references, start, rows), noise)
        return self.model.images(self.draw(kind, start, rows), noise)

    def diagnostics(self) -> dict[str, float]:
        """Return means of the prior's diagnostics (`Draw.diagnostics`) over the draws that this process made so far."""
        names = dict.fromkeys(name for found in self._diagnostics.values() for name in found)
        return {name: float(torch.cat([f[name] for f in self._diagnostics.values()]).mean()) for name in names}

    def draws(self, kind: Kind, n: int) -> Tensor:
        """The first n images of a kind in [−1, 1], `(n, C, H, W)`, computed by this process; for pictures."""
        size = self.settings.rows
        parts = [self.decoded(kind, start, min(size, n - start)) for start in range(0, n, size)]
        return torch.cat(parts).clamp(-1, 1)

    def pixels(self, kind: Kind) -> Tensor:
        """All images of a kind, uint8 `(N, C, H, W)`. Raises `NonFiniteError` if any is not finite."""
        return self._join(kind, self._share(kind), torch.empty((0, *self.references.shape), dtype=torch.uint8))

    def batch(self, images: Images, start: int, rows: int) -> Batch:
        """Return images of a data set as the model is shown them, on its device."""
        batches = self.splits.batches(images, self.model.seed, self.model.device, self.model.dtype)
        return batches.in_order(start, rows)

    def _share(self, kind: Kind) -> list[Tensor]:
        """Return this process's batches of pixels; they are kept while they are small."""
        if kind in self._shares:
            return self._shares[kind]
        nonfinite, share = 0, []
        for start, rows in self._batches(kind):
            images = self.decoded(kind, start, rows)
            nonfinite += count_nonfinite(images)
            share.append(to_pixels(images).cpu())
        self._refuse(kind, nonfinite)
        if sum(part.numel() for part in share) <= _KEPT_BYTES:
            self._shares[kind] = share
        return share

    def _refuse(self, kind: Kind, nonfinite: int) -> None:
        nonfinite = self.processes.total(nonfinite, self.model.device)
        if nonfinite:
            raise NonFiniteError(
                f"{nonfinite} of {self.count(kind)} images of kind {kind!r} are not finite; nothing is measured of the "
                "rest. A chain that diverges needs a smaller step size; see the energies in metrics.jsonl"
            )

    def _batches(self, kind: Kind) -> list[tuple[int, int]]:
        return self.processes.batches(self.count(kind), self.settings.rows)

    def _join(self, kind: Kind, parts: list[Tensor], empty: Tensor) -> Tensor:
        if self.processes.gather is not None:
            parts, empty = [part.to(self.model.device) for part in parts], empty.to(self.model.device)
        return self.processes.join(parts, empty, self.count(kind), self.settings.rows).cpu()

    # ------------------------------------------------------------ features and distances

    def extractor(self, which: ExtractorRecipe | str | None = None) -> Extractor:
        """Load an extractor when it is first needed.

        Arguments:
            which: a recipe, or a name (see `EvaluateSettings.extractor_called`); None for the settings' first one.

        Raises `ConfigError` if it is not suited to the data, or if two recipes of one name would be used.
        """
        recipe = self._recipe(which)
        name = require_one(self._recipes, recipe)
        if name not in self.extractors:
            cache = Path(self.cache_folder).expanduser()
            context = ExtractorContext(self.splits.images, cache, self.model.device, self.processes)
            self.extractors[name] = recipe.load(context)
        return self.extractors[name]

    @property
    def unsuited(self) -> str | None:
        """Why the settings' first extractor cannot measure these images; None if it can. Nothing is loaded."""
        try:
            self.settings.extractors[0].check(self.splits["train"])
        except ConfigError as error:
            return str(error)
        return None

    def _recipe(self, which: ExtractorRecipe | str | None) -> ExtractorRecipe:
        return self.settings.extractor_called(which) if isinstance(which, str) else which or self.settings.extractors[0]

    def features(self, kind: Kind, layer: str = "features", extractor: ExtractorRecipe | str | None = None) -> Tensor:
        """Return the features of all images of a kind, float32 `(N, F)` on the CPU."""
        model = self.extractor(extractor)
        self._extract(kind, [model])
        return self._features[kind, model.name][layer]

    def _extract(self, kind: Kind, models: Sequence[Extractor]) -> None:
        """Compute the features that are missing, all of them from the same draws."""
        missing = [model for model in models if (kind, model.name) not in self._features]
        share = self._share(kind) if missing else []
        for model in missing:
            made = [model(part) for part in share]
            self._features[kind, model.name] = {
                name: self._join(kind, [part[name].cpu() for part in made], torch.empty(0, width))
                for name, width in model.widths.items()
            }

    def distance(self, kind: Kind, extractor: ExtractorRecipe | str | None = None) -> float:
        """Return the Fréchet distance of a kind to the data, in an extractor; None for the settings' first one."""
        return self._reference(extractor).distance(self._moments_of(kind, extractor))

    def distances(self, kind: Kind) -> dict[str, Estimate]:
        """Return the Fréchet distance of a kind to the data, with its error, in each of the settings' extractors."""
        names = self.settings.extractor_names
        models = [self.extractor(name) for name in names]
        for measured in (DATA, kind):
            self._extract(measured, models)
        return {name: self._estimate(kind, name) for name in names}

    def _estimate(self, kind: Kind, extractor: str) -> Estimate:
        key = kind, self.extractor(extractor).name
        if key not in self._estimates:
            features, found = self.features(kind, extractor=extractor), self._moments_of(kind, extractor)
            self._estimates[key] = frechet_estimate(features, self._reference(extractor), found)
        return self._estimates[key]

    def _reference(self, extractor: ExtractorRecipe | str | None) -> Reference:
        name = self.extractor(extractor).name
        if name not in self._data:
            self._data[name] = Reference(self.features(DATA, extractor=extractor))
        return self._data[name]

    def forget(self, kind: Kind) -> None:
        """Free the memory of what is kept of a kind; it is computed again when it is asked for."""
        self._shares.pop(kind, None)
        self._features = {key: found for key, found in self._features.items() if key[0] != kind}
        self._moments = {key: found for key, found in self._moments.items() if key[0] != kind}
        self._estimates = {key: found for key, found in self._estimates.items() if key[0] != kind}
        self._data = {} if kind == DATA else self._data

    def _moments_of(self, kind: Kind, extractor: ExtractorRecipe | str | None) -> Moments:
        key = kind, self.extractor(extractor).name
        if key not in self._moments:
            self._moments[key] = moments(self.features(kind, extractor=extractor))
        return self._moments[key]

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
        whole = self.splits[split]
        images = EvenSubset(whole, len(whole) if most is None else most)
        parts = []
        with evaluating(self.model.backbone, self.model.prior):
            for start, rows in self.processes.batches(len(images), self.settings.rows):
                noise = self.noise("per-image", start).derive(split)
                parts.append(score(self.batch(images, start, rows), noise).double())
        empty = torch.empty(0, *shape, dtype=torch.float64, device=self.model.device)
        return self.processes.join(parts, empty, len(images), self.settings.rows).cpu()
