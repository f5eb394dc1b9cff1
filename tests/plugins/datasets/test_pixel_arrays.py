import numpy as np
import pytest
import torch

from hebm.errors import ConfigError, DataError
from hebm_plugins.datasets.pixel_arrays import check_range, check_values, scaled, tensor_of, to_nchw

BYTES = torch.arange(96, dtype=torch.uint8).reshape(2, 3, 4, 4)


def test_arrays_and_tensors_share_their_memory():
    array = BYTES.numpy().copy()
    assert tensor_of(array, "train").data_ptr() == array.ctypes.data
    assert tensor_of(BYTES, "train").data_ptr() == BYTES.data_ptr()
    parameter = torch.nn.Parameter(torch.ones(2))
    assert not tensor_of(parameter, "train").requires_grad


@pytest.mark.filterwarnings("error")
def test_arrays_that_torch_cannot_share_are_copied():
    array = BYTES.numpy()
    read_only = array.copy()
    read_only.flags.writeable = False
    assert torch.equal(tensor_of(read_only, "train"), BYTES)
    assert torch.equal(tensor_of(array[::-1], "train"), BYTES.flip(0))
    assert torch.equal(tensor_of(array.astype(">f4"), "train"), BYTES.float())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([BYTES], "got list; convert a list"),
        (None, "got NoneType"),
        (np.ma.masked_array(BYTES.numpy(), BYTES.numpy() > 3), "masked array"),
        (np.array(["a"]), "holds <U1"),
        (np.array([object()]), "holds object"),
        (BYTES.to("meta"), r"on meta; pass train\.cpu\(\)"),
        (BYTES.float().to_sparse(), "sparse"),
    ],
)
def test_what_holds_no_plain_numbers_is_refused(value, message):
    with pytest.raises(DataError, match=f"^train: .*{message}"):
        tensor_of(value, "train")


def test_images_without_channels_are_grey():
    assert to_nchw(BYTES[:, 0], "train").shape == (2, 1, 4, 4)
    assert to_nchw(BYTES, "train") is BYTES


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 16), r"shape \(2, 16\); expected \(N, H, W\)"),
        ((2, 4, 4, 3), r"has 4 channels; .*train\.permute\(0, 3, 1, 2\)"),
        ((2, 4, 8, 8), "has 4 channels; keep 1 or 3"),
        ((0, 4, 4), "at least one image"),
        ((2, 0, 4), "at least one image"),
        ((1, 2, 3, 4, 4), "expected"),
    ],
)
def test_another_shape_is_shown_with_what_to_do(shape, message):
    with pytest.raises(DataError, match=message):
        to_nchw(torch.zeros(shape), "train")


FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_need_a_range_and_are_scaled_by_it(dtype):
    pixels = torch.tensor([0.0, 0.25, 1.0], dtype=dtype).reshape(1, 1, 1, 3)
    with pytest.raises(DataError, match=r"from 0 to 1; state which values are black and white, such as range=\(0, 1\)"):
        check_values(pixels, None, "train")
    for stated, expected in (((0, 1), [-1, -0.5, 1]), ((-1, 1), [0, 0.25, 1]), ((-1, 3), [-0.5, -0.375, 0])):
        check_values(pixels, stated, "train")
        x = scaled(pixels, stated)
        assert x.dtype == torch.float32
        assert x.flatten().tolist() == expected


def test_bytes_are_scaled_alike_with_and_without_their_range():
    whole = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(scaled(whole, None), scaled(whole, (0, 255)))
    assert torch.equal(scaled(whole, None), scaled(whole.float(), (0, 255)))
    assert torch.allclose(scaled(whole, None), scaled(whole.double(), (0, 255)), rtol=0, atol=1e-7)


def test_rounding_never_leaves_the_range():
    ends = (0.1, 0.7)
    x = scaled(torch.tensor(ends, dtype=torch.float64), ends)
    assert x.tolist() == [-1, 1]
    assert scaled(torch.tensor(ends), ends).abs().max() <= 1


def test_bits_as_bytes_need_a_range():
    bits = BYTES % 2
    with pytest.raises(DataError, match=r"from 0 to 1; state range=\(0, 1\) for bits, or range=\(0, 255\)"):
        check_values(bits, None, "train")
    check_values(bits, (0, 1), "train")
    assert torch.equal(scaled(bits, (0, 1)), 2 * bits.float() - 1)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64])
def test_other_types_are_named(dtype):
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(DataError, match=f"^train: holds {kind}; convert it to uint8"):
        check_values(torch.zeros(1, 1, 2, 2, dtype=dtype), (0, 1), "train")


def test_values_outside_of_the_range_are_shown():
    with pytest.raises(DataError, match=r"values run from 0 to 95, outside of range = \(0, 1\)"):
        check_values(BYTES.float(), (0, 1), "train")
    with pytest.raises(DataError, match=r"values run from 0 to 95, outside of range = \(0, 90\)"):
        check_values(BYTES, (0, 90), "train")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_counted_and_located(value):
    pixels = torch.zeros(5, 1, 2, 2)
    pixels[2:4, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"2 image\(s\) have values that are not finite, the first is image 2"):
        check_values(pixels, (0, 1), "train")


@pytest.mark.parametrize("stated", [(1, 0), (0, 0)])
def test_a_range_goes_up(stated):
    with pytest.raises(ConfigError, match=r"range = .*must be less than"):
        check_range(stated)
