"""The conformance kit for plugin authors: named checks of the contract of each interface.

    from hebm.testing import cases, parametrize

    @parametrize(cases(MyPrior()))
    def test_conformance(check):
        check()

or `check_prior(MyPrior())`, which runs all checks and reports all failures at once. `cases` takes a component of any
kind: a backbone, energy, prior, sampler, metric, data set, extractor, scheme, analysis or checkpoint format by its
recipe, and a command. The docstring of each check says what it asserts. A failed check says what it expected, what it
found, and how to fix the component.
"""

from hebm.testing.checks import (
    analysis_checks,
    backbone_checks,
    command_checks,
    dataset_checks,
    energy_checks,
    extractor_checks,
    format_checks,
    metric_checks,
    prior_checks,
    recipe_checks,
    sampler_checks,
    scheme_checks,
)
from hebm.testing.conformance import (
    Case,
    cases,
    check_all,
    check_analysis,
    check_backbone,
    check_command,
    check_dataset,
    check_energy,
    check_extractor,
    check_format,
    check_metric,
    check_prior,
    check_recipe,
    check_sampler,
    check_scheme,
    parametrize,
)
from hebm.testing.promises import ConformanceError
from hebm.testing.subjects import ReferenceBackbone

__all__ = [
    "Case",
    "ConformanceError",
    "ReferenceBackbone",
    "analysis_checks",
    "backbone_checks",
    "cases",
    "check_all",
    "check_analysis",
    "check_backbone",
    "check_command",
    "check_dataset",
    "check_energy",
    "check_extractor",
    "check_format",
    "check_metric",
    "check_prior",
    "check_recipe",
    "check_sampler",
    "check_scheme",
    "command_checks",
    "dataset_checks",
    "energy_checks",
    "extractor_checks",
    "format_checks",
    "metric_checks",
    "parametrize",
    "prior_checks",
    "recipe_checks",
    "sampler_checks",
    "scheme_checks",
]
