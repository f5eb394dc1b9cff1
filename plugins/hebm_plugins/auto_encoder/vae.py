"""A user's VAE: its two parts, and the modules that hold their weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hebm import registry
from hebm.errors import CheckpointError, ConfigError
from hebm.published_weights import in_single_precision, unwrapped
from hebm.store import foreign
from hebm.store.tensor_files import digest

Part = Callable[[Tensor], Any]
"""`encode` or `decode`: a module, or a method of one."""

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")


@attrs.frozen(eq=False)
class VAE:
    """The parts of a VAE. It neither copies nor changes them.

    Arguments:
        encode: maps images `(B, C, H, W)` to the mean and the log-variance of q(z|x), two tensors `(B, *latent_shape)`.
        decode: maps z `(B, *latent_shape)` to the mean of the images, to logits, or to a distribution.

    Raises `ConfigError` for a part that is neither a module nor a method of one.
    """

    encode: Part
    decode: Part
    module: nn.Module = attrs.field(init=False)
    """Holds all weights: the module whose methods both parts are, or a dictionary of the two modules."""

    @module.default
    def _owner(self) -> nn.Module:
        first, second = _owner_of(self.encode, "encode"), _owner_of(self.decode, "decode")
        return first if first is second else nn.ModuleDict({"encoder": first, "decoder": second})

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of names, shapes and values of all weights. Values count in single precision."""
        return digest(in_single_precision({k: v.detach().cpu() for k, v in self.module.state_dict().items()})[0])

    @property
    def component(self) -> str:
        """A name for a registered backbone that builds these modules: `digits-vae` for the class `DigitsVAE`."""
        cls = type(self.module)
        if cls.__module__.startswith("torch."):
            return "my-vae"
        name = re.sub(r"^[^a-z]+", "", _WORDS.sub("-", cls.__name__).lower()).strip("-") or "vae"
        origins = registry.declared("hebm_backbones").get(name, ())
        return f"my-{name}" if any(origin.distribution == "hebm" for origin in origins) else name


def _owner_of(part: Part, name: str) -> nn.Module:
    """Return the module that holds the weights of a part."""
    owner = part if isinstance(part, nn.Module) else getattr(part, "__self__", None)
    if isinstance(owner, nn.Module):
        return owner
    raise ConfigError(
        f"AutoEncoder: {name} is a {type(part).__name__}, but a run stores weights; pass a torch.nn.Module, or a "
        f"method of one, such as vae.{name}"
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set eval mode inside the context, and restore the mode of every sub-module."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def load_weights(vae: VAE, path: str) -> None:
    """Load the weights of a file into the modules.

    Arguments:
        vae: the VAE. For two modules, the names in the file start with "encoder." and "decoder.".
        path: a `.safetensors` file, or the state_dict that `torch.save` wrote.

    Raises `CheckpointError` if the file cannot be read or its names or shapes do not fit.
    """
    content = _safetensors(Path(path)) if path.endswith(".safetensors") else foreign.load(Path(path), ())
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} does not hold a state_dict; save the vae.state_dict() to it")
    try:
        vae.module.load_state_dict(unwrapped(content)[0])
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the modules of the VAE: {error}") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
