"""Extractors whose weights are found, downloaded or given by path.

A file is hashed before anything in it is interpreted, then read by PyTorch's restricted reader. Only bytes that passed
both go to the library that has the network.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import attrs
import torch
from torch import nn

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError, HebmError
from hebm.evaluation.extractors import Extractor, ExtractorContext, ExtractorRecipe, Note


@attrs.frozen
class StandardWeights:
    """A file of weights as it was published.

    Arguments:
        extractor: the name that the extractor is registered under.
        title: what messages call the weights.
        url: where they are downloaded from.
        sha256: of the file.
        size: of the download, in words.
    """

    extractor: str
    title: str
    url: str
    sha256: str
    size: str

    @property
    def file(self) -> Path:
        """Where PyTorch, and so torch-fidelity and torchvision, keep the file."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(self.url).name

    @property
    def alternatives(self) -> str:
        """What to do without a download."""
        return (
            f'name a copy of the file, evaluate.extractors = [{{ type = "{self.extractor}", weights = "PATH" }}], or '
            'use evaluate.extractors = ["classifier"] or ["efficientnet-lite0"], which need no download'
        )

    def content(self, weights: str | None, sha256: str | None) -> bytes:
        """Return the content of a file of weights, checked.

        Arguments:
            weights: its path; None downloads the standard file if it is missing.
            sha256: that it must have; None for that of the standard file.

        Raises `HebmError` if it is missing and cannot be downloaded, `ConfigError` if it is another file.
        """
        path = Path(weights).expanduser() if weights else self._downloaded()
        return self.verified(path, sha256 or self.sha256)

    def verified(self, path: Path, sha256: str) -> bytes:
        """Return the content of a file of weights.

        Raises `HebmError` if it cannot be read, `ConfigError` if its sha256 is not the expected one or if it holds
        anything but tensors.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise HebmError(f"{self.title} {path}: {error.strerror or error}; {self.alternatives}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != sha256.lower():
            raise ConfigError(
                f"{self.title} {path}: sha256 is {found}, expected {sha256}; the file was not opened. Delete it to "
                "download the standard one, or name another file's hash in the extractor's sha256"
            )
        try:
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise ConfigError(f"{self.title} {path}: not a file of tensors only; {self.alternatives}") from error
        return content

    def _downloaded(self) -> Path:
        path = self.file
        if path.exists():
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(path), hash_prefix=self.sha256, progress=False)
        except (OSError, RuntimeError) as error:
            raise HebmError(
                f"cannot download {self.title} ({self.size}) from {self.url}: {error}; {self.alternatives}"
            ) from error
        return path


class PublishedNetwork(Extractor):
    """A network with published weights. Grey images are shown to it as three equal channels. Implement `network`.

    Arguments:
        weights: the whole content of the weights' file; checked by `StandardWeights.verified`.
        device: where to compute.
    """

    standard: ClassVar[StandardWeights]

    def __init__(self, weights: bytes, device: torch.device) -> None:
        self.sha256 = hashlib.sha256(weights).hexdigest()
        self.device = device
        with torch.random.fork_rng(devices=[]):  # it initialises itself before it reads the weights
            self.net = self.network(io.BytesIO(weights)).to(device)

    @abstractmethod
    def network(self, weights: io.BytesIO) -> nn.Module:
        """Make the network of a file of weights, on the CPU."""

    def notes(self) -> dict[str, Note]:
        """Return whether the weights are the standard ones."""
        return {"standard": self.sha256 == self.standard.sha256}


@recipe
class DownloadedExtractor(ExtractorRecipe):
    """An extractor with published weights, which are downloaded once."""

    channels: ClassVar[tuple[int, ...]] = (1, 3)
    network: ClassVar[type[PublishedNetwork]]

    weights: str | None = option(
        None, doc="file of the weights; left out: the standard one, downloaded on first use", path=True
    )
    sha256: str | None = option(None, doc="sha256 of `weights`, if that is not the standard file")

    def check_weights(self) -> None:
        """Download the standard weights if they are needed and missing, and check the file.

        Raises `HebmError` if they are missing and cannot be downloaded, `ConfigError` if the file is another one.
        """
        self._content()

    def build(self, context: ExtractorContext) -> Extractor:
        """Read the weights; what it raises is what `check_weights` does."""
        return self.network(self._content(), context.device)

    def _content(self) -> bytes:
        return self.network.standard.content(self.weights, self.sha256)
