"""Choose how many samples are computed at a time, from the memory that a sample needs.

A step of a chain stores activations of T, f and the image for its gradient. If B is their size for one sample, and M
the memory that all samples at a time may use for them, a batch has M / B samples, in whole blocks of noise, within
bounds. M and the bounds depend on the device alone, and not on what other programs use, so that the same command
computes the same batches again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.densities import frozen
from hebm.interfaces import tilt_after
from hebm.memory import machine_memory
from hebm.noise import BLOCK, whole_blocks
from hebm.trained import TrainedModel, evaluating
from hebm.walking import root_of

_CPU_BYTES, _CPU_ROWS = 2**30, 8 * BLOCK
"""Larger batches are not faster on a CPU: memory for them is returned to the system after each step."""
_GPU_ROWS = 32 * BLOCK


def chosen_rows(model: TrainedModel) -> int:
    """Return the number of samples to compute at a time: 64 to 512 on a CPU, to 2,048 on a GPU."""
    device = model.device
    if device.type == "cuda":
        room, most = torch.cuda.get_device_properties(device).total_memory // 8, _GPU_ROWS
    else:
        room, most = min(_CPU_BYTES, (machine_memory() or 8 * _CPU_BYTES) // 8), _CPU_ROWS
    return whole_blocks(min(max(room // max(bytes_per_sample(model), 1), BLOCK), most))


def bytes_per_sample(model: TrainedModel) -> int:
    """Return by how many bytes one more sample increases what f(T(u)) and E[x|z] store for their gradients."""
    count = model.prior.population.count
    return count * (_stored_bytes(model, 2) - _stored_bytes(model, 1))


def _stored_bytes(model: TrainedModel, n: int) -> int:
    backbone, prior, stored = model.backbone, model.prior, dict[int, Tensor]()

    def store(tensor: Tensor) -> Tensor:
        stored[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor)
    with evaluating(backbone, prior), frozen(backbone, prior):
        draw = root_of(prior).sample(backbone, n, model.noise("batch size"))
        tilt = tilt_after(prior, backbone, model.request.after)
        with torch.enable_grad(), hooks:
            latents = backbone.latents(draw.u.requires_grad_(), draw.context)
            results = (backbone.likelihood(latents).mean, tilt and tilt.at(backbone, latents))
    found = sum(tensor.untyped_storage().nbytes() for tensor in stored.values())
    del results  # until here, they keep the graph
    return found
