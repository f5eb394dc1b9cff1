"""Make cases of checks for a test runner, or run them and report all failures at once."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
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
from hebm.testing.checks import COMMAND, PRIOR, PRIOR_IN_CONTEXT, Check, Given, kind_of, recipe_checks
from hebm.testing.prior_contexts import in_context
from hebm.testing.promises import ConformanceError
from hebm.testing.subjects import LABELLED_IMAGES, SMALL_IMAGES, SMALL_LAYOUT
from hebm.training.phases import SchemeRecipe


@attrs.frozen
class Case:
    """One check of one component, called without arguments.

    Arguments:
        name: name of the check.
        check: the check.
        arguments: arguments of the check, with the component first.
        reason: why the check is expected to fail; None if it is expected to pass.
    """

    name: str
    check: Check
    arguments: tuple[Any, ...]
    reason: str | None = None

    def __call__(self) -> None:
        """Run the check, whether or not it is expected to fail."""
        self.check(*self.arguments)

    def __str__(self) -> str:
        return f"{self.subject}-{self.name}"

    @property
    def subject(self) -> str:
        """The name of the component: its class, or the module of a command's function."""
        component = self.arguments[0]
        if isinstance(component, click.Command):
            return getattr(component.callback, "__module__", "").rpartition(".")[2] or str(component.name)
        return type(component).__name__


def cases(
    component: Any,
    *,
    images: ImageSpec | None = None,
    layout: LatentLayout = SMALL_LAYOUT,
    levels: int = 1,
    backbone: Backbone | None = None,
    expect_failure: Mapping[str, str] | None = None,
) -> list[Case]:
    """Return one case for every check of a component's kind and, for a recipe, for every check of any recipe.

    Arguments:
        component: a recipe of any group (a sampler is its own recipe), or a click command.
        images: description of the images for which a backbone is built, an extractor loaded, and a metric, scheme or
            analysis run; None for small grey ones, with classes for all but a backbone.
        layout: the layout for which an energy is built.
        levels: number of levels t for which an energy is built.
        backbone: the backbone for which a prior is built and a metric, scheme or analysis run; None for a small
            reference backbone. For None, a prior whose recipe has a field `root` is also checked with a context: the
            checks `context-…` build it on a root that draws one.
        expect_failure: names of checks that are expected to fail, with the reasons.

    Raises:
        ConformanceError: if the component has no kind, or `expect_failure` names an unknown check.
    """
    kind, reasons = kind_of(component), dict(expect_failure or {})
    arguments = component, *kind.rest(Given(images, layout, levels, backbone))
    made = [Case(name, check, arguments, reasons.pop(name, None)) for name, check in kind.by_name().items()]
    contextual = in_context(component) if kind is PRIOR and backbone is None else None
    if contextual is not None:
        named = PRIOR_IN_CONTEXT.by_name()
        made += [Case(name, check, contextual, reasons.pop(name, None)) for name, check in named.items()]
    if kind is not COMMAND:
        made += [Case(name, check, (component,), reasons.pop(name, None)) for name, check in recipe_checks().items()]
    if reasons:
        known = ", ".join(case.name for case in made)
        raise ConformanceError(f"expect_failure: unknown check {', '.join(reasons)}; expected one of {known}")
    return made


def parametrize(made: Sequence[Case]) -> Any:
    """Return a pytest decorator that runs each case as a separate test, with expected failures as strict xfail.

    Example:
        @parametrize(cases(MyPrior()))
        def test_conformance(check):
            check()
    """
    import pytest

    def expected(case: Case) -> list[Any]:
        if case.reason is None:
            return []
        return [pytest.mark.xfail(strict=True, raises=ConformanceError, reason=case.reason)]

    return pytest.mark.parametrize("check", [pytest.param(case, id=str(case), marks=expected(case)) for case in made])


def check_all(made: Sequence[Case]) -> None:
    """Run every case and raise one `ConformanceError` with all failures.

    A case that passes although it is expected to fail counts as a failure, because its reason is out of date.
    """
    complaints = [complaint for complaint in map(_complaint, made) if complaint]
    if complaints:
        subject = made[0].subject
        lines = "\n".join(complaints)
        raise ConformanceError(f"{subject}: {len(complaints)} of {len(made)} checks failed\n{lines}")


