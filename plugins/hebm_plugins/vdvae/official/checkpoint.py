"""Convert the checkpoint files of the published VDVAE code to a trained VDVAE, and back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from typing_extensions import override

from hebm.config.experiment import Experiment
from hebm.config.recipes import option, recipe
from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec
from hebm.porting import CheckpointFormat, ConvertedCheckpoint, ForeignFile
from hebm.published_weights import listed
from hebm_plugins.vdvae.normalisation import PUBLISHED
from hebm_plugins.vdvae.official.configuration import Wanted, configuration_of, outline
from hebm_plugins.vdvae.official.experiment import experiment_of
from hebm_plugins.vdvae.official.files import checkpoint_of
from hebm_plugins.vdvae.official.moments import moments_of
from hebm_plugins.vdvae.official.training_log import TrainingLog
from hebm_plugins.vdvae.presets import PRESETS
from hebm_plugins.vdvae.recipe import VDVAE
from hebm_plugins.vdvae.structure import default_strings

_OWN = "normalisation."
"""Start of the names of our buffers, which no published file has."""


@recipe
class VDVAECheckpoint(CheckpointFormat):
    """`iter-N-model-ema.th` of the published VDVAE code (arXiv 2011.10650), with optimiser and log if they are given.

    These files hold weights only. The published models are recognised by the shapes of their weights. For another
    model, give what the weights do not show: its layer strings and the constants of its data set; or its log.
    """

    preset: str | None = option(
        None, doc="published configuration of the model; by default it is recognised", choices=tuple(PRESETS)
    )
    encoder: str | None = option(None, doc="layer string of the encoder, such as 32x11,32d2,16x6")
    decoder: str | None = option(None, doc="layer string of the decoder, such as 1x1,4m1,4x2")
    normalisation: str | None = option(
        None, doc="data set whose constants standardise the encoder's input", choices=tuple(PUBLISHED)
    )
    input_mean: float | None = option(None, doc="mean of the encoder's input, with input-std", unit="levels 0 to 255")
    input_std: float | None = option(
        None, doc="deviation of the encoder's input, with input-mean", unit="levels 0 to 255", above=0
    )
    bits: int | None = option(
        None, doc="bits per colour of the likelihood; by default 5 for models of ffhq256, else 8", low=1, high=8
    )

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` for options that exclude each other."""
        if self.preset and (self.encoder or self.decoder):
            raise ConfigError(f"preset = {self.preset!r} has its own layer strings; leave encoder and decoder out")
        if (self.input_mean is None) != (self.input_std is None):
            raise ConfigError("give both input_mean and input_std, or neither")
        if self.normalisation and self.input_mean is not None:
            raise ConfigError("give either normalisation or input_mean and input_std")

    def read(self, files: tuple[ForeignFile, ...]) -> ConvertedCheckpoint:
        """Convert weights, and the optimiser's moments if they are given. The configuration comes from the shapes."""
        checkpoint = checkpoint_of(files)
        found = configuration_of(checkpoint.weights, self._wanted(checkpoint.log))
        experiment, assumed = experiment_of(checkpoint, found)
        weights = dict(checkpoint.weights)
        moments = {} if checkpoint.optimizer is None else moments_of(checkpoint.optimizer, weights)
        leftovers = {"keys": list(weights), "metadata": getattr(checkpoint.weights, "_metadata", None)}
        named = _of_name(checkpoint.name, found.shapes)
        notes = (*named, *found.notes, *assumed, *checkpoint.notes)
        return ConvertedCheckpoint(experiment, found.images, weights, moments, checkpoint.step, leftovers, notes)

    def _wanted(self, log: TrainingLog | None) -> Wanted:
        """Return what the options say, and the log where they are silent."""
        encoder, decoder = self.encoder, self.decoder
        if log is not None and self.preset is None:
            encoder, decoder = encoder or log.text("enc_blocks"), decoder or log.text("dec_blocks")
        logged = (log.text("dataset") or "").replace("_", "") if log else ""
        images = logged if logged in PUBLISHED else None
        return Wanted(self.preset, encoder, decoder, self._inputs(images), self.bits, images)

    def _inputs(self, logged: str | None) -> dict[str, Any]:
        if self.input_mean is not None:
            return {"input_mean": self.input_mean, "input_std": self.input_std}
        name = self.normalisation or logged
        return {"normalisation": name} if name else {}

    def write(self, converted: ConvertedCheckpoint) -> ForeignFile:
        """Write the weights as a state dict in float32, without the constants that standardise the input."""
        names = _official_names(converted.experiment, converted.images)
        absent = [name for name in names if name not in converted.backbone]
        if absent:
            raise CheckpointError(f"the run's backbone lacks {listed(absent)}; another version of hebm wrote it")
        left = converted.leftovers or {"keys": names, "metadata": None}
        state = OrderedDict((name, converted.backbone[name].float()) for name in left["keys"])
        if left["metadata"] is not None:
            state._metadata = left["metadata"]  # type: ignore[attr-defined]
        return ForeignFile(f"iter-{converted.step}-model-ema.th", state)

    @override
    def reading(self, converted: ConvertedCheckpoint) -> VDVAECheckpoint:
        backbone = vdvae_of(converted.experiment)
        preset = next((name for name in PRESETS if VDVAE(**PRESETS[name].backbone) == backbone), None)
        if preset is not None:
            return VDVAECheckpoint(preset=preset)
        encoder, decoder = default_strings(converted.images.height)
        return VDVAECheckpoint(
            encoder=backbone.encoder or encoder,
            decoder=backbone.decoder or decoder,
            bits=backbone.bits,
            **_constants(backbone, converted.backbone),
        )

    def example(self) -> tuple[Experiment, ImageSpec]:
        """Return a small VDVAE of 8×8 images."""
        strings = {"encoder": "8x1,8d2,4d4,1x1", "decoder": "1x1,4m1,8m4"}
        backbone = {"type": "vdvae", **strings, "width": 4, "latent_channels": 2, "mixtures": 1, "bits": 5}
        data = {"type": "image-folder", "root": "images", "size": 8, "channels": 3}
        table = {"data": data, "backbone": {**backbone, "normalisation": "ffhq256"}, "prior": {"type": "gaussian"}}
        return Experiment.from_table({"name": "example", **table}), ImageSpec(3, 8, 8)


