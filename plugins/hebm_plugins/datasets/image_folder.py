"""The data set `image-folder`: image files in a folder or an archive.

The rules of `hebm_plugins.datasets.folder_layout` decide whether sub-folders are splits, classes or neither. With
`labels`, a CSV (`label_table`) gives the class or the attributes of each image, and sub-folders give no labels.

Images are sorted by a hash of their names, so the first n are a random sample of all classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.data.archives import is_archive, open_files
from hebm.data.corrupt import corrupt_error, corrupt_files, corrupt_note
from hebm.data.dataset_recipe import SPLITS, ImageData
from hebm.data.decode import MOST_PIXELS, CorruptImage, Decoder, ImageDecoder, Shape
from hebm.data.files import Files, said_of_left_out
from hebm.data.images import ArrayImages, Images, LazyImages, shape_mismatch
from hebm.data.stored_pixels import StoredPixels, not_stored, stored_pixels
from hebm.errors import CheckpointError, DataError, DataWarning
from hebm_plugins.datasets.csv_labels import Labels, Part, labels_of
from hebm_plugins.datasets.file_decoders import FileDecoder, Found, StoredDecoder
from hebm_plugins.datasets.folder_layout import READINGS, Layout, archived_splits, layout_of, whole_part
from hebm_plugins.datasets.splits import by_hash, hold_out

MEMORY = 2 << 30  # bytes of decoded images that a split may keep in memory


@recipe
class ImageFolder(ImageData):
    """A folder, .zip or .tar(.gz) of images, with sub-folders for splits (train, test) or classes if there are any."""

    root: str = option(doc="the folder or archive; a folder may also hold train.zip, test.tar.gz and so on", path=True)
    size: int | None = option(
        None, doc="resize the shorter side to this, then cut the centre square", low=1, high=16384, unit="px"
    )
    crop: int | None = option(None, doc="first cut the centre square of this side", low=1, high=16384, unit="px")
    holdout: float = option(0.1, doc="fraction of images held out as test, without a test folder", low=0, high=0.9)
    cache: bool = option(
        True, doc="decode each image once: store it in run.cache_folder, and keep a split of at most 2 GiB in memory"
    )
    labels: str | None = option(
        None,
        doc="a CSV with a header: file, class, or file and 0/1 attributes; next to the images, or an absolute path",
    )
    max_pixels: int = option(MOST_PIXELS, doc="largest number of pixels of an image; larger ones are an error", low=1)
    folders: str = option(
        "auto",
        doc="what sub-folders are: splits, classes or none; auto decides by their names, with an error if unclear",
        choices=READINGS,
    )
    corrupt: str = option(
        "stop",
        doc="for files that cannot be read as images: stop with an error, or skip them; both name all of them",
        choices=("stop", "skip"),
    )

    def decoder(self, shape: Shape | None) -> ImageDecoder:
        """Cut, resize and convert as the options say."""
        if shape is None:
            return Decoder(self.channels, self.size, self.crop, max_pixels=self.max_pixels)
        channels, height, width = shape
        size = self.size or (height if height == width else None)
        return Decoder(channels, size, self.crop, (width, height), self.max_pixels)

    def source(self, split: str) -> Images:
        """Find the files of a split and decode them, now or when they are asked for."""
        found, decoder = self._found(split), self.decoder(None)
        if not found.names:
            raise DataError(_nothing(Path(self.root), split, self.holdout))
        stored = stored_pixels(found.files, found.names, decoder) if self.cache else None
        images = self._from_store(found, decoder, stored) if stored is not None else None
        return images if images is not None else self._decoded(found, decoder)

    def _decoded(self, found: Found, decoder: ImageDecoder) -> Images:
        """Decode the files into memory, or when they are asked for."""
        if self.corrupt == "skip":
            found = _without(found, corrupt_files(found.files, found.names, decoder))
        try:
            images = decode_all(found, decoder) if self.cache else None
        except CorruptImage as error:
            raise self._all_corrupt() from error
        return images if images is not None else _lazy(found, FileDecoder(found, decoder, self._all_corrupt))

    def _from_store(self, found: Found, decoder: ImageDecoder, stored: StoredPixels) -> Images | None:
        """Return the stored images, decoding missing ones now or when they are asked for; None if storing fails."""
        small = stored.pixels.nbytes <= MEMORY
        try:
            bad = stored.fill() if small or self.corrupt == "skip" else {}
        except CheckpointError as error:
            warnings.warn(not_stored(error), DataWarning, stacklevel=2)
            return None
        if bad and self.corrupt == "stop":
            raise self._all_corrupt() from next(iter(bad.values()))
        rows = [i for i in range(len(found.names)) if i not in bad]
        found = _without(found, {found.names[i]: error for i, error in bad.items()})
        if small:
            return _in_memory(found, stored.pixels[rows] if bad else stored.pixels)
        return _lazy(found, StoredDecoder(stored, rows, FileDecoder(found, decoder, self._all_corrupt)))

    def _found(self, split: str) -> Found:
        found = find(Path(self.root), split, self.holdout, self.labels, self.folders)
        return found if self.limit is None else found.keep(range(min(self.limit, len(found.names))))

    def _all_corrupt(self) -> DataError:
        """Return one error that names all files of all splits that cannot be read as images."""
        bad, total = dict[str, CorruptImage](), 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # printed already when the split was found
            for found in map(self._found, SPLITS):
                total += len(found.names)
                corrupt = corrupt_files(found.files, found.names, self.decoder(None))
                bad |= {found.files.describe(name): error for name, error in corrupt.items()}
        return corrupt_error(bad, total) if bad else DataError(f"{self.root}: changed while it was read; run again")


def find(root: Path, split: str, holdout: float, labels: str | None = None, folders: str = "auto") -> Found:
    """Find the files of a split under `root`, by the rules of `folder_layout`.

    A `DataWarning` counts and names image files that are not used.

    Arguments:
        root: a folder or archive.
        split: "train" or "test".
        holdout: fraction of images held out as test if `root` has no test split.
        labels: the CSV of the labels; None takes classes from the sub-folders.
        folders: what sub-folders are; one of `READINGS`.

    Raises `DataError` if `root` is neither a folder nor an archive, if the layout is ambiguous, or if the CSV does not
    fit the images.
    """
    layout = _layout(root, folders, labels is not None)
    parts = layout.parts
    for line in said_of_left_out(layout.left_out):
        warnings.warn(line, DataWarning, stacklevel=2)
    mine = split if split in parts else "train" if "train" in parts else ""
    whole = parts[mine]
    labelled = labels_of(parts, labels, root) if labels is not None else _by_folder(parts, layout.has_classes)
    found = Found(whole.files, whole.names, labelled[mine])
    if "test" not in parts:
        return found.keep(hold_out(whole.inner, holdout, split))
    return found.keep(by_hash(whole.inner))


def _layout(root: Path, folders: str, labelled: bool) -> Layout:
    """Return the layout of a folder that holds one archive per split, or of any other folder or archive."""
    archives = [path.name for path in root.iterdir() if is_archive(path)] if root.is_dir() else []
    splits = archived_splits(archives, str(root)) if folders in ("auto", "splits") else {}
    if not splits:
        files = open_files(root)
        layout = layout_of(files, folders, labelled)
        return attrs.evolve(layout, left_out={**_described(files), **layout.left_out})
    inside = {split: open_files(root / name) for split, name in splits.items()}
    others = open_files(root)
    left_out = {f"next to the archives {', '.join(splits.values())}": list(map(others.describe, others.names))}
    for files in inside.values():
        left_out |= _described(files)
    parts = {split: whole_part(files) for split, files in inside.items()}
    return Layout(parts, {reason: names for reason, names in left_out.items() if names}, has_classes=not labelled)


def _described(files: Files) -> dict[str, list[str]]:
    return {reason: list(map(files.describe, names)) for reason, names in files.left_out.items()}


def decode_all(found: Found, decoder: ImageDecoder) -> ArrayImages | None:
    """Decode all images into memory, `(N, C, H, W)` uint8, in one pass; return None if they take over 2 GiB."""
    place = {name: i for i, name in enumerate(found.names)}
    pixels: Tensor | None = None
    for name, data in found.files.stream(place):
        image = decoder(data, found.files.describe(name))
        if pixels is None:
            if len(place) * image.numel() > MEMORY:
                return None
            first, pixels = name, torch.empty(len(place), *image.shape, dtype=torch.uint8)
        if image.shape != pixels.shape[1:]:
            error = shape_mismatch(found.files.describe(name), _triple(image), _triple(pixels[0]))
            raise DataError(f"{error} (the first image: {found.files.describe(first)})")
        pixels[place[name]] = image
    if pixels is None:
        raise DataError(f"{found.files.path}: no readable images; check data.root")
    return _in_memory(found, pixels)


def _in_memory(found: Found, pixels: Tensor) -> ArrayImages:
    return ArrayImages(pixels, found.labels.tensor(), found.labels.classes, found.labels.attributes)


def _lazy(found: Found, decode: FileDecoder | StoredDecoder) -> LazyImages:
    labels = found.labels
    return LazyImages(
        len(found.names),
        decode,
        labels.tensor(),
        labels.classes,
        found.names,
        f"{found.files.path}/",
        attributes=labels.attributes,
    )


def _without(found: Found, bad: Mapping[str, CorruptImage]) -> Found:
    """Leave out files that cannot be read as images, with a `DataWarning` that names them."""
    if not bad:
        return found
    note = corrupt_note(bad, len(found.names))
    good = [i for i, name in enumerate(found.names) if name not in bad]
    if not good:
        raise DataError(f"{found.files.path}: no file can be read as an image; check data.root\n{note}")
    warnings.warn(note, DataWarning, stacklevel=2)
    return found.keep(good)


# ---------------------------------------------------------------- labels by folder


def _by_folder(parts: Mapping[str, Part], has_classes: bool) -> dict[str, Labels]:
    """Use sub-folders as classes if there are several. A split with images outside sub-folders has no labels."""
    inside = {name: _classes(part) if has_classes else set() for name, part in parts.items()}
    classes = tuple(sorted(set().union(*inside.values())))
    position = {name: i for i, name in enumerate(classes)}
    return {
        name: Labels(tuple(position[image.split("/")[0]] for image in part.inner), classes)
        if len(classes) > 1 and inside[name]
        else Labels()
        for name, part in parts.items()
    }


def _classes(part: Part) -> set[str]:
    """Return the names of the sub-folders, or an empty set if an image is outside them."""
    tops = [name.partition("/")[::2] for name in part.inner]
    return {top for top, _ in tops} if all(rest for _, rest in tops) else set()


def _triple(image: Tensor) -> tuple[int, int, int]:
    channels, height, width = image.shape
    return channels, height, width


def _nothing(root: Path, split: str, holdout: float) -> str:
    inner = [path.name for path in root.iterdir() if is_archive(path)] if root.is_dir() else []
    if inner:
        return f"{root}: no image files, but the archive {inner[0]}: set data.root = {str(root / inner[0])!r}"
    if split == "test" and holdout == 0:
        return f"{root}: no test images, and data.holdout is 0; raise it, or add a test folder"
    return f"{root}: no image files for split {split!r}; put .png or .jpg files there, or change data.root"
