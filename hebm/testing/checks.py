"""List the checks of every kind of component by name, with their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import attrs
import click

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.evaluation.extractors import ExtractorRecipe
from hebm.evaluation.metric import MetricRecipe
from hebm.interfaces import Backbone, BackboneRecipe, EnergyRecipe, ImageSpec, PriorRecipe, Sampler
from hebm.latents import LatentLayout
from hebm.porting import CheckpointFormat
from hebm.testing import (
    analyses,
    backbone_inference,
    backbone_rows,
    backbones,
    commands,
    dataset_files,
    dataset_options,
    datasets,
    energies,
    energy_training,
    extractors,
    format_damage,
    formats,
    metric_failures,
    metrics,
    pixels,
    prior_contexts,
    prior_contrasts,
    prior_draws,
    prior_energies,
    prior_laws,
    prior_learning,
    prior_reads,
    priors,
    recipes,
    sampler_factors,
    sampler_laws,
    samplers,
    schemes,
    watched_priors,
)
from hebm.testing.promises import failure
from hebm.testing.subjects import LABELLED_IMAGES, SMALL_IMAGES, SMALL_LAYOUT, ReferenceBackbone, seeded
from hebm.training.phases import SchemeRecipe

Check = Callable[..., None]


@attrs.frozen(eq=False)
class Given:
    """The images, layout and backbone on which components are checked. None selects a small default.

    Arguments:
        images: description of the images for which a backbone is built, an extractor loaded, and a metric, scheme or
            analysis run.
        layout: the layout for which an energy is built.
        levels: number of levels t for which an energy is built.
        backbone: the backbone for which a prior is built and a metric, scheme or analysis run.
    """

    images: ImageSpec | None = None
    layout: LatentLayout = SMALL_LAYOUT
    levels: int = 1
    backbone: Backbone | None = None

    @property
    def small(self) -> tuple[Any, ...]:
        """The arguments of a backbone's checks: the images."""
        return (self.images or SMALL_IMAGES,)

    @property
    def labelled(self) -> tuple[Any, ...]:
        """The arguments of an extractor's checks: labelled images."""
        return (self.images or LABELLED_IMAGES,)

    @property
    def latents(self) -> tuple[Any, ...]:
        """The arguments of an energy's checks: the layout and the number of levels."""
        return self.layout, self.levels

    @property
    def generator(self) -> tuple[Any, ...]:
        """The argument of a prior's checks: the backbone."""
        return (seeded(ReferenceBackbone) if self.backbone is None else self.backbone,)

    @property
    def model(self) -> tuple[Any, ...]:
        """The arguments of the checks of a metric, scheme or analysis: the images, and a backbone or None."""
        return self.images or LABELLED_IMAGES, self.backbone


@attrs.frozen
class Checks:
    """The checks of one kind of component.

    Arguments:
        kind: the class of the components.
        modules: the modules that define the checks.
        rest: function that returns the arguments of a check after the component.
    """

    kind: type
    modules: Sequence[ModuleType]
    rest: Callable[[Given], tuple[Any, ...]] = lambda given: ()

    def by_name(self) -> dict[str, Check]:
        """Return the checks by name, in order."""
        return {name: check for module in self.modules for name, check in _checks(module).items()}


BACKBONE = Checks(BackboneRecipe, (backbones, backbone_inference, backbone_rows, pixels), lambda given: given.small)
ENERGY = Checks(EnergyRecipe, (energies, energy_training), lambda given: given.latents)
PRIOR = Checks(
    PriorRecipe,
    (prior_draws, priors, watched_priors, prior_laws, prior_learning, prior_contrasts, prior_energies, prior_reads),
    lambda given: given.generator,
)
PRIOR_IN_CONTEXT = Checks(PriorRecipe, (prior_contexts,), lambda given: given.generator)
"""Checks of a prior on a root that draws a context, for recipes with a field `root`."""
SAMPLER = Checks(Sampler, (samplers, sampler_laws, sampler_factors))
METRIC = Checks(MetricRecipe, (metrics, metric_failures), lambda given: given.model)
DATASET = Checks(DatasetRecipe, (datasets, dataset_options, dataset_files))
EXTRACTOR = Checks(ExtractorRecipe, (extractors,), lambda given: given.labelled)
SCHEME = Checks(SchemeRecipe, (schemes,), lambda given: given.model)
ANALYSIS = Checks(AnalysisRecipe, (analyses,), lambda given: given.model)
FORMAT = Checks(CheckpointFormat, (formats, format_damage))
COMMAND = Checks(click.Command, (commands,))
RECIPE = Checks(object, (recipes,))

KINDS = (BACKBONE, ENERGY, PRIOR, SAMPLER, METRIC, DATASET, EXTRACTOR, SCHEME, ANALYSIS, FORMAT, COMMAND)


def kind_of(component: Any) -> Checks:
    """Return the checks of a component's kind.

    Raises `ConformanceError` if the component is neither a recipe of a group nor a command.
    """
    for checks in KINDS:
        if isinstance(component, checks.kind):
            return checks
    found, fix = repr(component), "derive its class from the interface of its group (the table in CONTRIBUTING.md)"
    if isinstance(component, type):
        found, fix = f"the class {component.__name__}", f"pass an instance of it, {component.__name__}(…)"
    raise failure("a recipe of one of the registry's groups, or a click command", found, fix)


def _checks(module: ModuleType) -> dict[str, Check]:
    """Collect every `check_*` function of a module in order, by its name with dashes."""
    found = {name: value for name, value in vars(module).items() if name.startswith("check_")}
    return {
        name.removeprefix("check_").replace("_", "-"): value
        for name, value in found.items()
        if getattr(value, "__module__", None) == module.__name__
    }


# ---------------------------------------------------------------- single checks by name


def backbone_checks() -> dict[str, Check]:
    """Return the checks of a backbone, called as `check(recipe, images)`."""
    return BACKBONE.by_name()


def energy_checks() -> dict[str, Check]:
    """Return the checks of an energy, called as `check(recipe, layout, levels)`."""
    return ENERGY.by_name()


def prior_checks() -> dict[str, Check]:
    """Return the checks of a prior, called as `check(recipe, backbone)`."""
    return PRIOR.by_name()


def sampler_checks() -> dict[str, Check]:
    """Return the checks of a sampler, called as `check(sampler)`."""
    return SAMPLER.by_name()


def metric_checks() -> dict[str, Check]:
    """Return the checks of a metric, called as `check(recipe, images, backbone)`; None selects a small backbone."""
    return METRIC.by_name()


def dataset_checks() -> dict[str, Check]:
    """Return the checks of a data set, called as `check(recipe)`."""
    return DATASET.by_name()


def extractor_checks() -> dict[str, Check]:
    """Return the checks of an extractor, called as `check(recipe, images)`."""
    return EXTRACTOR.by_name()


def scheme_checks() -> dict[str, Check]:
    """Return the checks of a scheme, called as `check(recipe, images, backbone)`; None selects a small backbone."""
    return SCHEME.by_name()


def analysis_checks() -> dict[str, Check]:
    """Return the checks of an analysis, called as `check(recipe, images, backbone)`; None selects a small backbone."""
    return ANALYSIS.by_name()


def format_checks() -> dict[str, Check]:
    """Return the checks of a checkpoint format, called as `check(recipe)`."""
    return FORMAT.by_name()


def command_checks() -> dict[str, Check]:
    """Return the checks of a command, called as `check(command)`."""
    return COMMAND.by_name()


def recipe_checks() -> dict[str, Check]:
    """Return the checks of a recipe of any group, called as `check(recipe)`."""
    return RECIPE.by_name()
