"""Benchmark data sets, read, verified and downloaded by torchvision, which is imported only when one is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.data.dataset_recipe import ImageData
from hebm.data.decode import Decoder, ImageDecoder, Picture, Shape, opened
from hebm.data.files import Folder
from hebm.data.images import ArrayImages, LazyImages
from hebm.data.listed_files import ListedFiles
from hebm.data.stored_pixels import stored_pixels
from hebm.errors import DataError
from hebm_plugins.datasets.download import Downloadable
from hebm_plugins.datasets.file_decoders import StoredDecoder
from hebm_plugins.datasets.splits import by_hash

DIGITS = tuple(map(str, range(10)))
_FACE = (15, 40, 163, 188)
_ALIGNED = (178, 218)
_SCENES = (
    "bedroom",
    "bridge",
    "church_outdoor",
    "classroom",
    "conference_room",
    "dining_room",
    "kitchen",
    "living_room",
    "restaurant",
    "tower",
)


@recipe
class MNIST(Downloadable):
    """60,000 + 10,000 handwritten digits, grey 28×28."""

    @override
    def open(self, split: str, download: bool) -> Any:
        from torchvision.datasets import MNIST as Set

        return Set(self.root, train=split == "train", download=download)

    def source(self, split: str) -> ArrayImages:
        """Read the images in the file's order."""
        found = self.found(split)
        return ArrayImages(found.data.unsqueeze(1), found.targets, DIGITS)


@recipe
class FashionMNIST(Downloadable):
    """60,000 + 10,000 articles of clothing, grey 28×28."""

    @override
    def open(self, split: str, download: bool) -> Any:
        from torchvision.datasets import FashionMNIST as Set

        return Set(self.root, train=split == "train", download=download)

    def source(self, split: str) -> ArrayImages:
        """Read the images in the file's order."""
        found = self.found(split)
        return ArrayImages(found.data.unsqueeze(1), found.targets, found.classes)


@recipe
class CIFAR10(Downloadable):
    """50,000 + 10,000 photographs of ten things, colour 32×32.

    The published files are pickles. torchvision opens them only if their checksums match the published ones.
    """

    @override
    def open(self, split: str, download: bool) -> Any:
        from torchvision.datasets import CIFAR10 as Set

        return Set(self.root, train=split == "train", download=download)

    def source(self, split: str) -> ArrayImages:
        """Read the images in the files' order."""
        found = self.found(split)
        pixels = torch.from_numpy(found.data).permute(0, 3, 1, 2)
        return ArrayImages(pixels, torch.tensor(found.targets), found.classes)


@recipe
class SVHN(Downloadable):
    """73,257 + 26,032 house numbers, colour 32×32."""

    extra: bool = option(False, doc="add the 531,131 easier images of the extra split to the training images")

    @override
    def open(self, split: str, download: bool) -> Any:
        from torchvision.datasets import SVHN as Set

        return Set(self.root, split=split, download=download)

    def source(self, split: str) -> ArrayImages:
        """Read the images in the file's order, the extra ones last."""
        parts = [self.found(split)]
        if self.extra and split == "train":
            parts.append(self.found("extra"))
        pixels = np.concatenate([part.data for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        return ArrayImages(torch.from_numpy(pixels), torch.from_numpy(labels), DIGITS)


@attrs.frozen
class StrokesDecoder:
    """Decodes dark strokes on white paper to bright strokes on black."""

    decoder: Decoder

    def __call__(self, data: bytes | Picture, name: str) -> Tensor:
        """Decode an image and invert its levels."""
        return 255 - self.decoder(data, name)


@recipe
class Omniglot(Downloadable):
    """19,280 + 13,180 characters of 30 + 20 alphabets, as bright strokes on black, grey, resized to `size`.

    Train and test have different characters and therefore different classes.
    """

    size: int = option(28, doc="side of the image", low=4, high=16384, unit="px")

    def decoder(self, shape: Shape | None) -> StrokesDecoder:
        """Read dark strokes on white paper, as the published files have them; a user's own files are read alike."""
        return StrokesDecoder(Decoder(channels=1, size=self.size))

    @override
    def open(self, split: str, download: bool) -> Any:
        from torchvision.datasets import Omniglot as Set

        return Set(self.root, background=split == "train", download=download)

    def source(self, split: str) -> ArrayImages:
        """Order the images by a hash of their names; torchvision's own order depends on the file system."""
        files = Folder(Path(self.found(split).target_folder))
        decoder = self.decoder(None)
        characters = [name.rpartition("/")[0] for name in files.names]
        classes = sorted(set(characters))
        order = by_hash(files.names)[: self.limit]
        strokes = [decoder(files.read(files.names[i]), files.describe(files.names[i])) for i in order]
        number = {character: i for i, character in enumerate(classes)}
        labels = torch.tensor([number[characters[i]] for i in order])
        return ArrayImages(torch.stack(strokes) if strokes else torch.empty(0, 1, 1, 1), labels, classes)


@attrs.frozen
class FaceDecoder:
    """Crops the face box from images of the published size, and the centre square from any others.

    Arguments:
        size: side of the decoded image.
        crop: side of a centre square to crop instead of the face box; None crops the box.
    """

    size: int
    crop: int | None

    def __call__(self, data: bytes | Picture, name: str) -> Tensor:
        """Cut, resize and convert to colour."""
        picture = opened(data, name)
        box = self.crop or (_FACE if picture.size == _ALIGNED else None)
        return Decoder(3, self.size, box, ready=(self.size, self.size))(picture, name)


@attrs.frozen
class CelebADecoder:
    """Maps a position to the pixels of a file in CelebA's folder."""

    folder: Path
    names: Sequence[str]
    decoder: ImageDecoder

    def __call__(self, i: int) -> Tensor:
        """Decode the image in file i."""
        path = self.folder / self.names[i]
        try:
            return self.decoder(path.read_bytes(), str(path))
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error}); unpack img_align_celeba.zip again in data.root"
            ) from error