def _complaint(case: Case) -> str | None:
    try:
        case()
    except ConformanceError as error:
        return None if case.reason else f"  {case.name}: {error}"
    except Exception as error:  # the component is anyone's code and may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"  {case.name}: {type(error).__name__}: {error} ({last.filename}:{last.lineno})"
    return (
        f"  {case.name}: passes, but is expected to fail ({case.reason}): remove it from expect_failure"
        if case.reason
        else None
    )


def check_backbone(
    recipe: BackboneRecipe, images: ImageSpec = SMALL_IMAGES, expect_failure: Mapping[str, str] | None = None
) -> None:
    """Run all checks of a backbone; raise with all failures at once."""
    check_all(cases(recipe, images=images, expect_failure=expect_failure))


def check_energy(
    recipe: EnergyRecipe,
    layout: LatentLayout = SMALL_LAYOUT,
    levels: int = 1,
    expect_failure: Mapping[str, str] | None = None,
) -> None:
    """Run all checks of an energy; raise with all failures at once."""
    check_all(cases(recipe, layout=layout, levels=levels, expect_failure=expect_failure))


def check_prior(
    recipe: PriorRecipe, backbone: Backbone | None = None, expect_failure: Mapping[str, str] | None = None
) -> None:
    """Run all checks of a prior; raise with all failures at once."""
    check_all(cases(recipe, backbone=backbone, expect_failure=expect_failure))


def check_sampler(sampler: Sampler, expect_failure: Mapping[str, str] | None = None) -> None:
    """Run all checks of a sampler; raise with all failures at once."""
    check_all(cases(sampler, expect_failure=expect_failure))


def check_dataset(recipe: DatasetRecipe, expect_failure: Mapping[str, str] | None = None) -> None:
    """Run all checks of a data set; raise with all failures at once."""
    check_all(cases(recipe, expect_failure=expect_failure))


def check_extractor(
    recipe: ExtractorRecipe, images: ImageSpec = LABELLED_IMAGES, expect_failure: Mapping[str, str] | None = None
) -> None:
    """Run all checks of an extractor; raise with all failures at once."""
    check_all(cases(recipe, images=images, expect_failure=expect_failure))


def check_metric(
    recipe: MetricRecipe,
    images: ImageSpec = LABELLED_IMAGES,
    backbone: Backbone | None = None,
    expect_failure: Mapping[str, str] | None = None,
) -> None:
    """Run all checks of a metric; raise with all failures at once."""
    check_all(cases(recipe, images=images, backbone=backbone, expect_failure=expect_failure))


def check_scheme(
    recipe: SchemeRecipe,
    images: ImageSpec = LABELLED_IMAGES,
    backbone: Backbone | None = None,
    expect_failure: Mapping[str, str] | None = None,
) -> None:
    """Run all checks of a training scheme; raise with all failures at once."""
    check_all(cases(recipe, images=images, backbone=backbone, expect_failure=expect_failure))


def check_analysis(
    recipe: AnalysisRecipe,
    images: ImageSpec = LABELLED_IMAGES,
    backbone: Backbone | None = None,
    expect_failure: Mapping[str, str] | None = None,
) -> None:
    """Run all checks of an analysis; raise with all failures at once."""
    check_all(cases(recipe, images=images, backbone=backbone, expect_failure=expect_failure))


def check_format(recipe: CheckpointFormat, expect_failure: Mapping[str, str] | None = None) -> None:
    """Run all checks of a checkpoint format; raise with all failures at once."""
    check_all(cases(recipe, expect_failure=expect_failure))


def check_command(command: click.Command, expect_failure: Mapping[str, str] | None = None) -> None:
    """Run all checks of a command; raise with all failures at once."""
    check_all(cases(command, expect_failure=expect_failure))


def check_recipe(recipe: Any, expect_failure: Mapping[str, str] | None = None) -> None:
    """Run only the checks that every recipe must pass; raise with all failures at once."""
    reasons = expect_failure or {}
    check_all([Case(name, check, (recipe,), reasons.get(name)) for name, check in recipe_checks().items()])
