"""A phase of training: one module whose `forward` is the loss, and what it updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs
from torch import nn

from hebm.data.batches import Batches
from hebm.errors import ConfigError
from hebm.interfaces import Backbone, Batch, FitsStatistics, Loss, PriorLearner, Progress, Stage
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.store.row_cache import RowCache
from hebm.tilts import Tilt, sees_of
from hebm.training.optimization import Optimization
from hebm.validated import Validated

if TYPE_CHECKING:
    from hebm.data.images import Images

STAGE_LOSS = "stage_loss"
"""The term with the loss of a prior's stage, in a phase that trains more than the stage."""


@attrs.frozen(eq=False)
class Supplies:
    """What a phase may use besides its batches.

    Arguments:
        batches: where they come from; None outside of a run.
        cache: keeps rows that take long to compute; bound to the data and the backbone's recipe, not to weights.
    """

    batches: Batches | None = None
    cache: RowCache = attrs.field(factory=RowCache)


class Group:
    """Parameters with one optimiser.

    Arguments:
        owner: the module that is averaged and saved as a whole, "backbone" or "prior" by the group's name.
        trained: its sub-modules whose parameters are updated, except parameters that were created with
            `requires_grad=False` (the group must be made before the first phase changes this).
        optimization: how they are updated.
    """

    def __init__(self, owner: nn.Module, trained: tuple[nn.Module, ...], optimization: Optimization) -> None:
        self.owner, self.trained, self.optimization = owner, trained, optimization
        wanted = {id(p) for module in trained for p in module.parameters() if p.requires_grad}
        self._names = frozenset(name for name, p in owner.named_parameters() if id(p) in wanted)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are updated, by name within the owner."""
        return {name: p for name, p in self.owner.named_parameters() if name in self._names}


class Phase(nn.Module, ABC):
    """One phase of training: a module whose `forward` is the loss.

    Only the phase is wrapped for several processes, so gradients are averaged only if they come from `forward`.

    Arguments:
        name: unique within the run.
        steps: greatest number of steps.
        groups: parameter groups by name; all other parameters are frozen during the phase.
        patience: the phase ends when the mean loss over this many steps is not below the mean over as many steps
            before; 0 takes all steps. A phase with a validation loss ends when that is not below what it was this many
            steps before.
        watched: name of the term whose mean `patience` compares.
        one_clip: clip the gradients of all groups as one vector, by the first group's `clip`.

    Attributes:
        own_epochs: whether its batches start with the data's first epoch, whatever phases were before.
    """

    own_epochs: bool = False

    def __init__(
        self,
        name: str,
        steps: int,
        groups: Mapping[str, Group],
        patience: int = 0,
        watched: str = "loss",
        one_clip: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.steps, self.groups = name, steps, dict(groups)
        self.patience, self.watched, self.one_clip = patience, watched, one_clip

    @property
    def key(self) -> str:
        """The name as part of a noise's key."""
        return self.name.replace(" ", "-")

    @abstractmethod
    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return the loss of one batch; the noise is derived from the step, and its rows are the batch's."""

    def start(self, noise: Noise, supplies: Supplies = Supplies()) -> None:
        """Set train and eval modes, and fold frozen modules. Called once when the phase starts or resumes.

        Arguments:
            noise: the same each time the phase starts or resumes, and on every process.
            supplies: what else the phase may use.
        """
        self.train()

    def validated(self, prior: PriorLearner, batch: Batch, noise: Noise) -> Validated | None:
        """Return draws of held-out images by which the phase is validated; None for a phase without validation.

        Called after `start`, without gradients. The draws must stay the same while the phase is trained.

        Arguments:
            prior: the phase's own, or its averaged copy, in eval mode.
            batch: held-out images.
            noise: its rows are the images' numbers.
        """
        return None

    @property
    def finishes(self) -> bool:
        """Whether `finish` does anything. A checkpoint is saved before it, so that training can go on from there."""
        return type(self).finish is not Phase.finish

    def finish(self, owner: nn.Module, noise: Noise) -> None:
        """Finalize a trained module. Called after the last step, before the checkpoint that ends the phase.

        Arguments:
            owner: a group's owner, and in another call its averaged copy.
            noise: the same in each call, and on every process.
        """


def require_density_of_latents(prior: PriorLearner, backbone: Backbone, scheme: str) -> None:
    """Raise `ConfigError` unless the prior has an unnormalised density whose energies see latents alone.

    Such a scheme trains the generator. An energy of what the generator decodes would depend on it, and no loss of the
    scheme has that gradient.
    """
    way_on = 'use train.type = "two-phase"'
    if sees_of(prior):
        seen = " and ".join(map(repr, sees_of(prior)))
        raise ConfigError(
            f"train.type: scheme {scheme!r} trains the generator, and an energy of this prior sees what the generator "
            f"decodes ({seen}); {way_on}"
        )
    if prior.density(backbone) is None:
        raise ConfigError(
            f"train.type: scheme {scheme!r} needs a prior with an unnormalised density, {type(prior).__name__} has "
            f"none; {way_on}"
        )


def start_stage(stage: Stage | None, backbone: Backbone, noise: Noise, cache: RowCache = RowCache()) -> None:
    """Call a stage's `start`, if it has one, when its phase starts or resumes."""
    if stage is not None and stage.start is not None:
        stage.start(backbone, noise.derive(stage.key), cache)


class SchemeRecipe(ABC):
    """Group `hebm_schemes`: lists the phases of training, and infers the latents of given images.

    Attributes:
        infers_by_q: whether `posterior` draws from the backbone's q(z|x) and depends on nothing else. Reconstructions
            are then shared by all priors on a backbone.
    """

    group: ClassVar[str] = "hebm_schemes"
    infers_by_q: ClassVar[bool] = False

    def prepare(self, backbone: Backbone, prior: PriorLearner, images: Images, noise: Noise) -> None:
        """Prepare the initial weights. Called once before a run's first step.

        Arguments:
            backbone: with its initial weights.
            prior: with its initial weights.
            images: the training images.
            noise: for anything drawn here; the same on every process.
        """
        if isinstance(backbone, FitsStatistics):
            backbone.fit_statistics(images)

    @abstractmethod
    def phases(self, backbone: Backbone, prior: PriorLearner) -> tuple[Phase, ...]:
        """Return the phases in order. Raises `ConfigError` if backbone or prior do not fit the scheme."""

    @abstractmethod
    def posterior(self, backbone: Backbone, tilt: Tilt | None, batch: Batch, noise: Noise) -> Posterior:
        """Infer latents of given images: by q(z|x), or by MCMC under a tilt (None for a root)."""
