"""Extractors with published weights, which are downloaded, or read from a file that the user names.

The SHA-256 of a file is checked before anything in it is interpreted. PyTorch's restricted reader then checks that it
holds tensors only. The library that defines the network receives only bytes that passed both checks.
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
    """A published file of weights.

    Arguments:
        extractor: the registered name of the extractor.
        title: the name of the weights in messages.
        url: the URL to download the file from.
        sha256: the SHA-256 of the file.
        size: the size of the download, as messages print it.
    """

    extractor: str
    title: str
    url: str
    sha256: str
    size: str

    @property
    def file(self) -> Path:
        """The path of the file in PyTorch's cache, which torch-fidelity and torchvision share."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(self.url).name

    @property
    def alternatives(self) -> str:
        """What the user can do if the download fails, for error messages."""
        return (
            f'set the path of a copy, evaluate.extractors = [{{ type = "{self.extractor}", weights = "PATH" }}], or '
            'use evaluate.extractors = ["classifier"] or ["efficientnet-lite0"], which need no download'
        )

    def content(self, weights: str | None, sha256: str | None) -> bytes:
        """Return the content of a file of weights after checking it.

        Arguments:
            weights: the path of the file. None uses the standard file and downloads it if it is missing.
            sha256: the expected SHA-256; None expects the standard file.

        Raises `HebmError` if the file cannot be read or downloaded, `ConfigError` if its SHA-256 differs.
        """
        path = Path(weights).expanduser() if weights else self._downloaded()
        return self.verified(path, sha256 or self.sha256)

    def verified(self, path: Path, sha256: str) -> bytes:
        """Return the content of the file at `path` after checking it.

        Raises `HebmError` if it cannot be read, `ConfigError` if its SHA-256 differs or if it holds anything but
        tensors.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise HebmError(f"{self.title} {path}: {error.strerror or error}; {self.alternatives}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != sha256.lower():
            raise ConfigError(
                f"{self.title} {path}: sha256 is {found}, expected {sha256}; the file was not opened. Delete it to "
                "download the standard file, or set the extractor's sha256 to the hash of this file if you trust it"
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
    """A network with published weights. Subclasses implement `network` and repeat grey images as three channels.

    Arguments:
        weights: the content of the file of weights, checked by `StandardWeights.verified`.
        device: the device to compute on.
    """

    standard: ClassVar[StandardWeights]

    def __init__(self, weights: bytes, device: torch.device) -> None:
        self.sha256 = hashlib.sha256(weights).hexdigest()
        self.device = device
        with torch.random.fork_rng(devices=[]):  # networks draw initial weights before they load the file
            self.net = self.network(io.BytesIO(weights)).to(device)

    @abstractmethod
    def network(self, weights: io.BytesIO) -> nn.Module:
        """Build the network with these weights, on the CPU."""

    def notes(self) -> dict[str, Note]:
        """Return whether the weights are the standard ones."""
        return {"standard": self.sha256 == self.standard.sha256}


@recipe
class DownloadedExtractor(ExtractorRecipe):
    """An extractor with published weights, which are downloaded once."""

    channels: ClassVar[tuple[int, ...]] = (1, 3)
    network: ClassVar[type[PublishedNetwork]]

    weights: str | None = option(
        None, doc="file of weights; by default the standard file, downloaded on first use", path=True
    )
    sha256: str | None = option(None, doc="SHA-256 of `weights`; set it if that is not the standard file")

    def check_weights(self) -> None:
        """Download the standard weights if they are needed and missing, and check the file.

        Raises `HebmError` if the file is missing and cannot be downloaded, `ConfigError` if its SHA-256 differs.
        """
        self._content()

    def build(self, context: ExtractorContext) -> Extractor:
        """Load the network. Raises the errors of `check_weights`."""
        return self.network(self._content(), context.device)

    def _content(self) -> bytes:
        return self.network.standard.content(self.weights, self.sha256)