def _stored(decode: CelebADecoder) -> CelebADecoder | StoredDecoder:
    """Return a decoder that decodes each file once for all commands, if decoded images can be stored."""
    paths = [f"{decode.folder}/{name}" for name in decode.names]
    stored = stored_pixels(ListedFiles(paths, decode.folder, "data.root"), paths, decode.decoder)
    return decode if stored is None else StoredDecoder(stored, range(len(paths)), decode)


class CelebAImages(LazyImages):
    """CelebA: faces with 40 attributes."""

    def fingerprint(self) -> str:
        """Hash names and images: torchvision verifies the published attributes by their checksum."""
        return self.digest("\n".join(self.names).encode(errors="surrogatepass"), self.sample_digest())


@recipe
class CelebA(Downloadable):
    """162,770 + 19,962 aligned faces with forty attributes, cropped and resized when first read: set `workers`."""

    size: int = option(64, doc="side of the image", low=8, high=16384, unit="px")
    crop: int | None = option(
        None,
        doc="side of a centre square to crop first; by default the usual 148×148 box with its corner at 15, 40",
        low=8,
        high=178,
        unit="px",
    )

    def decoder(self, shape: Shape | None) -> FaceDecoder:
        """Cut the face as the options say."""
        return FaceDecoder(self.size, self.crop)

    @override
    def open(self, split: str, download: bool) -> Any:
        from torchvision.datasets import CelebA as Set

        return Set(self.root, split=split, download=download)

    def source(self, split: str) -> CelebAImages:
        """Order the images as in the published partition."""
        found = self.found(split)
        folder = Path(self.root) / found.base_folder / "img_align_celeba"
        decode = _stored(CelebADecoder(folder, found.filename, self.decoder(None)))
        names = [name for name in found.attr_names if name]  # the header ends with a space, which adds an empty name
        return CelebAImages(len(found), decode, found.attr, names=found.filename, attributes=names)


@recipe
class LSUN(ImageData):
    """One category of LSUN scenes from the published LMDB databases; "test" is their small validation set.

    Download and unzip `<category>_train_lmdb.zip` and `<category>_val_lmdb.zip` yourself. hebm reads the databases
    directly, because torchvision's reader writes a pickle into the working folder and later loads it unchecked.
    """

    root: str = option("data", doc="folder that contains church_outdoor_train_lmdb and so on", path=True)
    category: str = option("church_outdoor", doc="category of scenes", choices=_SCENES)
    size: int = option(64, doc="side of the image", low=8, high=16384, unit="px")

    def decoder(self, shape: Shape | None) -> Decoder:
        """Resize the centre square to `size`, whatever the file."""
        return Decoder(channels=3, size=self.size)

    def source(self, split: str) -> LazyImages:
        """Order the images by their keys, which are hashes."""
        from hebm_plugins.datasets.lmdb_images import LMDBImages

        folder = Path(self.root) / f"{self.category}_{'train' if split == 'train' else 'val'}_lmdb"
        images = LMDBImages(folder, self.decoder(None), self.limit)
        return LazyImages(len(images.keys), images, names=[key.decode("ascii", "replace") for key in images.keys])
