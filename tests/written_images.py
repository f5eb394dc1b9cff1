"""Small image sets, written to disk in the real formats."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(value, side=8, mode="RGB", kind="PNG"):
    """A noisy image around a brightness, as a file's bytes."""
    generator = np.random.default_rng(value)
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    pixels = np.clip(value + generator.integers(-9, 10, shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def tree(splits=("train", "test"), n=6):
    """Name → bytes of a labelled set with the classes cat and dog."""
    return {
        f"{split}/{kind}/{i}.png": encoded(20 * i + 10 * j + 3 * k)
        for k, split in enumerate(splits)
        for j, kind in enumerate(("cat", "dog"))
        for i in range(n)
    }


def write(path, files):
    """Write files as a folder, .zip or tar archive, by the name of `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif ".tar" in path.name or path.suffix == ".tgz":
        with tarfile.open(
            path, {"gz": "w:gz", "tgz": "w:gz", "xz": "w:xz"}.get(path.name.split(".")[-1], "w")
        ) as archive:
            for name, data in reversed(files.items()):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path
