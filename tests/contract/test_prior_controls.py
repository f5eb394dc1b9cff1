"""Wrong priors, each caught by the check that names its promise."""

import attrs
import pytest
import torch
from catching import own_cases
from sound_components import (
    SPATIAL,
    ContextPrior,
    Priors,
    Root,
    SoundPrior,
    SoundULA,
    expect_failing,
)
from torch import nn

from hebm.densities import GeneratorPosterior, TiltedPrior
from hebm.interfaces import MCMC, Draw, Exact, Request, tilt_of
from hebm.latents import Latents
from hebm.testing import ConformanceError, ReferenceBackbone, cases, check_all
from hebm.testing.subjects import SMALL_IMAGES, image_batch


class KeepsBackbone(SoundPrior):
    def __init__(self, backbone):
        super().__init__(backbone)
        self.backbone = backbone


class KeepsBackboneInList(SoundPrior):
    def sample(self, backbone, *arguments, **options):
        self.cache = [backbone]
        return super().sample(backbone, *arguments, **options)


class ReachesBackbone(SoundPrior):
    def objective(self, backbone, posterior, noise, progress, labels=None):
        loss = super().objective(backbone, posterior, noise, progress)
        return attrs.evolve(loss, total=loss.total + self.tilt(backbone.latents(posterior.latents.u)).mean())


class IdleParameter(SoundPrior):
    def __init__(self, backbone):
        super().__init__(backbone)
        self.energy.idle = nn.Parameter(torch.zeros(1))


class NoStage(SoundPrior):
    def stages(self):
        return ()


class TwiceNamed(SoundPrior):
    def stages(self):
        return (*super().stages(), *super().stages())


class GraphInTerms(SoundPrior):
    def objective(self, backbone, posterior, noise, progress, labels=None):
        loss = super().objective(backbone, posterior, noise, progress)
        return attrs.evolve(loss, terms={"f": loss.total})


class GlobalStart(SoundPrior):
    def sample(self, backbone, n, noise, request=Request()):
        return Draw(torch.randn(n, backbone.layout.dim, dtype=noise.dtype))


class IgnoresRows(SoundPrior):
    def sample(self, backbone, n, noise, request=Request()):
        return super().sample(backbone, n, noise.at(0), request)


class BatchCentred(SoundPrior):
    def sample(self, backbone, n, noise, request=Request()):
        u = super().sample(backbone, n, noise, request).u
        return Draw(u - u.mean(0))


class TiltPerImage(SoundPrior):
    def tilt(self, latents):
        return super().tilt(latents).sum(1)


class TiltedRoot(SoundPrior):
    def __init__(self, backbone):
        super().__init__(backbone)
        self.root = None


class WrongGradient(TiltedPrior):
    def gaussian(self, u):
        value, grad = super().gaussian(u)
        return value, 2 * grad


class WrongDensity(SoundPrior):
    def density(self, backbone, context=None, labels=None):
        return WrongGradient(backbone, tilt_of(self), context)


class CoupledDensity(SoundPrior):
    def tilt(self, latents):
        f = super().tilt(latents)
        return f / f.detach().norm()


class ForeignContext(Root):
    context = (3,)

    def context_bound(self, context, noise):
        return context.sum(1)

    context_weight = context_bound


class WrongRoot(SoundPrior):
    def __init__(self, backbone):
        super().__init__(backbone)
        self.root = ForeignContext(backbone.layout.dim)


class HalfNegatives(SoundPrior):
    def objective(self, backbone, posterior, noise, progress, labels=None):
        loss = super().objective(backbone, posterior, noise, progress)
        z = tuple(z / 2 for z in loss.negative.z)
        return attrs.evolve(loss, negative=Latents(loss.negative.u, z, loss.negative.sigma))


class WatchedDiffers(SoundPrior):
    def sample(self, backbone, n, noise, request=Request()):
        steps = request.steps if request.observe is None else 1
        return super().sample(backbone, n, noise, attrs.evolve(request, steps=steps))


class MovesWhatIsFixed(SoundPrior):
    def sample(self, backbone, n, noise, request=Request()):
        return super().sample(backbone, n, noise, attrs.evolve(request, fixed=None))


class LabelledWithoutCheck(SoundPrior):
    labelled = True


