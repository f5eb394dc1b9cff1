"""The sum of spectral norms by power iteration, and the scales of BatchNorm layers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from hebm_plugins.nvae.batch_norm import BatchNorm
from hebm_plugins.nvae.spectral import SpectralSum, batch_norm_penalty

MNIST = Path(__file__).parents[2] / "vectors/nvae/tiny_mnist"
SHAPES = [(4, 3, 3, 3), (6, 1, 5, 5), (4, 3, 3, 3), (2, 6, 1, 1), (4, 27, 1, 1)]


def kernels(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in SHAPES]


def seeded_sum():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return SpectralSum(SHAPES).double()


def exact(tensors):
    return sum(float(torch.linalg.matrix_norm(kernel.detach().flatten(1), 2)) for kernel in tensors)


def official_kernels():
    """The effective kernel of every convolution of a published-format model without flows, in float64."""
    state = load_file(MNIST / "state_dict.safetensors")
    found = []
    for name, weight in state.items():
        if name.endswith(".weight") and weight.ndim == 4:
            norm = weight.double().flatten(1).norm(dim=1)[:, None, None, None] + 1e-5
            gain = state.get(name.removesuffix("weight") + "log_weight_norm")
            found.append(weight.double() if gain is None else gain.double().exp() * weight.double() / norm)
    return found


def test_many_iterations_give_the_sum_of_the_largest_singular_values():
    module, given = seeded_sum(), kernels()
    assert module(given, 400).item() == pytest.approx(exact(given), rel=1e-9)


def test_a_first_call_on_a_published_model_is_just_below_its_spectral_norms():
    given = official_kernels()
    truth = json.loads((MNIST / "expected.json").read_text())["spectral_sum_exact"]
    assert exact(given) == pytest.approx(truth, rel=1e-6)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = SpectralSum([kernel.shape for kernel in given]).double()
    value = module(given, 40).item()
    assert 0.998 * truth < value <= truth * (1 + 1e-9)


def test_it_is_one_power_iteration_after_another_per_kernel():
    module, given = seeded_sum(), kernels()
    starts = {name: buffer.clone() for name, buffer in module.named_buffers()}
    expected, places = 0.0, dict.fromkeys(starts, 0)
    for kernel in given:
        matrix = kernel.detach().flatten(1)
        name = f"u_{matrix.shape[0]}x{matrix.shape[1]}"
        u, places[name] = starts[name][places[name]], places[name] + 1
        for _ in range(3):
            v = F.normalize(matrix.T @ u, dim=0, eps=1e-3)
            u = F.normalize(matrix @ v, dim=0, eps=1e-3)
        expected += float(u @ matrix @ v)
    module(given, 1)
    assert module(given, 2).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_of_a_kernel_is_the_outer_product_of_its_singular_vectors():
    module, given = seeded_sum(), kernels()
    module(given, 400).backward()
    for kernel in given:
        u, _, v = torch.linalg.svd(kernel.detach().flatten(1), full_matrices=False)
        torch.testing.assert_close(kernel.grad.flatten(1), torch.outer(u[:, 0], v[0]), rtol=1e-6, atol=1e-6)


def test_a_later_call_leaves_an_earlier_ones_gradient_as_it_was():
    module, given = seeded_sum(), kernels()
    expected = torch.autograd.grad(seeded_sum()(given, 4), given)
    first = module(given, 4)
    module(kernels(1), 4)
    for a, b in zip(torch.autograd.grad(first, given), expected, strict=True):
        assert torch.equal(a, b)


def test_the_state_dict_holds_all_that_it_goes_on_from():
    module, given = seeded_sum(), kernels()
    module(given, 4)
    other = SpectralSum(SHAPES).double()
    other.load_state_dict(module.state_dict())
    assert other(given, 4).item() == module(given, 4).item()
    assert seeded_sum()(given, 4).item() != module(given, 4).item()


def test_a_kernel_that_is_zero_gives_no_nan():
    zero = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    value = seeded_sum()(zero, 2)
    value.backward()
    assert value.item() == 0
    assert all(kernel.grad.isfinite().all() for kernel in zero)


def test_autocast_changes_nothing():
    module, given = seeded_sum().float(), [kernel.detach().float() for kernel in kernels()]
    expected = seeded_sum().float()(given, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(given, 4), expected)


def test_kernels_of_other_shapes_are_refused():
    with pytest.raises(RuntimeError):
        seeded_sum()([*kernels()[:4], torch.zeros(3, 3, 3, 3, dtype=torch.float64)], 1)


def test_the_batch_norm_penalty_sums_the_largest_scales():
    layers = [BatchNorm(2), BatchNorm(3), torch.nn.Conv2d(1, 1, 1), BatchNorm(2)]
    for index, scales in {0: [1.0, -4.0], 1: [0.5, 0.1, 0.2], 3: [2.0, 3.0]}.items():
        layers[index].weight.data = torch.tensor(scales)
    penalty = batch_norm_penalty(layers)
    assert penalty.item() == 7.5
    penalty.backward()
    assert layers[0].weight.grad.tolist() == [0.0, -1.0]
