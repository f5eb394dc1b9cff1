"""Write the run folder of an imported checkpoint: a finished run, whose `imported/` has what `hebm export` needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
from torch import Tensor, nn

from hebm import registry
from hebm.config.components import distributions
from hebm.config.writing import dumps
from hebm.model import Model
from hebm.store import checkpoints
from hebm.store.checkpoints import Checkpoint
from hebm.store.provenance import describe_images, describe_run
from hebm.store.run_folder import RunFolder
from hebm.training.plateau import Plateau
from hebm.training.reached import planned

if TYPE_CHECKING:
    from hebm.porting import ConvertedCheckpoint

PHASE = "backbone"
"""The phase of scheme `two-phase` that an imported checkpoint is the end of."""

MOMENTS = f"optimizer-{PHASE}"
LEFTOVERS = "leftovers"


def completed(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with initial values added for buffers that the other code lacks."""
    parameters = dict(backbone.named_parameters())
    initial = {name: value for name, value in backbone.state_dict().items() if name not in parameters}
    return {**initial, **tensors}


def write_run(
    folder: RunFolder, name: str, converted: ConvertedCheckpoint, model: Model, left: tuple[Any, Mapping[str, Tensor]]
) -> None:
    """Write the configuration, the manifest, the leftovers and the checkpoint of an import into its folder.

    Arguments:
        folder: the run folder, which is empty.
        name: the format's name.
        converted: the checkpoint.
        model: the model of its experiment.
        left: its leftovers, flattened.
    """
    experiment, images = converted.experiment, converted.images
    manifest = {
        **describe_run(distributions(experiment) | _owner(name), None),  # None: no images were read
        "images": describe_images(images),
        "phases": planned(experiment.train.phases(model.backbone, model.prior)),
    }
    run_id = folder.create_or_open(dumps(experiment), manifest)["run_id"]
    rest = Checkpoint("imported", 0, converted.step, {LEFTOVERS: left[1]}, {"format": name, "tree": left[0]})
    checkpoints.save(folder.imported, rest, 2, run_id)
    weights: dict[str, Mapping[str, Tensor]] = {
        "backbone": completed(model.backbone, converted.backbone),
        "prior": model.prior.state_dict(),
        MOMENTS: converted.moments,
    }
    state = {
        "finished": True,
        "skipped": 0,
        "in_a_row": 0,
        "plateau": attrs.asdict(Plateau(0)),
        "counts": {},
        "total_used": True,
        "seconds": 0.0,
    }
    checkpoints.save(folder.checkpoints, Checkpoint(PHASE, converted.step, converted.step, weights, state), 2, run_id)


def _owner(name: str) -> set[str]:
    distribution = registry.origin("hebm_formats", name).distribution
    return {distribution} if distribution else set()
