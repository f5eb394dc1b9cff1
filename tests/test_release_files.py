"""The files around a release agree with the code."""

from pathlib import Path

import pytest
import yaml

import hebm
from hebm import registry

ROOT = Path(__file__).parents[1]
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_has_the_version_of_the_code():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (hebm.__version__, "Apache-2.0")


def test_the_changelog_has_a_section_for_what_is_not_released():
    assert "\n## Unreleased\n" in CHANGES


@pytest.mark.parametrize("group", ["hebm_backbones", "hebm_priors", "hebm_samplers", "hebm_schemes", "hebm_metrics"])
def test_the_changelog_names_every_component_of_these_groups(group):
    presets = {"two-layer-joint", "two-layer-multi-stage"}
    names = {name for name in registry.names(group) if registry.origin(group, name).distribution == "hebm"}
    assert {name for name in names - presets if f"`{name}`" not in CHANGES} == set()


@pytest.mark.parametrize("path", sorted(path for path in ROOT.glob(".*/**/*.yml") if ".venv" not in path.parts))
def test_hosted_files_can_be_read(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))
