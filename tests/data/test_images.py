import pytest
import torch
from PIL import Image

from hebm.data.images import Adapted, ArrayImages, LazyImages, from_range, to_unit_range
from hebm.errors import DataError
from hebm.evaluation.references import EvenSubset


def bytes_images(n=10, channels=1, side=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, side, side), generator=generator).to(torch.uint8)


def test_bytes_fill_the_range_from_minus_one_to_one():
    x = to_unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert x.tolist() == pytest.approx([-1.0, -0.6, 1.0])
    assert x.dtype == torch.float32


def test_a_range_fills_the_range_from_minus_one_to_one():
    assert from_range(torch.tensor([-2.0, 0, 1, 6]), -2, 6).tolist() == [-1, -0.5, -0.25, 1]
    x = torch.tensor([-1, 0.3, 1])
    assert torch.equal(from_range(x, -1, 1), x)


def test_array_images_read_what_is_at_the_asked_positions():
    pixels = bytes_images()
    images = ArrayImages(pixels, torch.arange(10), tuple("abcdefghij"))
    assert images.shape == (1, 4, 4)
    assert len(images) == 10
    x = images.read(torch.tensor([7, 2, 7]))
    assert torch.equal(x, pixels[[7, 2, 7]].float() / 127.5 - 1)


def test_floats_are_read_unchanged():
    x = torch.rand(3, 1, 2, 2) * 2 - 1
    assert torch.equal(ArrayImages(x).read(torch.arange(3)), x)


def test_lazy_images_equal_the_same_images_in_memory():
    pixels = bytes_images(channels=3)
    pictures = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pixels]
    lazy = LazyImages(10, pictures.__getitem__)
    assert lazy.shape == (3, 4, 4)
    order = torch.tensor([3, 0, 9])
    assert torch.equal(lazy.read(order), ArrayImages(pixels).read(order))
    assert lazy.read(torch.empty(0, dtype=torch.long)).shape == (0, 3, 4, 4)


def test_a_lazy_image_of_another_size_is_named():
    sizes = [4, 4, 5]
    lazy = LazyImages(3, lambda i: torch.zeros(1, sizes[i], sizes[i]), names=["a.png", "b.png", "c.png"], where="/x/")
    with pytest.raises(DataError, match=r"/x/c\.png: is 5×5 pixels, the first image is 4×4.*data\.size"):
        lazy.read(torch.arange(3))


@pytest.mark.parametrize("labels", [torch.zeros(9), torch.full((10,), 2), torch.full((10,), -1)])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(DataError, match="label"):
        ArrayImages(bytes_images(), labels, ("a", "b"))


def test_an_array_without_channels_is_refused():
    with pytest.raises(DataError, match=r"\(N, C, H, W\)"):
        ArrayImages(torch.zeros(3, 4, 4))


def test_fingerprint_sees_one_changed_pixel_label_or_class_name():
    def fingerprint(pixel=0, label=0, name="a"):
        pixels, labels = bytes_images(), torch.zeros(10).long()
        pixels[9, 0, 3, 3], labels[4] = pixel, label
        return ArrayImages(pixels, labels, (name, "z")).fingerprint()

    assert fingerprint() == fingerprint()
    assert len({fingerprint(), fingerprint(pixel=1), fingerprint(label=1), fingerprint(name="b")}) == 4
    assert len(fingerprint()) == 64


def test_lazy_fingerprint_sees_names_and_content_but_not_the_folder():
    pixels = bytes_images()

    def fingerprint(names="0123456789", where="", values=pixels):
        return LazyImages(10, lambda i: values[i], names=list(names), where=where).fingerprint()

    assert fingerprint() == fingerprint(where="/elsewhere/")
    assert len({fingerprint(), fingerprint(names="012345678x"), fingerprint(values=255 - pixels)}) == 3


def test_adapted_keeps_the_first_images_and_converts_channels():
    colour = ArrayImages(bytes_images(channels=3), torch.arange(10))
    grey = Adapted(colour, n=4, channels=1)
    assert (len(grey), grey.shape, grey.labels.tolist()) == (4, (1, 4, 4), [0, 1, 2, 3])
    x, y = colour.read(torch.arange(4)), grey.read(torch.arange(4))
    assert torch.allclose(y[:, 0], 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2], atol=1e-6)
    again = Adapted(grey, channels=3).read(torch.arange(4))
    assert torch.equal(again, y.expand(-1, 3, -1, -1))
    assert grey.fingerprint() != Adapted(colour, n=5, channels=1).fingerprint()


FIRST_FINGERPRINTS = ["7a285756591f5169", "9b1020832346113f", "034f09d101bbb80d", "1a6d109acd57c886"]


def bits(n=10, a=3):
    return torch.arange(n * a).view(n, a) % 2


def test_attributes_go_with_their_images_through_every_wrapper():
    names = ("x", "y", "z")
    images = ArrayImages(bytes_images(), bits(), attributes=names)
    lazy = LazyImages(10, lambda i: images.pixels[i], bits(), attributes=names)
    for whole in (images, lazy):
        for taken, index in ((Adapted(whole, n=4), [0, 1, 2, 3]), (EvenSubset(whole, 5), [0, 2, 4, 6, 8])):
            assert taken.attributes == names
            assert taken.classes == ()
            assert torch.equal(taken.labels, bits()[index])


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (bits()[:, :2], (), r"\(10, 3\)"),
        (bits()[:, 0], (), r"\(10, 3\)"),
        (None, (), "got none"),
        (2 * bits() - 1, (), "from -1 to 1, allowed is 0"),
        (bits(), ("cat", "dog"), "classes cannot have attributes"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(labels, classes, message):
    with pytest.raises(DataError, match=message):
        ArrayImages(bytes_images(), labels, classes, ("x", "y", "z"))


def test_fingerprints_see_attributes_and_their_names():
    def fingerprints(labels=None, names="xyz"):
        labels, pixels = bits() if labels is None else labels, bytes_images()
        images = ArrayImages(pixels, labels, attributes=names)
        lazy = LazyImages(10, lambda i: pixels[i], labels, attributes=names)
        return {
            images.fingerprint(),
            lazy.fingerprint(),
            Adapted(images, 4).fingerprint(),
            Adapted(lazy, 4).fingerprint(),
        }

    changed = bits()
    changed[9, 2] = 1 - changed[9, 2]
    assert fingerprints() == fingerprints()
    assert len(fingerprints() | fingerprints(changed) | fingerprints(names="xyw")) == 12


def test_fingerprints_are_those_of_the_first_version():
    """Runs that were started before there were attributes resume."""
    pixels = (torch.arange(10 * 16) % 256).to(torch.uint8).view(10, 1, 4, 4)
    labels, classes = torch.arange(10) % 2, ("a", "b")
    made = [
        ArrayImages(pixels, labels, classes),
        LazyImages(10, lambda i: pixels[i], labels, classes, list("0123456789")),
    ]
    made += [Adapted(made[0], 4), ArrayImages(pixels)]
    assert [images.fingerprint()[:16] for images in made] == FIRST_FINGERPRINTS
