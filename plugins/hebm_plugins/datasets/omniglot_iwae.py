"""The data set `omniglot-iwae`: the 28×28 OMNIGLOT of the IWAE paper (arXiv 1509.00519)."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import torch

from hebm.config.recipes import option, recipe
from hebm.data.images import ArrayImages
from hebm.errors import DataError
from hebm_plugins.datasets.download import Downloadable

URL = "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat"
FILE = "chardata.mat"
KEYS = {"train": ("data", "target"), "test": ("testdata", "testtarget")}
SIDE = 28


@recipe
class OmniglotIWAE(Downloadable):
    """24,345 + 8,070 characters of 50 alphabets, grey 28×28, bright on black; labels are alphabets.

    Published likelihoods in nats use this version. Its split, size and grey levels differ from those of torchvision's
    OMNIGLOT (data set `omniglot`). Values v in [0, 1] become the levels ⌊255 v⌋, as in the published code.
    """

    file: str | None = option(None, doc="path of chardata.mat; by default ROOT/omniglot-iwae/chardata.mat", path=True)

    @property
    def path(self) -> Path:
        """The path of the file, or the path to download it to."""
        return Path(self.root) / "omniglot-iwae" / FILE if self.file is None else Path(self.file)

    def open(self, split: str, download: bool) -> Any:
        """Return the matrices by name."""
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
        from torchvision.datasets.utils import download_url

        if download and not self.path.exists():
            download_url(URL, str(self.path.parent), self.path.name)
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} does not exist")
        try:
            return loadmat(str(self.path))
        except (MatReadError, OSError, ValueError, TypeError, zlib.error) as error:
            raise RuntimeError(f"{self.path} is damaged: {error}") from error

    def source(self, split: str) -> ArrayImages:
        """Return the images of a split, in the file's order. Raises `DataError` for other contents than published."""
        found, names = self.found(split), KEYS[split]
        missing = [name for name in names if name not in found]
        if missing:
            raise DataError(f"{self.path}: has no matrix {', '.join(missing)}; delete it, or set data.file to a copy")
        values, alphabets = (torch.from_numpy(found[name]) for name in names)
        if values.ndim != 2 or values.shape[0] != SIDE**2 or alphabets.shape[-1] != values.shape[1]:
            raise DataError(
                f"{self.path}: {names[0]} has shape {tuple(values.shape)} and {names[1]} {tuple(alphabets.shape)}; "
                f"expected ({SIDE**2}, N) and (50, N)"
            )
        pixels = torch.unflatten((255 * values.T.double()).to(torch.uint8), 1, (SIDE, SIDE))
        # MATLAB stores images column by column
        images = pixels.transpose(1, 2).unsqueeze(1)
        return ArrayImages(images, alphabets.argmax(0), tuple(f"alphabet {i}" for i in range(len(alphabets))))
