"""Produce images of every kind by drawing, inferring and decoding with a trained model.

All kinds (`hebm.evaluation.kinds`) are decoded in the same way by the same backbone:

    "data"              the reference images of the split
    "reconstruction"    the same images, inferred by the training scheme and decoded
    "gaussian"          draws of the backbone's own prior, the root that the learned prior tilts
    ("gaussian", τ)     the same draws with u scaled by τ: the control, in which nothing is learned
    "prior"             draws of the learned prior; if the prior is a root, the draws of "gaussian"

The noise of the i-th image of a kind does not depend on the batch size or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.data.splits import Splits
from hebm.draws import Draw
from hebm.errors import DataError, NonFiniteError
from hebm.evaluation.kinds import DATA, GAUSSIAN, PRIOR, RECONSTRUCTION
from hebm.evaluation.references import EvenSubset
from hebm.evaluation.settings import EvaluateSettings
from hebm.evaluation.shares import Processes
from hebm.interfaces import Batch, PriorLearner
from hebm.noise import Noise
from hebm.pixel_levels import to_pixels
from hebm.trained import TrainedModel, evaluating
from hebm.training.listeners import Listener, counted
from hebm.walking import root_of

Kind = str | tuple[str, float]
Span = tuple[int, int]
"""First row and number of rows of a batch."""
_KEPT_BYTES = 2**30


class PixelBatch(NamedTuple):
    """A batch of images in the form that metrics read.

    Arguments:
        pixels: the images, uint8 `(B, C, H, W)`.
        finite: whether each image was finite before it became pixels, `(B,)`.
        diagnostics: diagnostics of each draw of a learned prior by name, float64 `(B,)`.
    """

    pixels: Tensor
    finite: Tensor
    diagnostics: Mapping[str, Tensor]


class DrawnImages:
    """Produces the images of a trained model.

    Arguments:
        model: the trained model.
        splits: the splits of its data set.
        settings: the `[evaluate]` table; without extractors, the default one for the data is filled in.
        processes: how several processes divide images; each computes whole batches.
        listener: a listener that is called with the number of finished images.

    Attributes:
        kinds: the kinds of images to compare with the data.
    """

    kinds: tuple[str, ...] = (GAUSSIAN, PRIOR, RECONSTRUCTION)

    def __init__(
        self,
        model: TrainedModel,
        splits: Splits,
        settings: EvaluateSettings,
        processes: Processes | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.model, self.splits, self.settings = model, splits, settings.suited_to(splits["train"])
        self.processes, self.listener = processes or Processes(), listener or Listener()
        self.references = EvenSubset(splits[settings.split], settings.samples)
        if len(self.references) < 2:
            raise DataError(f"evaluate.split: {settings.split!r} has {len(self.references)} images; needs at least 2")
        self._drawn: dict[Kind, dict[Span, PixelBatch]] = {}
        self._diagnostics: dict[int, Mapping[str, Tensor]] = {}

    @property
    def rows(self) -> int:
        """The number of images in a batch."""
        return self.model.rows

    @property
    def root(self) -> PriorLearner:
        """The root that the prior tilts: the backbone's own prior."""
        return root_of(self.model.prior)

    def count(self, kind: Kind) -> int:
        """Return the number of images of a kind. Data and reconstructions are limited by the size of the split."""
        return len(self.references) if kind in (DATA, RECONSTRUCTION) else self.settings.samples

    @property
    def fewest(self) -> int:
        """The smallest number of images of any kind, including the data."""
        return min(self.count(kind) for kind in (DATA, *self.kinds))

    def conditions(self) -> dict[str, Any]:
        """Return the conditions of the images that are compared with the data, for the results."""
        settings = self.settings
        return {
            "n": settings.samples,
            "decode": settings.decode,
            "chain_steps": settings.chain_steps,
            "start_proposals": settings.start_proposals,
            "after": settings.after,
        }

    def noise(self, kind: Kind, start: int = 0) -> Noise:
        """Return the noise of a kind's images from number `start` on. Scaled draws share the noise of unscaled ones."""
        return self.model.noise(kind if isinstance(kind, str) else kind[0], start)

    # ------------------------------------------------------------ a batch

    def draw(self, kind: Kind, start: int, rows: int) -> Draw:
        """Return draws `start` … `start + rows − 1` of the prior, or of the root at a temperature."""
        if kind == PRIOR and self.model.prior.root is not None:
            draw = self.model.draw(rows, self.noise(kind, start))
            self._diagnostics[start] = {name: values.double().cpu() for name, values in draw.diagnostics.items()}
            return draw
        draw = self.model.draw_root(rows, self.noise(GAUSSIAN, start))
        return attrs.evolve(draw, u=kind[1] * draw.u) if isinstance(kind, tuple) else draw

    def decoded(self, kind: Kind, start: int, rows: int) -> Tensor:
        """Return images `start` … `start + rows − 1` of a kind, `(rows, C, H, W)`, without rounding to pixels."""
        if kind == DATA:
            return self.references.read(torch.arange(start, start + rows))
        noise = self.noise(kind, start)
        if kind == RECONSTRUCTION:
            return self.model.reconstructed(self.batch(self.references, start, rows), noise)
        return self.model.images(self.draw(kind, start, rows), noise)

    def batch(self, images: Images, start: int, rows: int) -> Batch:
        """Return images of a data set as a batch for the model, on its device."""
        batches = self.splits.batches(images, self.model.seed, self.model.device, self.model.dtype)
        return batches.in_order(start, rows)

    def pixel_batch(self, kind: Kind, start: int, rows: int) -> PixelBatch:
        """Return a batch of images. All batches of a kind stay in memory if together they take at most 1 GiB."""
        kept = self._drawn.setdefault(kind, {})
        span = start, rows
        if span not in kept:
            images = self.decoded(kind, start, rows)
            finite = images.flatten(1).isfinite().all(1).cpu()
            drawn = self._diagnostics.get(start, {}) if kind == PRIOR else {}
            if images[0].numel() * self.count(kind) > _KEPT_BYTES:
                kept.clear()
            kept[span] = PixelBatch(to_pixels(images).cpu(), finite, drawn)
        return kept[span]

    # ------------------------------------------------------------ all images

    def draws(self, kind: Kind, n: int) -> Tensor:
        """Return the first n images of a kind in [−1, 1], `(n, C, H, W)`, computed by this process; for pictures."""
        size = self.rows
        parts = [self.decoded(kind, start, min(size, n - start)) for start in range(0, n, size)]
        return torch.cat(parts).clamp(-1, 1)

    def pixels(self, kind: Kind) -> Tensor:
        """Return all images of a kind, uint8 `(N, C, H, W)`. Raises `NonFiniteError` if any is not finite."""
        batches = [self.pixel_batch(kind, *span) for span in self.batches(title_of(kind), self.count(kind))]
        self._require_finite(kind, [batch.finite for batch in batches])
        empty = torch.empty((0, *self.references.shape), dtype=torch.uint8)
        return self._join(kind, [batch.pixels for batch in batches], empty)

    def diagnostics(self) -> dict[str, float]:
        """Return means of the prior's diagnostics (`Draw.diagnostics`) over the draws of this process."""
        names = dict.fromkeys(name for found in self._diagnostics.values() for name in found)
        return {name: float(torch.cat([f[name] for f in self._diagnostics.values()]).mean()) for name in names}

    def batches(self, what: str, n: int) -> Iterator[Span]:
        """Yield this process's batches of n images one after another, and report progress to the listener.

        Arguments:
            what: name of the images or scores being computed, for the listener.
            n: number of images of all processes.
        """
        return counted(what, self.processes.batches(n, self.rows), self.listener)

    def _require_finite(self, kind: Kind, finite: Sequence[Tensor]) -> None:
        """Raise `NonFiniteError` on every process if an image of any process is not finite."""
        nonfinite = self.processes.total(sum(int((~rows).sum()) for rows in finite), self.model.device)
        if nonfinite:
            raise NonFiniteError(
                f"{nonfinite} of {self.count(kind)} images of kind {kind!r} are not finite, so none are measured. "
                "Lower the step size if a chain diverges; see the energies in metrics.jsonl"
            )

    def _join(self, kind: Kind, parts: list[Tensor], empty: Tensor) -> Tensor:
        if self.processes.gather is not None:
            parts, empty = [part.to(self.model.device) for part in parts], empty.to(self.model.device)
        return self.processes.join(parts, empty, self.count(kind), self.rows).cpu()

    # ------------------------------------------------------------ scores per image

    def per_image(
        self,
        split: str,
        score: Callable[[Batch, Noise], Tensor],
        most: int | None = None,
        shape: tuple[int, ...] = (),
    ) -> Tensor:
        """Return a score of each image of a split, float64 `(N, *shape)`, in order.

        Arguments:
            split: "train" or "test".
            score: maps a batch and its noise to scores `(B, *shape)`.
            most: largest number of images, evenly spaced; None for all.
            shape: shape of one image's score.
        """
        whole = self.splits[split]
        images = EvenSubset(whole, len(whole) if most is None else most)
        parts = []
        with evaluating(self.model.backbone, self.model.prior):
            for start, rows in self.batches(f"scores of {split}", len(images)):
                noise = self.noise("per-image", start).derive(split)
                parts.append(score(self.batch(images, start, rows), noise).double())
        empty = torch.empty(0, *shape, dtype=torch.float64, device=self.model.device)
        return self.processes.join(parts, empty, len(images), self.rows).cpu()


def title_of(kind: Kind) -> str:
    """Return the name of a kind in messages."""
    return kind if isinstance(kind, str) else f"{kind[0]} at temperature {kind[1]:.4g}"
