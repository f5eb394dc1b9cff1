"""The real torchvision readers on small files in their own formats; only the expected checksums are set to theirs."""

import gzip
import hashlib
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from scipy.io import savemat

from hebm.config.settings import RunSettings
from hebm.data.images import Adapted, LazyImages
from hebm.data.stored_pixels import storing_pixels
from hebm.errors import DataError
from hebm_plugins.datasets.torchvision_sets import CIFAR10, MNIST, SVHN, CelebA, FashionMNIST, Omniglot

RNG = np.random.default_rng(0)


def idx(array):
    header = struct.pack(">BBBB" + "I" * array.ndim, 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(root, name="MNIST"):
    """Returns (images, labels) by split."""
    folder, sets = root / name / "raw", {}
    folder.mkdir(parents=True)
    for prefix, split, n in (("train", "train", 12), ("t10k", "test", 5)):
        images, labels = RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.arange(n) % 10
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
        sets[split] = images, labels
    return sets


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def check(images, pixels, labels):
    """pixels `(N, C, H, W)` uint8."""
    assert torch.equal(images.read(torch.arange(len(images))), torch.from_numpy(pixels).float() / 127.5 - 1)
    assert images.labels.tolist() == list(labels)


@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize(("recipe", "name"), [(MNIST, "MNIST"), (FashionMNIST, "FashionMNIST")])
def test_mnist_files_that_are_there_are_used_and_left_alone(recipe, name, download, tmp_path):
    sets = write_mnist(tmp_path, name)
    before = sorted(tmp_path.rglob("*"))
    for split, (pixels, labels) in sets.items():
        images = recipe(root=str(tmp_path), download=download).load(split)
        check(images, pixels[:, None], labels)
        assert len(images.classes) == 10
    assert sorted(tmp_path.rglob("*")) == before


def test_cifar10(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    reader, pixels = torchvision.datasets.CIFAR10, {}
    listed = {"train_list": [f"data_batch_{i}" for i in range(1, 6)], "test_list": ["test_batch"]}
    for attribute, names in listed.items():
        for name in names:
            pixels[name] = RNG.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
            entry = {"data": pixels[name].reshape(2, -1), "labels": [3, 8]}
            (folder / name).write_bytes(pickle.dumps(entry))
        monkeypatch.setattr(reader, attribute, [[name, md5(folder / name)] for name in names])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": md5(folder / "batches.meta")})
    train = np.concatenate([pixels[name] for name in listed["train_list"]])
    data = CIFAR10(root=str(tmp_path), download=False)
    check(data.load("train"), train, [3, 8] * 5)
    check(data.load("test"), pixels["test_batch"], [3, 8])
    assert data.load("test").classes == tuple("abcdefghij")
    (folder / "data_batch_2").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(DataError, match="CIFAR10"):
        data.load("train")
    assert not (tmp_path / "owned").exists()


def test_svhn_and_its_extra_split(tmp_path, monkeypatch):
    reader, pixels = torchvision.datasets.SVHN, {}
    listed = {}
    for split, n in (("train", 4), ("test", 2), ("extra", 3)):
        pixels[split] = RNG.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        path = tmp_path / f"{split}_32x32.mat"
        savemat(path, {"X": pixels[split].transpose(2, 3, 1, 0), "y": np.array([[10]] * n)})
        listed[split] = ["http://127.0.0.1:9/", path.name, md5(path)]
    monkeypatch.setattr(reader, "split_list", listed)
    check(SVHN(root=str(tmp_path)).load("train"), pixels["train"], [0] * 4)
    check(SVHN(root=str(tmp_path)).load("test"), pixels["test"], [0] * 2)
    both = np.concatenate([pixels["train"], pixels["extra"]])
    check(SVHN(root=str(tmp_path), extra=True).load("train"), both, [0] * 7)
    check(SVHN(root=str(tmp_path), extra=True).load("test"), pixels["test"], [0] * 2)


def test_omniglot_is_bright_on_black_and_small(tmp_path, monkeypatch):
    root, reader = tmp_path / "omniglot-py", torchvision.datasets.Omniglot
    sums = {}
    for part, alphabet in (("images_background", "Greek"), ("images_evaluation", "Tengwar")):
        for character in ("character01", "character02"):
            folder = root / part / alphabet / character
            folder.mkdir(parents=True)
            for i in range(3):
                picture = np.full((105, 105), True)
                picture[40:60, 10:95] = False
                Image.fromarray(picture).save(folder / f"{i}.png")
        (root / f"{part}.zip").write_bytes(part.encode())
        sums[part] = md5(root / f"{part}.zip")
    monkeypatch.setattr(reader, "zips_md5", sums)
    images = Omniglot(root=str(tmp_path)).load("train")
    x = images.read(torch.arange(6))
    assert (len(images), images.shape) == (6, (1, 28, 28))
    assert images.classes == ("Greek/character01", "Greek/character02")
    assert torch.bincount(images.labels).tolist() == [3, 3]
    assert (x[:, 0, 0, 0] == -1).all()
    assert (x[:, 0, 13, 13] == 1).all()
    assert Omniglot(root=str(tmp_path), size=32).load("test").shape == (1, 32, 32)
    assert len(Omniglot(root=str(tmp_path), limit=4).load("test")) == 4


def write_celeba(root, monkeypatch):
    folder, reader = root / "celeba", torchvision.datasets.CelebA
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 5)]
    for i, name in enumerate(names):
        picture = np.zeros((218, 178, 3), np.uint8)
        picture[40:188, 15:163] = 60 * i + 30  # the usual box, and nothing else
        Image.fromarray(picture).save(folder / "img_align_celeba" / name, "PNG")
    rows = {
        "list_attr_celeba.txt": ["4", "Smiling Young ", *(f"{name} {(-1) ** i}  -1" for i, name in enumerate(names))],
        "identity_CelebA.txt": [f"{name} 7" for name in names],
        "list_bbox_celeba.txt": ["4", "image_id x y w h", *(f"{name} 1 2 3 4" for name in names)],
        "list_landmarks_align_celeba.txt": ["4", "a b", *(f"{name} 1 2" for name in names)],
        "list_eval_partition.txt": [f"{name} {part}" for name, part in zip(names, (0, 0, 2, 2), strict=True)],
    }
    for name, lines in rows.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    listed = [("id", md5(folder / name), name) for name in rows]
    monkeypatch.setattr(reader, "file_list", listed)
    return folder / "img_align_celeba"


