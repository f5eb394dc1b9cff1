"""Priors that are wrong where their root draws a context, each caught without a backbone of the author's own."""

import attrs
import pytest
from sound_components import SPATIAL, Priors, SoundPrior

from hebm.errors import ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import Loss, PriorRecipe, Request, build_root
from hebm.testing import ConformanceError, ReferenceBackbone, cases


@attrs.frozen
class Rooted(PriorRecipe):
    kind: type
    root: PriorRecipe = attrs.field(factory=Gaussian)

    def build(self, backbone):
        prior = self.kind(backbone)
        prior.root = build_root(self.root, backbone)
        return prior


class FollowsContext(SoundPrior):
    """Its negatives are drawn and mapped in the contexts of the positives."""

    def objective(self, backbone, posterior, noise, progress, labels=None):
        return self.loss(backbone, posterior, noise, Request(context=posterior.latents.context))

    def loss(self, backbone, posterior, noise, request):
        u = self.sample(backbone, len(posterior.latents), noise, request).u
        negative = backbone.latents(u, posterior.latents.context).detach()
        return Loss(self.tilt(negative).mean() - self.tilt(posterior.latents).mean(), {}, negative)


class NegativesOfOtherContexts(FollowsContext):
    def objective(self, backbone, posterior, noise, progress, labels=None):
        draw = self.sample(backbone, len(posterior.latents), noise)
        negative = backbone.latents(draw.u, draw.context).detach()
        return Loss(self.tilt(negative).mean() - self.tilt(posterior.latents).mean(), {}, negative)


class ChainsInOtherContexts(FollowsContext):
    """Its negatives are drawn in other contexts, and mapped in those of the positives."""

    def objective(self, backbone, posterior, noise, progress, labels=None):
        return self.loss(backbone, posterior, noise, Request())


class DrawsInOneContext(FollowsContext):
    """Its chains take all contexts for 0."""

    def density(self, backbone, context=None, labels=None):
        return super().density(backbone, None if context is None else 0 * context)


class ForgetsContexts(FollowsContext):
    def density(self, backbone, context=None, labels=None):
        return super().density(backbone)


@attrs.frozen
class KeepsItsRoot(Rooted):
    """Its prior tilts a root without a context, whatever the field says."""

    def build(self, backbone):
        return self.kind(backbone)


@attrs.frozen
class Refuses(Rooted):
    def build(self, backbone):
        if backbone.layout.context is not None:
            raise ConfigError("prior: this prior does not support contexts; use a backbone without one")
        return super().build(backbone)


def failing_in_contexts(recipe):
    """The checks `context-…` that fail, each by an error that says how to fix it."""
    names = set()
    for case in cases(recipe):
        if case.name.startswith("context-"):
            try:
                case()
            except ConformanceError as error:
                names |= {case.name} if "fix: " in str(error) else {f"{case.name} without a fix"}
    return names


IN_CONTEXTS = [
    (Rooted(NegativesOfOtherContexts), {"context-negative", "context-chains"}),
    (Rooted(ChainsInOtherContexts), {"context-chains"}),
    (Rooted(DrawsInOneContext), {"context-chains"}),
    (KeepsItsRoot(FollowsContext), {"context-root", "context-sample", "context-given"}),
    (Rooted(ForgetsContexts), {"context-sample", "context-given", "context-density", "context-objective"}),
]


@pytest.mark.parametrize(
    ("recipe", "names"), IN_CONTEXTS, ids=lambda part: getattr(part, "kind", part.__class__).__name__
)
def test_a_prior_that_is_wrong_in_contexts_is_caught_without_a_backbone_of_ones_own(recipe, names):
    assert names <= failing_in_contexts(recipe)


@pytest.mark.parametrize("recipe", [Rooted(FollowsContext), Refuses(FollowsContext)])
def test_a_prior_that_follows_or_refuses_contexts_passes(recipe):
    assert "context-chains" in {case.name for case in cases(recipe)}
    assert not failing_in_contexts(recipe)


def test_a_prior_that_cannot_take_contexts_is_told_to_say_so():
    (case,) = [case for case in cases(Rooted(ForgetsContexts)) if case.name == "context-density"]
    with pytest.raises(ConformanceError, match="this prior does not support contexts"):
        case()


def test_a_recipe_without_a_root_or_with_a_backbone_of_its_own_has_no_further_checks():
    few = [*cases(Priors(SoundPrior)), *cases(Rooted(FollowsContext), backbone=ReferenceBackbone(SPATIAL))]
    assert not [case.name for case in few if case.name.startswith("context-")]
