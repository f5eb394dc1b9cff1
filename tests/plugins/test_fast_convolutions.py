"""The faster forms of convolutions, and of up-sampling, equal the plain ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hebm_plugins.fast_convolutions import Conv2d, ConvTranspose2d, is_channels_last, memory_format_of
from hebm_plugins.nvae.batch_norm import BatchNorm
from hebm_plugins.nvae.cells import Doubling
from hebm_plugins.nvae.convolutions import WNConv2d, shared_kernels
from hebm_plugins.nvae.ops import UP, InvertedBottleneck
from hebm_plugins.nvae.spectral import SpectralSum

FORMATS = (torch.contiguous_format, torch.channels_last)
DEPTHWISE = {"kernel_size": 5, "padding": 2, "groups": 6}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pair(inputs, outputs, **settings):
    """The fast convolution and torch's, with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        plain = nn.Conv2d(inputs, outputs, **settings)
    fast = Conv2d(inputs, outputs, **settings)
    fast.load_state_dict(plain.state_dict())
    return fast, plain


def results(conv, x):
    """Output and all gradients of a function that is not linear in the output."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = conv(x)
    return (out, *torch.autograd.grad(out.sin().sum(), [x, *conv.parameters()]))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("inputs", "outputs", "settings"),
    [
        (6, 6, DEPTHWISE),
        (6, 6, {"kernel_size": (3, 5), "padding": (1, 2), "groups": 6}),
        (6, 4, {"kernel_size": 1}),
        (6, 4, {"kernel_size": 1, "stride": 2}),
        (6, 4, {"kernel_size": 1, "stride": (2, 3)}),
        (6, 4, {"kernel_size": (8, 7)}),
        (6, 4, {"kernel_size": (8, 7), "stride": 2}),
        (6, 4, {"kernel_size": (8, 7), "padding": 1}),
        (6, 4, {"kernel_size": (7, 8), "padding": (0, 1)}),
    ],
)
def test_values_and_gradients_are_those_of_torch(inputs, outputs, settings, bias, memory_format):
    fast, plain = pair(inputs, outputs, bias=bias, **settings)
    x = random(3, inputs, 8, 7)
    found = results(fast.to(memory_format=memory_format), x.to(memory_format=memory_format))
    for ours, theirs in zip(found, results(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize(
    "settings", [{}, {"bias": False}, {"stride": 2}, {"padding": 1}, {"output_padding": 1, "stride": 2}]
)
def test_a_transposed_convolution_is_that_of_torch(side, settings, memory_format):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        plain = nn.ConvTranspose2d(3, 4, 5, **settings).to(memory_format=memory_format)
    fast = ConvTranspose2d(3, 4, 5, **settings).to(memory_format=memory_format)
    fast.load_state_dict(plain.state_dict())
    x = random(2, 3, side, side)
    assert memory_format_of(fast(x)) is memory_format
    for ours, theirs in zip(results(fast, x), results(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_depthwise_convolution_is_differentiable_twice():
    fast, plain = pair(6, 6, **DEPTHWISE)

    def second(conv):
        x = random(2, 6, 8, 8).requires_grad_()
        (slope,) = torch.autograd.grad(conv(x).sin().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), [x, conv.weight])

    for ours, theirs in zip(second(fast), second(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_fast_gradient_is_used_for_float32_and_odd_kernels_of_stride_one_only():
    def used(dtype=torch.float32, **settings):
        conv, x = Conv2d(6, 6, **{**DEPTHWISE, **settings}).to(dtype), random(2, 6, 8, 8, dtype=dtype)
        return "Depthwise" in str(conv(x).grad_fn)

    assert used(bias=False)
    assert used()
    assert not used(stride=2)
    assert not used(padding=1)
    assert not used(kernel_size=4)
    assert not used(groups=2)
    assert not used(dilation=2, padding=4)
    assert not used(dtype=torch.float64)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pointwise_convolution_keeps_channels_last(stride):
    fast, _ = pair(6, 4, kernel_size=1, stride=stride)
    assert is_channels_last(fast(random(2, 6, 8, 8).to(memory_format=torch.channels_last)))
    assert memory_format_of(fast(random(2, 6, 8, 8))) is torch.contiguous_format


# ---------------------------------------------------------------- up-sampling after the 1×1 convolution


def up_sampled_first(op, x):
    """An inverted bottleneck in the published order."""
    x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    x = F.silu(op.expand_norm(op.expand(op.norm(x))))
    x = F.silu(op.spatial_norm(op.spatial(x)))
    return op.project_norm(op.project(x))


@pytest.mark.parametrize("training", [True, False])
def test_a_bottleneck_up_samples_late_with_the_same_result_and_statistics(training):
    ours, theirs = (InvertedBottleneck(4, 2, UP, 3, 5, 0).double().train(training) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    x = 2 * random(3, 4, 5, 6, dtype=torch.float64) + 1
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = ours(a), up_sampled_first(theirs, b)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        torch.autograd.grad(out.sin().sum(), [a, *ours.parameters()]),
        torch.autograd.grad(expected.sin().sum(), [b, *theirs.parameters()]),
        rtol=1e-9,
        atol=1e-9,
    )
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, theirs.get_buffer(name), rtol=1e-10, atol=1e-12)


def test_copies_enter_the_count_of_the_unbiased_variance():
    ours, theirs = BatchNorm(3).double(), BatchNorm(3).double()
    x = random(1, 3, 1, 2, dtype=torch.float64)
    ours(x, copies=4)
    theirs(x.repeat_interleave(4, 3))
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-12, atol=0)
    assert ours.num_batches_tracked == 1


def test_the_skip_path_up_samples_after_its_convolution():
    skip, x = Doubling(4).double(), random(2, 4, 5, 3, dtype=torch.float64)
    expected = skip.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True))
    torch.testing.assert_close(skip(x), expected, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- shared kernels, and memory formats


def test_a_kernel_is_computed_once_while_kernels_are_shared():
    conv, x = WNConv2d(2, 3, 3), random(1, 2, 4, 4)
    with shared_kernels():
        assert conv.kernel() is conv.kernel()
        shared = torch.autograd.grad(conv(x).sum() + conv.kernel().sum(), [*conv.parameters()])
    assert conv.kernel() is not conv.kernel()
    apart = torch.autograd.grad(conv(x).sum() + conv.kernel().sum(), [*conv.parameters()])
    torch.testing.assert_close(shared, apart)


def test_kernels_are_computed_again_after_an_error_inside():
    conv = WNConv2d(2, 3, 3)
    with pytest.raises(RuntimeError), shared_kernels():
        conv(random(1, 5, 4, 4))
    assert conv.kernel() is not conv.kernel()


def test_spectral_norms_do_not_depend_on_the_memory_format():
    kernels = [random(4, 3, 3, 3, seed=seed, dtype=torch.float64) for seed in range(2)]
    sums = [SpectralSum([kernel.shape for kernel in kernels]).double() for _ in FORMATS]
    sums[1].load_state_dict(sums[0].state_dict())
    found = [
        float(norms([kernel.to(memory_format=memory_format) for kernel in kernels], 3))
        for norms, memory_format in zip(sums, FORMATS, strict=True)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    torch.testing.assert_close(sums[0].state_dict(), sums[1].state_dict(), rtol=1e-10, atol=1e-12)