def test_celeba_is_cropped_to_the_usual_box_and_resized(tmp_path, monkeypatch):
    folder = write_celeba(tmp_path, monkeypatch)
    data = CelebA(root=str(tmp_path), download=False)
    train, test = data.load("train"), data.load("test")
    assert (len(train), len(test), train.shape) == (2, 2, (3, 64, 64))
    values = ((train.read(torch.arange(2)) + 1) * 127.5).round()
    assert values.flatten(1).unique(dim=1).flatten().tolist() == [30, 90]
    centred = CelebA(root=str(tmp_path), download=False, crop=178, size=32).load("train")
    assert centred.shape == (3, 32, 32)
    assert centred.read(torch.arange(1)).min() == -1
    (folder / "000002.jpg").unlink()
    with pytest.raises(DataError, match=r"000002\.jpg: cannot be read.*data\.root"):
        train.read(torch.tensor([1]))


def test_stored_images_of_celeba_are_those_that_are_decoded(tmp_path, monkeypatch):
    folder = write_celeba(tmp_path, monkeypatch)
    with storing_pixels(RunSettings(cache_folder=str(tmp_path / "cache"))):
        first, second = (CelebA(root=str(tmp_path), download=False).load("train") for _ in range(2))
    decoded = CelebA(root=str(tmp_path), download=False).load("train")
    every = torch.arange(len(decoded))
    assert torch.equal(first.read(every), decoded.read(every))
    for path in folder.iterdir():
        path.unlink()
    assert torch.equal(second.read(every), first.read(every))
    assert second.fingerprint() == first.fingerprint()


def test_celeba_has_its_attributes_as_zeros_and_ones(tmp_path, monkeypatch):
    write_celeba(tmp_path, monkeypatch)
    for split in ("train", "test"):
        images = CelebA(root=str(tmp_path), download=False).load(split)
        assert images.attributes == ("Smiling", "Young")
        assert images.classes == ()
        assert images.labels.tolist() == [[1, 0], [0, 0]]


def test_celeba_has_the_fingerprint_that_it_had_before_its_attributes_were_read(tmp_path, monkeypatch):
    write_celeba(tmp_path, monkeypatch)
    images = CelebA(root=str(tmp_path), download=False).load("train")
    without = LazyImages(2, images.decode, names=images.names)
    assert images.fingerprint() == without.fingerprint()
    limited = CelebA(root=str(tmp_path), download=False, limit=1).load("train")
    assert limited.fingerprint() == Adapted(without, 1).fingerprint()


