"""Score a user's images with a trained run, and compare them with the scores of the run's test images.

The percentile of a score s among the scores t of M test images is

    P(s) = 100 · (#{t < s} + ½ #{t = s}) / M

A low percentile is unusual: an image with P = 2 is less similar to the training data than 98 % of the test images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.data.stored_pixels import storing_pixels
from hebm.model import Model
from hebm.noise import whole_blocks
from hebm.outputs.identity import identified
from hebm.runs import Run
from hebm.store.cached_tensors import read_cached, write_cached
from hebm.training.listeners import Listener

_SEED = 0
"""The seed of posterior draws of test images; it is fixed, so that all users get the same percentiles."""
PERCENTILE = "percentile_low_is_unusual"
"""The name of the column with the percentile of the total score."""


@attrs.frozen
class Scoring:
    """A model and settings for scoring images.

    Arguments:
        run: the run of the model.
        model: the model, on the device that computes.
        draws: number of posterior draws that a score averages over.
        batch_size: images at a time, rounded down to whole noise blocks; by default the model's.
    """

    run: Run
    model: Model
    draws: int = 1
    batch_size: int = attrs.field(
        default=attrs.Factory(lambda self: self.model.default_batch_size, takes_self=True), converter=whole_blocks
    )

    def require_tilt(self) -> None:
        """Raise `ConfigError` for a prior without a tilt, since it cannot score."""
        self.model.require_tilt()

    def identity(self) -> dict[str, Any]:
        """Return everything that scores depend on besides images and seed, by the names used in messages."""
        found = identified(self.model, self.run.stored.identity)
        return {**found, "draws": self.draws, "batch size": self.batch_size}

    def batches(self, images: Images, seed: int, start: int = 0) -> Iterator[Tensor]:
        """Return an iterator over the scores of batches, float64 `(B, E)`: the total, then the sum above each layer."""
        found = self.model.score_batches(images, seed, start, draws=self.draws, batch_size=self.batch_size)
        return (scores.above for scores in found)

    @property
    def _kept(self) -> Path:
        """The file with the scores of test images. Its name is a hash of everything that they depend on."""
        decides = {
            name: value for name, value in self.identity().items() if name != "batch size"
        }  # it changes only rounding
        key = json.dumps([decides, self.run.stored.manifest.get("data")], sort_keys=True)
        name = f"test-scores-{hashlib.sha256(key.encode()).hexdigest()[:20]}.safetensors"
        return self.run.stored.folder.cache / name

    def test_images(self) -> Images | None:
        """Return the run's test images; None if their scores are cached. Raises `DataError` if they cannot be read."""
        return self._load_test_images() if read_cached(self._kept) is None else None

    def _load_test_images(self) -> Images:
        experiment = self.run.experiment
        with storing_pixels(experiment.run):
            return experiment.data.load("test")

    def of_test_images(self, listener: Listener, images: Images | None = None) -> Tensor:
        """Return the scores of the run's test images, float64 `(M, E)` with sorted columns. They are cached.

        Arguments:
            listener: receives the number of images done.
            images: the test images, if they were loaded already.

        Raises `DataError` if they cannot be read.
        """
        path = self._kept
        if (kept := read_cached(path)) is not None:
            return kept[0]["scores"].clone()  # not a view of the file
        loaded = images or self._load_test_images()
        found = self._scored(loaded, listener).sort(0).values
        write_cached(path, {"scores": found})
        return found

    def _scored(self, images: Images, listener: Listener) -> Tensor:
        total, parts, done = len(images), list[Tensor](), 0
        listener.counted("test images", 0, total)
        for part in self.batches(images, _SEED):
            parts.append(part.cpu())
            done += len(part)
            listener.counted("test images", done, total)
        return torch.cat(parts)


def percentiles(scores: Tensor, ordered: Tensor) -> Tensor:
    """Return the percentile P(s) of each score `(B, E)` among reference scores `(M, E)` with sorted columns.

    Example:
        >>> percentiles(torch.tensor([[1.0], [2.5], [9.0]]), torch.tensor([[1.0], [2.0], [3.0], [4.0]])).T
        tensor([[ 12.5000,  50.0000, 100.0000]], dtype=torch.float64)
    """
    columns, asked = ordered.T.contiguous(), scores.to(ordered).T.contiguous()
    below = torch.searchsorted(columns, asked)
    not_above = torch.searchsorted(columns, asked, right=True)
    return (below + not_above).T.double() * (50 / len(ordered))


def names_digest(names: Sequence[str]) -> str:
    """Return a short hash of the names of images in order."""
    whole = hashlib.sha256()
    for name in names:
        whole.update(name.encode(errors="surrogateescape") + b"\0")
    return whole.hexdigest()[:16]


def header(energies: int, ranked: bool) -> list[str]:
    """Return the column names of a table of scores.

    Arguments:
        energies: E, the number of scores per image.
        ranked: whether each score is followed by its percentile.
    """
    scores = ["total", *(f"L>{k}" for k in range(1, energies))]
    if not ranked:
        return ["file", *scores]
    after = [PERCENTILE, *(f"{name}_{PERCENTILE}" for name in scores[1:])]
    return ["file", *(name for pair in zip(scores, after, strict=True) for name in pair)]


def table_rows(names: Sequence[str], scores: Tensor, ordered: Tensor | None) -> list[list[Any]]:
    """Return a row for each image: its name, and its scores `(B, E)`, each followed by its percentile.

    Arguments:
        names: names of the images.
        scores: scores of the images.
        ordered: reference scores `(M, E)` with sorted columns; None omits percentiles.
    """
    columns = scores if ordered is None else torch.stack([scores, percentiles(scores, ordered)], 2).flatten(1)
    return [[name, *row] for name, row in zip(names, columns.tolist(), strict=True)]
