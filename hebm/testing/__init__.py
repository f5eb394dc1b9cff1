"""The conformance kit for plugin authors: named checks of what each interface promises.

    from hebm.testing import cases, parametrize

    @parametrize(cases(MyPrior()))
    def test_conformance(check):
        check()

or `check_prior(MyPrior())`, which runs all checks and reports all failures at once.
"""

from hebm.testing.conformance import (
    Case,
    backbone_checks,
    cases,
    check_all,
    check_backbone,
    check_dataset,
    check_energy,
    check_extractor,
    check_prior,
    check_recipe,
    check_sampler,
    dataset_checks,
    energy_checks,
    extractor_checks,
    parametrize,
    prior_checks,
    recipe_checks,
    sampler_checks,
)
from hebm.testing.promises import ConformanceError
from hebm.testing.subjects import ReferenceBackbone

__all__ = [
    "Case",
    "ConformanceError",
    "ReferenceBackbone",
    "backbone_checks",
    "cases",
    "check_all",
    "check_backbone",
    "check_dataset",
    "check_energy",
    "check_extractor",
    "check_prior",
    "check_recipe",
    "check_sampler",
    "dataset_checks",
    "energy_checks",
    "extractor_checks",
    "parametrize",
    "prior_checks",
    "recipe_checks",
    "sampler_checks",
]
