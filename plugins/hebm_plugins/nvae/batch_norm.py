"""Batch normalisation with the statistics of all processes' rows, on CPUs too."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


class _Sum(torch.autograd.Function):
    """Sum over processes in the forward and backward pass: each process's output enters every process's loss."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def process_count() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(tensor: Tensor) -> Tensor:
    """Return the differentiable mean of a tensor over processes; with one process, the tensor itself.

    Every process must call it, in the same order. All processes have the same number of rows, so the mean of their
    means is the mean over all rows. The gradient is correct after averaging gradients over processes.
    """
    processes = process_count()
    return tensor if processes == 1 else _Sum.apply(tensor) / processes


class BatchNorm(nn.BatchNorm2d):
    """y = γ (x − mean) / √(var + ε) + β over rows and positions, for x `(B, C, H, W)`.

    In training, mean and var are over the rows of all processes (`torch.nn.SyncBatchNorm` refuses CPUs); the running
    variance is unbiased. With one process, or in evaluation, it is `torch.nn.BatchNorm2d`.

    Arguments:
        channels: C.

    Attributes:
        together: whether statistics are over the rows of all processes. False is for passes that are the same in all
            processes.
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-5, momentum=0.05)
        self.together = True

    def forward(self, x: Tensor, copies: int = 1) -> Tensor:
        """Normalise x; shape and type stay the same.

        Arguments:
            x: `(B, C, H, W)`.
            copies: number of equal positions for which each position stands, if x is up-sampled later. It enters the
                count of the running variance.
        """
        if not (self.training and self.together) or process_count() == 1:
            return self._of_this_process(x, copies)
        wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        mean = mean_over_processes(wide.mean((0, 2, 3)))
        centred = wide - mean[:, None, None]
        var = mean_over_processes(centred.square().mean((0, 2, 3)))
        self._follow(mean.detach(), var.detach(), copies * x.numel() // x.shape[1] * process_count())
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _of_this_process(self, x: Tensor, copies: int) -> Tensor:
        """Normalise x by the statistics of this process; without copies, as `torch.nn.BatchNorm2d` does."""
        if copies == 1 or not self.training:
            return super().forward(x)
        with torch.no_grad():
            wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))
            var, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
        self._follow(mean, var, copies * x.numel() // x.shape[1])
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)

    def _follow(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics towards the statistics of a batch of `count` rows and positions."""
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
