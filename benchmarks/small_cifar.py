"""Write CIFAR-10 as the small JPEG archives that the CIFAR tables of RESULTS.md were measured on.

    python benchmarks/small_cifar.py ROOT FOLDER

ROOT holds CIFAR-10 as torchvision keeps it (`--download` fetches it). FOLDER gets train.tar.gz and test.tar.gz, with a
folder for each class and the images in the order of the original files, JPEG of quality 75 with halved chroma. They
are read by `--set data.type=image-folder --set data.root=FOLDER`. JPEG images are smoother than the original ones, so
that bits/dim on them compare with nothing that is published.
"""

from __future__ import annotations

import argparse
import gzip
import io
import tarfile
from collections import Counter
from pathlib import Path

import torch
from PIL import Image

from hebm.data.images import Images
from hebm.pixel_levels import to_pixels
from hebm_plugins.datasets.torchvision_sets import CIFAR10

QUALITY = 75


def write(images: Images, split: str, path: Path) -> None:
    """Write a labelled split as an archive `<split>/<class>/<number>.jpg`, the same bytes every time it is written.

    Arguments:
        images: RGB, with class labels.
        split: the name of the archive's folder.
        path: of the archive, .tar.gz.
    """
    numbers: Counter[str] = Counter()
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for places in torch.arange(len(images)).split(1000):
            pixels = to_pixels(images.read(places)).permute(0, 2, 3, 1).numpy()
            for place, picture in zip(places.tolist(), pixels, strict=True):
                name = images.classes[int(images.labels[place])]
                _add(archive, f"{split}/{name}/{numbers[name]:04d}.jpg", jpeg(Image.fromarray(picture)))
                numbers[name] += 1


def jpeg(picture: Image.Image) -> bytes:
    """Return the picture as a JPEG file."""
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY)
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def main() -> None:
    """Write train.tar.gz and test.tar.gz from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="where torchvision keeps CIFAR-10")
    parser.add_argument("folder", type=Path, help="where the archives go")
    parser.add_argument("--download", action="store_true", help="download CIFAR-10 to ROOT first")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        write(CIFAR10(root=given.root, download=given.download).load(split), split, given.folder / f"{split}.tar.gz")
        print(f"written: {given.folder / split}.tar.gz")


if __name__ == "__main__":
    main()