def _of_name(name: str, shapes: str | None) -> list[str]:
    """Return a note if the file's name is that of another published model than its shapes."""
    called = next((other for other in PRESETS if other in name.replace("_", "")), None)
    if called in (None, shapes) or shapes is None:
        return []
    return [f"{name} is called {called}, but its weights have the shapes of {shapes}: they are imported as {shapes}"]


def _constants(backbone: VDVAE, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the options for the constants that standardise the input: named, given, or measured by the run."""
    if backbone.input_mean is not None:
        return {"input_mean": backbone.input_mean, "input_std": backbone.input_std}
    if backbone.normalisation != "data":
        return {"normalisation": backbone.normalisation}
    return {f"input_{key}": float(weights[f"{_OWN}{key}"]) for key in ("mean", "std")}


def vdvae_of(experiment: Experiment) -> VDVAE:
    """Return the experiment's backbone. Raises `CheckpointError` if it is not a VDVAE."""
    backbone = experiment.backbone
    if not isinstance(backbone, VDVAE):
        raise CheckpointError(f"the run's backbone is a {type(backbone).__name__}; this format supports only vdvae")
    return backbone


def _official_names(experiment: Experiment, images: ImageSpec) -> list[str]:
    """Return the published names of a run's weights in order.

    Raises `CheckpointError` for images and a likelihood that the published code does not support.
    """
    backbone = vdvae_of(experiment)
    if images.channels != 3 or images.binary:
        kind = "binary images" if images.binary else f"images of {images.channels} channels"
        raise CheckpointError(f"the published code supports only colour images; these are {kind}")
    if backbone.likelihood not in (None, "logistic-mixture"):
        raise CheckpointError(
            f"the published code supports only the likelihood logistic-mixture; the run has {backbone.likelihood}"
        )
    if backbone.bits not in (5, 8):
        raise CheckpointError(f"the published code supports 5 and 8 bits per colour; the run has {backbone.bits}")
    return [name for name in outline(backbone, images).state_dict() if not name.startswith(_OWN)]