def no_network(monkeypatch):
    nowhere = "http://127.0.0.1:9/"
    for reader in (torchvision.datasets.MNIST, torchvision.datasets.FashionMNIST):
        monkeypatch.setattr(reader, "mirrors", [nowhere])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", nowhere)
    monkeypatch.setattr(torchvision.datasets.Omniglot, "download_url_prefix", nowhere)
    parts = {key: [nowhere, *rest] for key, (_, *rest) in torchvision.datasets.SVHN.split_list.items()}
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", parts)


@pytest.mark.parametrize("recipe", [MNIST, FashionMNIST, CIFAR10, SVHN, Omniglot])
@pytest.mark.parametrize("download", [True, False])
def test_a_missing_set_says_where_it_looked_and_what_to_set(recipe, download, tmp_path, monkeypatch):
    no_network(monkeypatch)
    with pytest.raises(DataError) as caught:
        recipe(root=str(tmp_path / "here"), download=download).load("train")
    message = str(caught.value)
    assert str(tmp_path / "here") in message
    assert "data.root" in message
    assert "data.download" in message
    assert (tmp_path / "here").exists() is download


def test_celeba_without_files_says_what_to_set(tmp_path):
    with pytest.raises(DataError, match=r"data\.download is false.*data\.root"):
        CelebA(root=str(tmp_path), download=False).load("train")


@pytest.mark.parametrize("keep", [0, 8, 100])
def test_a_damaged_mnist_file_is_a_data_error(keep, tmp_path, monkeypatch):
    no_network(monkeypatch)
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged"):
        MNIST(root=str(tmp_path)).load("train")


SERVE = """
import hashlib, sys, pathlib, torchvision
from hebm_plugins.datasets.torchvision_sets import MNIST
root, url, folder = sys.argv[1:]
reader = torchvision.datasets.MNIST
reader.mirrors = [url]
md5 = lambda name: hashlib.md5((pathlib.Path(folder) / name).read_bytes()).hexdigest()
reader.resources = [(name, md5(name)) for name, _ in reader.resources]
images = MNIST(root=root).load("train")
print(len(images), images.fingerprint())
"""


@pytest.mark.slow
def test_several_processes_download_a_set_once(tmp_path):
    import functools
    import http.server
    import threading

    write_mnist(tmp_path / "origin")
    served = tmp_path / "served"
    served.mkdir()
    for path in (tmp_path / "origin" / "MNIST" / "raw").iterdir():
        (served / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            if self.command == "GET":
                asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    command = [sys.executable, "-c", SERVE, str(tmp_path / "root"), url, str(served)]
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        for _ in range(2)
    ]
    answers = {process.communicate(timeout=60)[0] for process in running}
    server.shutdown()
    server.server_close()
    assert len(answers) == 1
    assert answers.pop().startswith("12 ")
    assert len(set(asked)) == 4
    assert all(asked.count(path) <= 2 for path in asked)  # torchvision asks for the address, then for the file


def test_torchvision_is_imported_only_when_a_set_is_loaded():
    code = "import sys, hebm_plugins.datasets.torchvision_sets as m; m.MNIST(); assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif("HEBM_TEST_DATA" not in os.environ, reason="set HEBM_TEST_DATA to a folder with MNIST")
@pytest.mark.parametrize("download", [True, False])
def test_the_real_mnist(download):
    data = MNIST(root=os.environ["HEBM_TEST_DATA"], download=download)
    train, test = data.load("train"), data.load("test")
    assert (len(train), len(test), train.shape) == (60000, 10000, (1, 28, 28))
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert float(train.read(torch.arange(60000)).mean()) == pytest.approx(2 * 0.1307 - 1, abs=1e-4)


def test_a_users_own_files_are_read_as_the_data_sets_own():
    paper = Image.new("L", (105, 105), 255)
    assert Omniglot().decoder((1, 28, 28))(paper, "a").max() == 0
    face = np.zeros((218, 178, 3), np.uint8)
    face[40:188, 15:163] = 200
    decoder = CelebA(size=32).decoder((3, 32, 32))
    assert decoder(Image.fromarray(face), "a").min() == 200
    assert decoder(Image.fromarray(face[40:188, 15:163]), "a").min() == 200
    assert MNIST().decoder((1, 28, 28))(Image.fromarray(face), "a").shape == (1, 28, 28)
