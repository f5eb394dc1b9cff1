import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from hebm.data.decode import CorruptImage, Decoder
from hebm.errors import DataError


def png(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.stack([RAMP, RAMP.T, 255 - RAMP], -1)


def test_grey_and_rgb_are_taken_as_they_are():
    assert torch.equal(Decoder()(png(Image.fromarray(RAMP)), "a"), torch.from_numpy(RAMP)[None])
    assert torch.equal(Decoder()(png(Image.fromarray(COLOUR)), "a"), torch.from_numpy(COLOUR).permute(2, 0, 1))


def test_black_and_white_becomes_0_and_255():
    decoded = Decoder()(png(Image.fromarray(RAMP > 100)), "a")
    assert decoded.unique().tolist() == [0, 255]


AWKWARD = {
    "grey with alpha": Image.fromarray(RAMP).convert("LA"),
    "colour with alpha": Image.fromarray(COLOUR).convert("RGBA"),
    "palette": Image.fromarray(COLOUR).quantize(8),
    "16-bit": Image.fromarray(RAMP.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", AWKWARD)
def test_other_modes_need_the_channels_option_and_are_named(kind):
    data = png(AWKWARD[kind])
    with pytest.raises(DataError, match=r"photos/7\.png: mode .* set data\.channels = 1 \(grey\) or 3"):
        Decoder()(data, "photos/7.png")
    for channels in (1, 3):
        assert Decoder(channels)(data, "a").shape == (channels, 16, 16)


def test_cmyk_needs_the_channels_option():
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).convert("CMYK").save(buffer, "JPEG")
    with pytest.raises(DataError, match="CMYK"):
        Decoder()(buffer.getvalue(), "a.jpg")
    assert Decoder(3)(buffer.getvalue(), "a.jpg").shape == (3, 16, 16)


def test_16_bit_values_become_the_same_shades_in_8_bits():
    assert torch.equal(Decoder(1)(png(AWKWARD["16-bit"]), "a"), torch.from_numpy(RAMP)[None])


def test_transparent_pixels_become_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[0, 0] = (255, 0, 0, 255)
    decoded = Decoder(3)(png(Image.fromarray(rgba)), "a")
    assert decoded[:, 0, 0].tolist() == [255, 0, 0]
    assert decoded[:, 1, 1].tolist() == [255, 255, 255]


def test_a_transparent_colour_of_an_rgb_file_is_no_plain_rgb():
    data = png(Image.fromarray(COLOUR), transparency=(0, 0, 255))
    with pytest.raises(DataError, match="transparency"):
        Decoder()(data, "a.png")
    assert Decoder(3)(data, "a.png").shape == (3, 16, 16)


@pytest.mark.parametrize("cut", [0, 10, 60, 200])
def test_a_truncated_file_is_named_with_what_to_do(cut):
    data = png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)))
    with pytest.raises(CorruptImage, match=r'broken\.png: cannot be read.*data\.corrupt = "skip"') as caught:
        Decoder()(data[:cut], "broken.png")
    assert "BytesIO" not in str(caught.value)


def test_any_flipped_byte_either_decodes_or_is_a_data_error():
    data, messages = png(Image.fromarray(COLOUR)), []
    for i in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[i] ^= 0x55
        try:
            Decoder(3)(bytes(damaged), "x.png")
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all("x.png" in message for message in messages)


def test_the_shorter_side_is_resized_and_the_centre_cut():
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200
    decoded = Decoder(size=10)(png(Image.fromarray(wide)), "a")
    assert decoded.shape == (1, 10, 10)
    assert decoded[0, :, 1:-1].unique().tolist() == [200]


def test_crop_comes_before_resize():
    centred = Decoder(crop=8)(png(Image.fromarray(RAMP)), "a")
    assert torch.equal(centred[0], torch.from_numpy(RAMP)[4:12, 4:12])
    box = Decoder(crop=(1, 2, 9, 10))(png(Image.fromarray(RAMP)), "a")
    assert torch.equal(box[0], torch.from_numpy(RAMP)[2:10, 1:9])
    assert Decoder(crop=8, size=4)(png(Image.fromarray(RAMP)), "a").shape == (1, 4, 4)


def test_a_crop_beyond_the_image_is_refused():
    with pytest.raises(DataError, match=r"16×16 pixels, smaller than data\.crop = 20"):
        Decoder(crop=20)(png(Image.fromarray(RAMP)), "a")


def test_the_camera_s_orientation_is_obeyed():
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((8, 4), np.uint8)).save(buffer, "PNG", exif=exif)
    assert Decoder()(buffer.getvalue(), "a").shape == (1, 4, 8)


def test_what_is_too_small_for_the_crop_is_taken_as_cut_already_if_it_has_the_size_that_comes_out():
    small = png(Image.fromarray(RAMP))
    assert torch.equal(Decoder(1, 16, crop=20, ready=(16, 16))(small, "a"), torch.from_numpy(RAMP)[None])
    assert Decoder(1, 16, crop=8, ready=(16, 16))(small, "a").shape == (1, 16, 16)
    assert not torch.equal(Decoder(1, 16, crop=8, ready=(16, 16))(small, "a"), torch.from_numpy(RAMP)[None])
    with pytest.raises(DataError, match=r"smaller than data\.crop = 20"):
        Decoder(1, 16, crop=20, ready=(15, 15))(small, "a")


def claiming(width, height):
    """A PNG whose header claims a size that its data do not have."""
    data = bytearray(png(Image.fromarray(RAMP)))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded_and_the_key_is_named():
    with pytest.raises(DataError, match=r"^a: has 60,000 × 60,000 pixels, more than data\.max_pixels = 178,956,970;"):
        Decoder()(claiming(60_000, 60_000), "a")
    with pytest.raises(DataError, match=r"has 16 × 16 pixels, more than data\.max_pixels = 255"):
        Decoder(max_pixels=255)(png(Image.fromarray(RAMP)), "a")


def test_a_large_image_is_read_where_it_is_allowed_and_pillows_own_limit_stays(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert Decoder(max_pixels=256)(png(Image.fromarray(RAMP)), "a").shape == (1, 16, 16)
    assert Image.MAX_IMAGE_PIXELS == 10