class TwinNames(SoundPrior):
    def transitions(self, backbone):
        return (self._chain(backbone, "chain", key=("a",)), self._chain(backbone, "chain", key=("b",)))


class TwinKeys(SoundPrior):
    def transitions(self, backbone):
        return (self._chain(backbone, "first"), self._chain(backbone, "second"))


class DrawsWhileListing(SoundPrior):
    def transitions(self, backbone):
        torch.randn(1)
        return super().transitions(backbone)


class PlansNothing(SoundPrior):
    """Lists its chain once its stage has started, and does not plan it."""

    started = False

    def stages(self):
        (stage,) = super().stages()
        return (stage._replace(start=lambda backbone, noise, cache: setattr(self, "started", True)),)

    def transitions(self, backbone):
        return super().transitions(backbone) if self.started else ()


class ChainOnAnotherDensity(SoundPrior):
    def transitions(self, backbone):
        density = lambda at, request: GeneratorPosterior(backbone, image_batch(SMALL_IMAGES, len(at.u)).target)  # noqa: E731
        return (MCMC(name="prior", sampler=SoundULA(), density=density),)


class RootWithTransitions(Root):
    def __init__(self, backbone):
        super().__init__(backbone.layout.dim)

    def transitions(self, backbone):
        return (Exact(name="prior", apply=lambda at, noise, request: at),)


class IgnoresSteps(SoundPrior):
    def transitions(self, backbone):
        return (Exact(name="prior", apply=lambda at, noise, request: at.moved(at.u + 1), length=3),)


class IgnoresStartProposals(SoundPrior):
    def transitions(self, backbone):
        start = Exact(name="start", apply=lambda at, noise, request: at.moved(at.u + 1), start_proposals=3)
        return (start, *super().transitions(backbone))


BROKEN_PRIORS = [
    (IgnoresSteps, "request"),
    (IgnoresStartProposals, "request"),
    (MovesWhatIsFixed, "fixed"),
    (LabelledWithoutCheck, "abilities"),
    (TwinNames, "transitions"),
    (TwinKeys, "transitions"),
    (DrawsWhileListing, "transitions"),
    (ChainOnAnotherDensity, "transitions"),
    (RootWithTransitions, "transitions"),
    (PlansNothing, "planned-transitions"),
    (KeepsBackbone, "no-backbone"),
    (KeepsBackboneInList, "no-backbone"),
    (ReachesBackbone, "objective"),
    (IdleParameter, "objective"),
    (GraphInTerms, "objective"),
    (NoStage, "stages"),
    (TwiceNamed, "stages"),
    (GlobalStart, "no-global-rng"),
    (GlobalStart, "rows"),
    (IgnoresRows, "rows"),
    (BatchCentred, "nan-start"),
    (CoupledDensity, "nan-start"),
    (CoupledDensity, "density-rows"),
    (TiltPerImage, "tilt"),
    (TiltedRoot, "tilt"),
    (WrongDensity, "density"),
    (WrongRoot, "context"),
    (HalfNegatives, "negative"),
    (WatchedDiffers, "observe"),
]


@pytest.mark.parametrize(("kind", "name"), BROKEN_PRIORS, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_prior_is_caught_by_the_check_of_that_promise(kind, name):
    expect_failing(Priors(kind), name)


def test_a_sound_prior_passes():
    check_all(own_cases(Priors(SoundPrior)))


def test_spatial_layers_and_a_context_pass_as_well():
    check_all(own_cases(Priors(ContextPrior), backbone=ReferenceBackbone(SPATIAL)))


class DrawsItsOwnContext(ContextPrior):
    def sample(self, backbone, n, noise, request=Request()):
        return super().sample(backbone, n, noise, attrs.evolve(request, context=None))


@pytest.mark.parametrize(("kind", "name"), [(SoundPrior, "context"), (DrawsItsOwnContext, "given-context")])
def test_a_prior_that_draws_no_context_or_its_own_is_caught_where_one_is_expected(kind, name):
    made = cases(Priors(kind), backbone=ReferenceBackbone(SPATIAL))
    (case,) = [case for case in made if case.name == name]
    with pytest.raises(ConformanceError, match="context"):
        case()
