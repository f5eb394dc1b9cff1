"""A phase of training: one module whose `forward` is the loss, and what it updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from hebm.densities import Tilt
from hebm.interfaces import Backbone, Batch, FitsStatistics, Loss, PriorLearner, Progress, Stage
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.training.optimization import Optimization

if TYPE_CHECKING:
    from hebm.data.images import Images

STAGE_LOSS = "stage_loss"
"""The term that is a prior stage's own loss, where a phase trains more than the stage."""


class Group:
    """Parameters with one optimiser.

    Arguments:
        owner: the module that is averaged and saved whole, "backbone" or "prior" by the group's name.
        trained: the sub-modules of it whose parameters are updated, all but those that were made to stay as they are
            (that do not require gradients when the group is made, before any phase).
        optimization: how.
    """

    def __init__(self, owner: nn.Module, trained: tuple[nn.Module, ...], optimization: Optimization) -> None:
        self.owner, self.trained, self.optimization = owner, trained, optimization
        wanted = {id(p) for module in trained for p in module.parameters() if p.requires_grad}
        self._names = frozenset(name for name, p in owner.named_parameters() if id(p) in wanted)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is updated, by its name within the owner."""
        return {name: p for name, p in self.owner.named_parameters() if name in self._names}


class Phase(nn.Module, ABC):
    """One phase. It alone is wrapped for several processes: gradients of what goes through `forward` are averaged.

    Arguments:
        name: unique within the run.
        steps: how many at most.
        groups: parameter groups by name; nothing else requires gradients during the phase.
        patience: steps whose mean loss must be below that of as many before, else the phase ends; 0 for all steps.
        watched: the term that patience is about.
        one_clip: the gradients of all groups are one vector, clipped by the first group's `clip`.
    """

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

    @abstractmethod
    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """The loss of one batch; noise is derived from the step, its rows are the batch's."""

    def start(self, noise: Noise) -> None:
        """Called once when the phase starts or resumes: set train and eval modes, fold what is frozen.

        Arguments:
            noise: the same whenever the phase begins, and on every process.
        """
        self.train()

    def finish(self, owner: nn.Module, noise: Noise) -> None:
        """Called once when all steps are done, before the checkpoint that ends the phase: for what follows training.

        Arguments:
            owner: a group's owner as trained, or its averaged copy, each in its turn.
            noise: the same for each of them, and on every process.
        """


def start_stage(stage: Stage | None, backbone: Backbone, noise: Noise) -> None:
    """What a stage asks for when its phase starts or resumes."""
    if stage is not None and stage.start is not None:
        stage.start(backbone, noise.derive(stage.key))


class SchemeRecipe(ABC):
    """Group `hebm_schemes`: a list of phases, and where latents of given images come from."""

    group: ClassVar[str] = "hebm_schemes"

    def prepare(self, backbone: Backbone, prior: PriorLearner, images: Images, noise: Noise) -> None:
        """Called once before a run's first step.

        Arguments:
            backbone: with its initial weights.
            prior: with its initial weights.
            images: the training images.
            noise: for what is drawn meanwhile; the same on every process.
        """
        if isinstance(backbone, FitsStatistics):
            backbone.fit_statistics(images)

    @abstractmethod
    def phases(self, backbone: Backbone, prior: PriorLearner) -> tuple[Phase, ...]:
        """What is trained, in order. Raises `ConfigError` if backbone or prior do not fit the scheme."""

    @abstractmethod
    def posterior(self, backbone: Backbone, tilt: Tilt | None, batch: Batch, noise: Noise) -> Posterior:
        """Infer latents of given images: by q(z|x), or by MCMC under a tilt (None for a root)."""
