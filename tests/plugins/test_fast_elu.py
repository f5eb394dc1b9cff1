"""The fast ELU agrees with torch's, in values, both derivatives and special numbers."""

import pytest
import torch
from torch.nn import functional as F

from hebm.noise import Noise
from hebm_plugins.fast_elu import ELU

SPECIAL = torch.tensor([float("-inf"), -1e4, -0.0, 0.0, 1e-30, 1e4, float("inf"), float("nan")])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_agree_to_rounding_and_special_numbers_exactly(dtype):
    x = 3 * Noise(0, "x", dtype=dtype).normal(1000)
    torch.testing.assert_close(ELU()(x), F.elu(x), rtol=0, atol=torch.finfo(dtype).eps)
    torch.testing.assert_close(ELU()(SPECIAL.to(dtype)), F.elu(SPECIAL.to(dtype)), rtol=0, atol=0, equal_nan=True)


def test_both_derivatives_agree():
    x = Noise(0, "x", dtype=torch.float64).normal(30).requires_grad_()
    assert torch.autograd.gradcheck(ELU(), x)
    assert torch.autograd.gradgradcheck(ELU(), x)
    found, expected = (torch.autograd.grad(f(x).sin().sum(), x)[0] for f in (ELU(), F.elu))
    torch.testing.assert_close(found, expected)


def test_half_precision_is_torchs():
    x = Noise(0, "x").normal(100).to(torch.bfloat16)
    assert torch.equal(ELU()(x), F.elu(x))


def test_it_compiles_as_one_graph():
    x = Noise(0, "x").normal(100)
    compiled = torch.compile(ELU(), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), F.elu(x))
