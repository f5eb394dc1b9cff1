"""Interfaces of training: a phase, a module whose `forward` is the loss, and a scheme, a list of phases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs
from torch import nn

from hebm.data.batches import Batches
from hebm.errors import ConfigError
from hebm.interfaces import Backbone, Batch, FitsStatistics, HasFinalWeights, Loss, PriorLearner, Progress, Stage
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.store.row_cache import RowCache
from hebm.tilts import Tilt, sees_of
from hebm.training.optimization import Optimization
from hebm.validated import Validated

if TYPE_CHECKING:
    from hebm.data.images import Images

BACKBONE = "backbone"
"""Name of the group of a backbone's parameters."""
STAGE_LOSS = "stage_loss"
"""Name of the term with a stage's loss, in a phase that trains more than the stage."""


@attrs.frozen(eq=False)
class Supplies:
    """Resources that a phase may use besides its batches.

    Arguments:
        batches: the source of the phase's batches; None outside a run.
        cache: stores rows that are expensive to compute; bound to the data and the backbone's recipe, not to weights.
    """

    batches: Batches | None = None
    cache: RowCache = attrs.field(factory=RowCache)


class Group:
    """A set of parameters with one optimiser.

    Arguments:
        owner: the module that is averaged and saved as a whole: the backbone or the prior.
        trained: sub-modules of `owner` whose parameters are updated. Parameters created with `requires_grad=False`
            are not; create the group before the first phase changes `requires_grad`.
        optimization: optimiser and schedule.
    """

    def __init__(self, owner: nn.Module, trained: tuple[nn.Module, ...], optimization: Optimization) -> None:
        self.owner, self.trained, self.optimization = owner, trained, optimization
        wanted = {id(p) for module in trained for p in module.parameters() if p.requires_grad}
        self._names = frozenset(name for name, p in owner.named_parameters() if id(p) in wanted)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters to update, by name within the owner."""
        return {name: p for name, p in self.owner.named_parameters() if name in self._names}


class Phase(nn.Module, ABC):
    """One phase of training: a module whose `forward` is the loss.

    With several processes only the phase is wrapped, so gradients are averaged only if they come from `forward`.

    Arguments:
        name: name of the phase, unique within the run.
        steps: largest number of steps.
        groups: parameter groups by name; all other parameters are frozen during the phase.
        patience: the phase ends when the mean loss over this many steps is not below the mean over the same number of
            steps before; 0 takes all steps. A phase with a validation loss compares this loss with its value
            `patience` steps before.
        watched: name of the term whose mean `patience` compares.
        one_clip: clip the gradients of all groups as one vector, by the first group's `clip`.

    Attributes:
        own_epochs: whether the phase's batches start with the data's first epoch, regardless of earlier phases.
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
        """The name in the form that noise keys use."""
        return self.name.replace(" ", "-")

    @abstractmethod
    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return the loss of one batch. The noise is derived from the step, with one row for each row of the batch."""

    def start(self, noise: Noise, supplies: Supplies = Supplies()) -> None:
        """Set train and eval modes, and fold frozen modules. Called once when the phase starts or resumes.

        Arguments:
            noise: noise that is the same each time the phase starts or resumes, and on every process.
            supplies: resources that the phase may use.
        """
        self.train()

    def validated(self, prior: PriorLearner, batch: Batch, noise: Noise) -> Validated | None:
        """Return draws of held-out images that validate the phase; None for a phase without validation.

        Called after `start`, without gradients. The draws must stay the same while the phase is trained.

        Arguments:
            prior: the phase's prior or its averaged copy, in eval mode.
            batch: held-out images.
            noise: noise with one row for each image number.
        """
        return None

    @property
    def finishes(self) -> bool:
        """Whether `finish` does anything. If so, a checkpoint is saved before it, so that training can be extended."""
        return type(self).finish is not Phase.finish

    def finish(self, owner: nn.Module, noise: Noise) -> None:
        """Finalize a trained module. Called after the last step, before the phase's last checkpoint.

        Arguments:
            owner: the owner of a group; a second call passes its averaged copy, if there is one.
            noise: noise that is the same in each call and on every process.
        """


def require_density_of_latents(prior: PriorLearner, backbone: Backbone, scheme: str) -> None:
    """Raise `ConfigError` unless the prior has an unnormalised density and its energies see only latents.

    For schemes that train the generator. An energy of decoded images or features would depend on the generator, and
    the losses of these schemes lack that gradient.
    """
    fix = 'use train.type = "two-phase"'
    if sees_of(prior):
        seen = " and ".join(map(repr, sees_of(prior)))
        raise ConfigError(
            f"train.type: scheme {scheme!r} trains the generator, but an energy of this prior sees what the generator "
            f"decodes ({seen}); {fix}"
        )
    if prior.density(backbone) is None:
        raise ConfigError(
            f"train.type: scheme {scheme!r} needs a prior with an unnormalised density, but {type(prior).__name__} has "
            f"none; {fix}"
        )


def require_trainable(backbone: Backbone, scheme: str) -> None:
    """Raise `ConfigError` for a backbone whose weights are final, for schemes that train it."""
    if isinstance(backbone, HasFinalWeights):
        raise ConfigError(
            f"train.type: scheme {scheme!r} trains the backbone, but the weights of this {type(backbone).__name__} are "
            'final; use train.type = "two-phase"'
        )


def start_stage(stage: Stage | None, backbone: Backbone, noise: Noise, cache: RowCache = RowCache()) -> None:
    """Call the `start` of a stage, if it has one. Phases call this when they start or resume."""
    if stage is not None and stage.start is not None:
        stage.start(backbone, noise.derive(stage.key), cache)


class SchemeRecipe(ABC):
    """Lists the phases of training, and infers the latents of given images. Registered in the group `hebm_schemes`.

    Attributes:
        infers_by_q: whether `posterior` draws from the backbone's q(z|x) and depends on nothing else. All priors on a
            backbone then share its reconstructions.
    """

    group: ClassVar[str] = "hebm_schemes"
    infers_by_q: ClassVar[bool] = False

    def prepare(self, backbone: Backbone, prior: PriorLearner, images: Images, noise: Noise) -> None:
        """Prepare the initial weights. Called once before a run's first step.

        Arguments:
            backbone: the backbone with its initial weights.
            prior: the prior with its initial weights.
            images: the training images.
            noise: noise for random preparation; the same on every process.
        """
        if isinstance(backbone, FitsStatistics):
            backbone.fit_statistics(images)

    @abstractmethod
    def phases(self, backbone: Backbone, prior: PriorLearner) -> tuple[Phase, ...]:
        """Return the phases in order. Raises `ConfigError` if backbone or prior do not fit the scheme."""

    @abstractmethod
    def posterior(self, backbone: Backbone, tilt: Tilt | None, batch: Batch, noise: Noise) -> Posterior:
        """Infer latents of given images, by q(z|x) or by MCMC under a tilt (None for a root)."""
