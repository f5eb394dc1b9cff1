"""Identify the images of each kind. Images of one kind are equal if their identities are equal.

An identity contains everything that the images of a kind depend on:

    "data"              the reference images
    "reconstruction"    the reference images, the backbone, the seed, decoding, and the inference of latents
    "gaussian"          the backbone with its root, the seed and decoding; for ("gaussian", τ) also τ
    "prior"             all of "gaussian" but τ, the learned prior, the request, and adapted step sizes

Weights are represented by their hash; everything else comes from `ImageSources`. The number of images and the batch
size are not part of an identity: batches are identified by their rows (`hebm.evaluation.kept_features`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import nn

from hebm.adaptation import has_target
from hebm.config.components import components
from hebm.config.writing import to_table
from hebm.data.images import Images
from hebm.evaluation.kinds import DATA, GAUSSIAN, PRIOR, RECONSTRUCTION
from hebm.store.provenance import code_digest
from hebm.store.tensor_files import digest
from hebm.trained import TrainedModel
from hebm.walking import root_of

if TYPE_CHECKING:
    from hebm.config.experiment import Experiment


@attrs.frozen
class ImageSources:
    """Everything that images depend on besides weights, in JSON types.

    Arguments:
        backbone: its recipe as a table.
        prior: its recipe as a table.
        scheme: the training scheme's recipe as a table.
        code: the hash of the code that computes images (`hebm.store.provenance.code_digest`).
    """

    backbone: Mapping[str, Any] = attrs.field(factory=dict)
    prior: Mapping[str, Any] = attrs.field(factory=dict)
    scheme: Mapping[str, Any] = attrs.field(factory=dict)
    code: str = ""

    @classmethod
    def of(cls, experiment: Experiment) -> ImageSources:
        """Return the sources of an experiment's images."""
        parts = experiment.backbone, experiment.prior, experiment.train
        code = code_digest(type(found.recipe) for part in parts for found in components(part))
        backbone, prior, scheme = map(to_table, parts)
        return cls(backbone, prior, scheme, code)


class ImageIdentity:
    """Computes the identities of a model's images.

    Arguments:
        model: the trained model.
        references: the reference images.
        binarize: how the data set binarises them for the model.
        sources: everything that images depend on besides weights.
    """

    def __init__(self, model: TrainedModel, references: Images, binarize: str, sources: ImageSources) -> None:
        self.model, self.references, self.binarize, self.sources = model, references, binarize, sources

    def of(self, kind: str | tuple[str, float]) -> dict[str, Any]:
        """Return the identity of a kind of images, in JSON types."""
        if isinstance(kind, tuple):
            return {**self.of(kind[0]), "tau": kind[1]}
        if kind == DATA:
            return {"kind": DATA, **self._data}
        if kind == RECONSTRUCTION:
            return {"kind": kind, **self._data, "binarize": self.binarize, **self._backbone, **self._inference}
        if kind == PRIOR and self.model.prior.root is not None:
            return {"kind": PRIOR, **self._backbone, **self._root, **self._prior}
        return {"kind": GAUSSIAN, **self._backbone, **self._root}

    @cached_property
    def _data(self) -> dict[str, Any]:
        computed = {"code": self.sources.code, "torch": torch.__version__, "device": self.model.device.type}
        return {"data": self.references.fingerprint(), **computed}

    @cached_property
    def _backbone(self) -> dict[str, Any]:
        model = self.model
        where = {"device": model.device.type, "dtype": str(model.dtype), "torch": torch.__version__}
        drawn = {"seed": model.seed, "decode": model.decoding, "code": self.sources.code}
        return {**where, **drawn, "backbone": [_known(model.backbone), self.sources.backbone]}

    @cached_property
    def _root(self) -> dict[str, Any]:
        """The root's weights and the recipes of its stages, which `train.backbone_from` compares too."""
        root = root_of(self.model.prior)
        return {"root": [_known(root), [repr(stage.recipe) for stage in root.stages()]]}

    @cached_property
    def _prior(self) -> dict[str, Any]:
        """The learned prior, the request and adapted step sizes. Adapts the step sizes that are not known yet."""
        model, asked = self.model, self.model.request
        request = {"steps": asked.steps, "after": asked.after, "start_proposals": asked.start_proposals}
        adapted = {step.name: model.adaptations[step.name].step_size for step in model.path if has_target(step)}
        return {"prior": [_known(model.prior), self.sources.prior], "request": request, "adapted": adapted}

    @cached_property
    def _inference(self) -> dict[str, Any]:
        """The scheme, root and prior; empty if latents come from q(z|x), which is part of the backbone."""
        scheme = self.model.scheme
        if scheme is None or scheme.infers_by_q:
            return {}
        return {"scheme": self.sources.scheme, **self._root, **self._prior}


def _known(module: nn.Module) -> list[str]:
    """Return a module's class and the hash of its weights and buffers."""
    return [f"{type(module).__module__}.{type(module).__qualname__}", digest(module.state_dict())]
