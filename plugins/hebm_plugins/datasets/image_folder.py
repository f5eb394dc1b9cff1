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
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.data.archives import is_archive, open_files
from hebm.data.files import Files, said_of_left_out
from hebm.data.image_names import advice_for_other_data
from hebm.errors import DataError, DataWarning
from hebm_plugins.datasets.csv_labels import Labels, Part, labels_of
from hebm_plugins.datasets.encoded_images import EncodedImages
from hebm_plugins.datasets.file_decoders import Found
from hebm_plugins.datasets.folder_layout import READINGS, Layout, archived_splits, layout_of, whole_part
from hebm_plugins.datasets.splits import by_hash, hold_out


@recipe
class ImageFolder(EncodedImages):
    """A folder, .zip or .tar(.gz) of images, with sub-folders for splits (train, test) or classes if there are any."""

    root: str = option(doc="the folder or archive; a folder may also hold train.zip, test.tar.gz and so on", path=True)
    labels: str | None = option(
        None,
        doc="a CSV with a header: file, class, or file and 0/1 attributes; next to the images, or an absolute path",
    )
    folders: str = option(
        "auto",
        doc="what sub-folders are: splits, classes or none; auto decides by their names, with an error if unclear",
        choices=READINGS,
    )

    @override
    def found(self, split: str) -> Found:
        """List the files of a split, by the rules of `folder_layout`."""
        return find(Path(self.root), split, self.holdout, self.labels, self.folders)

    @override
    def nothing(self, split: str) -> DataError:
        """Point to an archive in the folder, or to `holdout`, if they are the cause."""
        return DataError(_nothing(Path(self.root), split, self.holdout))


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


def _nothing(root: Path, split: str, holdout: float) -> str:
    inner = [path.name for path in root.iterdir() if is_archive(path)] if root.is_dir() else []
    if inner:
        return f"{root}: no image files, but the archive {inner[0]}: set data.root = {str(root / inner[0])!r}"
    if split == "test" and holdout == 0:
        return f"{root}: no test images, and data.holdout is 0; raise it, or add a test folder"
    fix = advice_for_other_data(root) or "put .png or .jpg files there, or change data.root"
    return f"{root}: no image files for split {split!r}; {fix}"
