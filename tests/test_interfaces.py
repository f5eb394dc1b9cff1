"""The width of the interfaces: what an author has to know of a backbone."""

import pytest

from hebm.interfaces import Backbone, Finalizes, FitsStatistics, InferringBackbone
from hebm.testing import ReferenceBackbone


def public(*classes):
    """Return the names that these classes declare themselves, without a leading underscore."""
    return {name for cls in classes for name in (*vars(cls), *cls.__annotations__) if not name.startswith("_")}


@pytest.mark.parametrize("classes", [(Backbone,), (Backbone, InferringBackbone)])
def test_a_backbone_has_at_most_8_public_members_with_or_without_an_inference_model(classes):
    assert len(public(*classes)) <= 8


@pytest.mark.parametrize(("ability", "method"), [(FitsStatistics, "fit_statistics"), (Finalizes, "finalize")])
def test_a_backbone_has_a_rare_ability_if_and_only_if_it_has_the_method(ability, method):
    able = type("Able", (ReferenceBackbone,), {method: lambda self, argument: None})
    assert isinstance(able(), ability)
    assert not isinstance(ReferenceBackbone(), ability)
