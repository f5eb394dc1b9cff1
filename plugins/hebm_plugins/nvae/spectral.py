"""Penalties that keep an NVAE's nets smooth: spectral norms of its convolutions and scales of its BatchNorm layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm_plugins.nvae.batch_norm import BatchNorm
from hebm_plugins.precision import no_autocast

_EPSILON = 1e-3


class SpectralSum(nn.Module):
    """Σ_l u_lᵀ W_l v_l over convolutions l, their kernels read as matrices W `(O, I / groups · k · k)`.

    Power iteration, v ← Wᵀu / max(‖Wᵀu‖, 1e-3), u ← Wv / max(‖Wv‖, 1e-3), approaches the sum of the largest singular
    values from below. The u are buffers, so a resumed run continues the iteration; v is computed from u. Kernels with
    the same matrix shape are iterated together.

    Arguments:
        shapes: shapes of the kernels, in the order in which `forward` gets them.

    NVAE: arXiv 2007.03898, section 3.2.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.members: dict[tuple[int, int], list[int]] = {}
        for index, (rows, *rest) in enumerate(shapes):
            self.members.setdefault((rows, math.prod(rest)), []).append(index)
        for (rows, columns), indices in self.members.items():
            self.register_buffer(_name(rows, columns), torch.randn(len(indices), rows))

    def forward(self, kernels: Sequence[Tensor], iterations: int) -> Tensor:
        """Return the sum, a scalar, differentiable in the kernels; advance the power iteration.

        Arguments:
            kernels: kernels of the given shapes.
            iterations: number of iterations, at least 1. Each call continues from the previous u.
        """
        norms = []
        with no_autocast(kernels[0]):
            for (rows, columns), indices in self.members.items():
                matrices = torch.stack([_matrix(kernels[index]) for index in indices])
                u, v = self._iterate(matrices.detach(), self.get_buffer(_name(rows, columns)), iterations)
                norms.append((torch.bmm(matrices, v) * u).sum())
        return torch.stack(norms).sum()

    @staticmethod
    @torch.no_grad()
    def _iterate(matrices: Tensor, buffer: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """Return u `(n, O, 1)` and v `(n, rest, 1)` of matrices `(n, O, rest)`, and copy u into the buffer.

        They are new tensors, since the backward pass of an earlier call may hold the previous ones.
        """
        u, v = buffer.unsqueeze(2).to(matrices.dtype), buffer.new_empty(0)
        for _ in range(iterations):
            v = F.normalize(torch.bmm(matrices.mT, u), dim=1, eps=_EPSILON)
            u = F.normalize(torch.bmm(matrices, v), dim=1, eps=_EPSILON)
        buffer.copy_(u.squeeze(2))
        return u, v


def batch_norm_penalty(modules: Iterable[nn.Module]) -> Tensor:
    """Return Σ max |γ| over the BatchNorm layers among `modules`, a scalar; 0 if there are none."""
    scales: dict[int, list[Tensor]] = {}
    for module in modules:
        if isinstance(module, BatchNorm):
            scales.setdefault(module.num_features, []).append(module.weight)
    sums = [torch.stack(equal).abs().amax(1).sum() for equal in scales.values()]
    return torch.stack(sums).sum() if sums else torch.zeros(())


def _matrix(kernel: Tensor) -> Tensor:
    """Return a kernel as a matrix `(O, I / groups · k · k)`, its columns in the order of memory to avoid a copy.

    Singular values do not depend on the order of columns.
    """
    last = kernel.is_contiguous(memory_format=torch.channels_last)
    return (kernel.permute(0, 2, 3, 1) if last else kernel).flatten(1)


def _name(rows: int, columns: int) -> str:
    return f"u_{rows}x{columns}"
