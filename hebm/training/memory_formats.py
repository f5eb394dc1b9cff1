"""Choose the memory format in which a backbone is trained: contiguous or channels-last, whichever is faster here.

Convolutions return what they receive, so a backbone whose kernels are channels-last computes in that format throughout.
Which one is faster depends on the processor, the nets and the batch. A run measures it once, stores the result in
`run.cache_folder`, and records its choice in its checkpoints. Both formats give the same numbers up to rounding.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import attrs
import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from hebm.config.paths import expanded
from hebm.errors import CheckpointError
from hebm.interfaces import Batch, InferringBackbone, Progress
from hebm.noise import Noise
from hebm.store.json_shapes import read_json, shaped
from hebm.store.metrics import write_json_atomic
from hebm.training.run_state import RunState
from hebm.training.saved_state import Format

FORMATS: Mapping[Format, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels-last": torch.channels_last,
}
FEWEST_STEPS = 500
"""Shorter phases are trained contiguous without measuring, which would take longer than it can save."""
_GAIN = 1.03
"""The smallest speed-up for which channels-last is chosen."""
_REPEATS = 4
_WIDEST_REGISTER = 16
"""Number of float32 values in a register of AVX-512."""


@attrs.frozen
class Seconds:
    """Measured seconds of the forward and backward pass of one batch.

    Arguments:
        contiguous, channels_last: the smallest of several times in each format.
    """

    contiguous: float
    channels_last: float

    @property
    def gain(self) -> float:
        """Return the speed-up of channels-last."""
        return self.contiguous / self.channels_last

    @property
    def faster(self) -> Format:
        """Return the faster format; contiguous if the difference is within the noise of the measurement."""
        return "channels-last" if self.gain >= _GAIN else "contiguous"


def to_format(module: nn.Module, name: Format) -> None:
    """Store the kernels of all convolutions of a module in a format, in place."""
    module.to(memory_format=FORMATS[name])


def choose(run: RunState, steps: int) -> Format:
    """Return the format for training a run's backbone. Every process must call this, and gets the same.

    Arguments:
        run: the state of the run; `run.memory_format` is the choice of an earlier phase, or None.
        steps: number of steps that the phase still has to do.
    """
    setting, backbone = run.job.settings.memory_format, run.job.model.backbone
    if setting != "auto":
        return setting
    if run.memory_format is not None:
        return run.memory_format
    if steps < FEWEST_STEPS or not isinstance(backbone, InferringBackbone) or not _has_maps(backbone):
        return "contiguous"
    if run.accelerator.device.type == "cpu" and any(map(_is_unsafe_on_cpus, backbone.modules())):
        return "contiguous"
    found = _known_or_measured(run, backbone)
    if found.faster == "channels-last":
        run.listener.said(f"the backbone is trained in channels-last format, {found.gain:.2f} times as fast here")
    return found.faster


def _has_maps(backbone: nn.Module) -> bool:
    """Return whether the backbone has convolutions, whose kernels have four axes."""
    return any(parameter.ndim == 4 for parameter in backbone.parameters())


def _is_unsafe_on_cpus(module: nn.Module) -> bool:
    """Return whether oneDNN may write outside its memory when it trains a module in channels-last format.

    It does for torch's own strided 1×1 convolutions with fewer input channels than a register holds
    (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """
    if not isinstance(module, nn.Conv2d) or type(module)._conv_forward is not nn.Conv2d._conv_forward:
        return False
    few = module.in_channels // module.groups < _WIDEST_REGISTER
    return few and module.kernel_size == (1, 1) and module.stride != (1, 1)


def _known_or_measured(run: RunState, backbone: InferringBackbone) -> Seconds:
    """Return the seconds stored by an earlier run on this device, or measure and store them."""
    batch = next(run.job.batches.iterate(0, 1, run.job.settings.gradient_accumulation))
    path = _path(run, backbone, batch)
    (known,) = broadcast_object_list([_stored(path) if run.main else None])
    if known is not None:
        return cast("Seconds", known)
    found = _measured(run, backbone, batch)
    if run.main:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, attrs.asdict(found))
    return found


def _path(run: RunState, backbone: nn.Module, batch: Batch) -> Path:
    """Return the file of the measurement: one for each device, version of torch, net, batch and precision."""
    device = run.accelerator.device
    cpu = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {cpu}"
    shapes = [(key, tuple(p.shape), str(p.dtype)) for key, p in backbone.named_parameters()]
    processes, precision = run.accelerator.num_processes, run.job.settings.mixed_precision
    identity = name, torch.__version__, type(backbone).__name__, shapes, tuple(batch.x.shape), processes, precision
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return Path(expanded(run.job.settings.cache_folder)) / "memory-formats" / f"{key}.json"


def _stored(path: Path) -> Seconds | None:
    """Return the stored measurement, or None if there is none that can be read."""
    try:
        return cast("Seconds", shaped(Seconds, read_json(path, "delete it"))) if path.exists() else None
    except (CheckpointError, ValueError):  # a damaged entry is measured again
        return None


def _measured(run: RunState, backbone: InferringBackbone, batch: Batch) -> Seconds:
    """Time the objective of a batch in both formats, and restore the backbone."""
    kept = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    training, times = backbone.training, {name: list[float]() for name in FORMATS}
    backbone.train()
    for turn in range(_REPEATS + 1):
        for name in sorted(FORMATS, reverse=turn % 2 == 0):
            to_format(backbone, name)
            seconds = _time_of(run, backbone, batch)
            if turn:  # the first pass warms up
                times[name].append(seconds)
    to_format(backbone, "contiguous")
    backbone.load_state_dict(kept)
    backbone.train(training)
    contiguous, channels_last = (run.mean(torch.tensor(min(times[name]), device=batch.x.device)) for name in FORMATS)
    return Seconds(contiguous, channels_last)


def _time_of(run: RunState, backbone: InferringBackbone, batch: Batch) -> float:
    """Return the seconds of one forward and backward pass."""
    noise, progress = Noise(0, "memory format", device=batch.x.device, dtype=batch.x.dtype), Progress(1, 2)
    _synchronize(batch.x.device)
    start = time.perf_counter()
    with run.accelerator.autocast():
        loss = backbone.objective(batch, noise, progress).total
    run.accelerator.backward(loss)
    _synchronize(batch.x.device)
    seconds = time.perf_counter() - start
    backbone.zero_grad(set_to_none=True)
    return seconds


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
