"""The conformance kit: checks by name, cases for a test runner, all failures of a component at once."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import attrs

from hebm.data.recipe import DatasetRecipe
from hebm.evaluate.extractors import ExtractorRecipe
from hebm.interfaces import Backbone, BackboneRecipe, EnergyRecipe, ImageSpec, PriorRecipe, Sampler
from hebm.latents import LatentLayout
from hebm.testing import (
    backbone_rows,
    backbones,
    datasets,
    energies,
    extractors,
    pixels,
    prior_draws,
    prior_laws,
    prior_learning,
    priors,
    recipes,
    samplers,
)
from hebm.testing.promises import ConformanceError
from hebm.testing.subjects import LABELLED_IMAGES, SMALL_IMAGES, SMALL_LAYOUT, ReferenceBackbone, seeded

Check = Callable[..., None]


def _checks(module: ModuleType) -> dict[str, Check]:
    """Collect every `check_*` of a module, in order, by its name with dashes."""
    found = {name: value for name, value in vars(module).items() if name.startswith("check_")}
    return {
        name.removeprefix("check_").replace("_", "-"): value
        for name, value in found.items()
        if getattr(value, "__module__", None) == module.__name__
    }


def backbone_checks() -> dict[str, Check]:
    """Called as `check(recipe, images)`."""
    return _checks(backbones) | _checks(backbone_rows) | _checks(pixels)


def energy_checks() -> dict[str, Check]:
    """Called as `check(recipe, layout, levels)`."""
    return _checks(energies)


def prior_checks() -> dict[str, Check]:
    """Called as `check(recipe, backbone)`."""
    return _checks(prior_draws) | _checks(priors) | _checks(prior_laws) | _checks(prior_learning)


def sampler_checks() -> dict[str, Check]:
    """Called as `check(sampler)`."""
    return _checks(samplers)


def dataset_checks() -> dict[str, Check]:
    """Called as `check(recipe)`."""
    return _checks(datasets)


def extractor_checks() -> dict[str, Check]:
    """Collect the checks of an extractor, called as `check(recipe, images)`."""
    return _checks(extractors)


def recipe_checks() -> dict[str, Check]:
    """Called as `check(recipe)`, for a recipe of any group."""
    return _checks(recipes)


@attrs.frozen
class Case:
    """One check of one component, to be called without arguments.

    Arguments:
        name: of the check.
        check: the check.
        arguments: what it is called with, the component first.
        reason: why it is expected to fail; None if it is not.
    """

    name: str
    check: Check
    arguments: tuple[Any, ...]
    reason: str | None = None

    def __call__(self) -> None:
        """Run the check, expected to fail or not."""
        self.check(*self.arguments)

    def __str__(self) -> str:
        return f"{type(self.arguments[0]).__name__}-{self.name}"


def cases(
    recipe: Any,
    *,
    images: ImageSpec | None = None,
    layout: LatentLayout = SMALL_LAYOUT,
    levels: int = 1,
    backbone: Backbone | None = None,
    expect_failure: Mapping[str, str] | None = None,
) -> list[Case]:
    """Make a case of every check of a component's group, then of those of any recipe.

    Arguments:
        recipe: a backbone's, energy's, prior's, data set's or extractor's recipe, a sampler, or another group's recipe.
        images: what a backbone is built for, or an extractor loaded for; small grey ones, for an extractor with
            labels, when left out.
        layout: what an energy is built for.
        levels: how many levels t an energy is built for.
        backbone: what a prior is built for; a small reference backbone when left out.
        expect_failure: reasons, by check, why a promise cannot be kept.

    Raises:
        ConformanceError: `expect_failure` names no check of this component.
    """
    checks, rest = _for(recipe, images, layout, levels, backbone)
    reasons = dict(expect_failure or {})
    made = [Case(name, check, (recipe, *rest), reasons.pop(name, None)) for name, check in checks.items()]
    made += [Case(name, check, (recipe,), reasons.pop(name, None)) for name, check in recipe_checks().items()]
    if reasons:
        known = ", ".join(case.name for case in made)
        raise ConformanceError(f"expect_failure: no check is called {', '.join(reasons)}; there are {known}")
    return made


def _for(
    recipe: Any, images: ImageSpec | None, layout: LatentLayout, levels: int, backbone: Backbone | None
) -> tuple[dict[str, Check], tuple[Any, ...]]:
    """Return the checks of a recipe's group, and what they are called with besides the recipe."""
    if isinstance(recipe, BackboneRecipe):
        return backbone_checks(), (images or SMALL_IMAGES,)
    if isinstance(recipe, ExtractorRecipe):
        return extractor_checks(), (images or LABELLED_IMAGES,)
    if isinstance(recipe, EnergyRecipe):
        return energy_checks(), (layout, levels)
    if isinstance(recipe, PriorRecipe):
        return prior_checks(), (seeded(ReferenceBackbone) if backbone is None else backbone,)
    if isinstance(recipe, Sampler):
        return sampler_checks(), ()
    return (dataset_checks(), ()) if isinstance(recipe, DatasetRecipe) else ({}, ())


def parametrize(made: Sequence[Case]) -> Any:
    """Return a pytest decorator that shows each case on its own, expected failures as strict xfail.

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

    An expected failure that no longer fails is a failure too: its reason is out of date.
    """
    complaints = [complaint for complaint in map(_complaint, made) if complaint]
    if complaints:
        subject = type(made[0].arguments[0]).__name__
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
    return f"  {case.name}: passes, expected to fail ({case.reason}): drop the expectation" if case.reason else None


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


def check_recipe(recipe: Any, expect_failure: Mapping[str, str] | None = None) -> None:
    """Run the checks of any recipe alone; raise with all failures at once."""
    reasons = expect_failure or {}
    check_all([Case(name, check, (recipe,), reasons.get(name)) for name, check in recipe_checks().items()])
