"""The kit can fail: each deliberately broken component is caught by the check that names its promise."""

import dataclasses
import random
from typing import NamedTuple

import attrs
import numpy as np
import pytest
import torch
from torch import nn

from hebm.config.recipe import option, recipe
from hebm.data.images import ArrayImages
from hebm.data.recipe import DatasetRecipe
from hebm.densities import GeneratorPosterior, TiltedPrior
from hebm.interfaces import (
    MCMC,
    Backbone,
    BackboneRecipe,
    Draw,
    EnergyFn,
    EnergyRecipe,
    Exact,
    Info,
    Loss,
    PriorLearner,
    PriorRecipe,
    Request,
    Sampler,
    tilt_of,
)
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import GaussianPixels
from hebm.testing import ConformanceError, ReferenceBackbone, cases, check_all
from hebm.testing.subjects import SMALL_IMAGES, image_batch

# ---------------------------------------------------------------- broken backbones


class NotInvertible(ReferenceBackbone):
    def invert(self, z, context=None):
        latents = super().invert(z, context)
        return dataclasses.replace(latents, u=latents.u * 1.001)


class WrongLogDet(ReferenceBackbone):
    def latents(self, u, context=None):
        latents = super().latents(u, context)
        return dataclasses.replace(latents, sigma=tuple(2 * s for s in latents.sigma))


class BatchCoupled(ReferenceBackbone):
    def latents(self, u, context=None):
        latents = super().latents(u, context)
        return dataclasses.replace(latents, z=tuple(z + 0.1 * z.mean(0) for z in latents.z))


class GlobalRandom(ReferenceBackbone):
    def latents(self, u, context=None):
        torch.randn(1)
        return super().latents(u, context)


class GlobalRandomInTraining(ReferenceBackbone):
    def infer(self, batch, noise):
        nn.functional.dropout(batch.x, 0.5, self.training)
        return super().infer(batch, noise)


class IgnoredParameter(ReferenceBackbone):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ignored = nn.Linear(2, 2)

    def generative(self):
        return (*super().generative(), self.ignored)


class CutGradient(ReferenceBackbone):
    def invert(self, z, context=None):
        return super().invert(z, context).detach()


class GenerativeWithInference(ReferenceBackbone):
    def generative(self):
        return (self,)


class NotReparameterised(ReferenceBackbone):
    def infer(self, batch, noise):
        posterior = super().infer(batch, noise)
        return attrs.evolve(posterior, latents=posterior.latents.detach())


class OwnNoise(ReferenceBackbone):
    def infer(self, batch, noise):
        return super().infer(batch, noise.at(0))


class KLPerImage(ReferenceBackbone):
    def infer(self, batch, noise):
        posterior = super().infer(batch, noise)
        return Posterior(posterior.latents, posterior.log_q, posterior.kl.sum(1))


class StrangerPosterior(ReferenceBackbone):
    def infer(self, batch, noise):
        posterior = super().infer(batch, noise)
        z = tuple(z + 1 for z in posterior.latents.z)
        return attrs.evolve(posterior, latents=dataclasses.replace(posterior.latents, z=z))


class UndeclaredInference(Backbone):
    def __init__(self):
        super().__init__()
        self.inner = ReferenceBackbone()
        self.layout = self.inner.layout

    def latents(self, u, context=None):
        return self.inner.latents(u, context)

    def invert(self, z, context=None):
        return self.inner.invert(z, context)

    def likelihood(self, latents):
        return self.inner.likelihood(latents)

    def infer(self, batch, noise):
        return self.inner.infer(batch, noise)


class CheckedLikelihood(ReferenceBackbone):
    def likelihood(self, latents):
        mean = super().likelihood(latents).mean
        pixels = torch.distributions.Normal(mean, 0.3, validate_args=True)
        return torch.distributions.Independent(pixels, 3, validate_args=True)


class MeanOutOfRange(ReferenceBackbone):
    def likelihood(self, latents):
        return GaussianPixels(255 * super().likelihood(latents).mean, 0.3)


class WrongFold(ReferenceBackbone):
    def folded(self):
        return ReferenceBackbone(self.layout, self.images)


class HiddenState(ReferenceBackbone):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.shift = torch.randn(1)

    def latents(self, u, context=None):
        latents = super().latents(u, context)
        return dataclasses.replace(latents, z=tuple(z + self.shift for z in latents.z))


class SinglePrecision(ReferenceBackbone):
    def likelihood(self, latents):
        return GaussianPixels(super().likelihood(latents).mean.float(), 0.3)


class SharedCopy(ReferenceBackbone):
    def __deepcopy__(self, memo):
        return self


class NumpyInitialised(ReferenceBackbone):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        nn.init.constant_(self.generator.bias, np.random.default_rng().normal())


BROKEN_BACKBONES = [
    (NotInvertible, "inverse"),
    (WrongLogDet, "log-determinant"),
    (BatchCoupled, "batch-independence"),
    (GlobalRandom, "no-global-rng"),
    (GlobalRandomInTraining, "no-global-rng"),
    (IgnoredParameter, "generative-gradients"),
    (IgnoredParameter, "objective"),
    (CutGradient, "generative-gradients"),
    (GenerativeWithInference, "generative-gradients"),
    (NotReparameterised, "inference"),
    (StrangerPosterior, "inference"),
    (KLPerImage, "inference"),
    (UndeclaredInference, "inference"),
    (OwnNoise, "inference-noise"),
    (CheckedLikelihood, "likelihood"),
    (MeanOutOfRange, "likelihood"),
    (WrongFold, "folded"),
    (HiddenState, "state-dict"),
    (SinglePrecision, "float64"),
    (SharedCopy, "deepcopy"),
    (NumpyInitialised, "seeded-build"),
]


@attrs.frozen
class Backbones(BackboneRecipe):
    kind: type

    def build(self, images):
        return self.kind()


# ---------------------------------------------------------------- broken energies


class SoundEnergy(EnergyFn):
    def __init__(self, layout, logits):
        super().__init__()
        self.layout, self.logits = layout, logits
        self.net = nn.Sequential(nn.Linear(layout.dim, 8), nn.SiLU(), nn.Linear(8, logits))

    def forward(self, latents, t=None):
        return self.net(latents.flat_z).unsqueeze(1)


class FlatShape(SoundEnergy):
    def forward(self, latents, t=None):
        return super().forward(latents).squeeze(1)


class BatchNormed(SoundEnergy):
    def forward(self, latents, t=None):
        f = super().forward(latents)
        return f - f.mean(0)


class IdleEnergyParameter(SoundEnergy):
    def __init__(self, layout, logits):
        super().__init__(layout, logits)
        self.idle = nn.Parameter(torch.zeros(1))


class TopBlind(SoundEnergy):
    def forward(self, latents, t=None):
        return self.net(torch.cat([0 * latents.z[0], latents.z[1]], dim=1)).unsqueeze(1)


class Detaching(SoundEnergy):
    def forward(self, latents, t=None):
        return self.net(latents.flat_z.detach()).unsqueeze(1)


class Dropping(SoundEnergy):
    def forward(self, latents, t=None):
        return nn.functional.dropout(super().forward(latents), 0.5, self.training)


class FeatureReader(SoundEnergy):
    def forward(self, latents, t=None):
        return super().forward(latents) + (1.0 if latents.u.requires_grad or latents.z[1].requires_grad else 0.0)


class WrongEnergyFold(SoundEnergy):
    def folded(self, t=None):
        return SoundEnergy(self.layout, self.logits)


class BottomFirst(SoundEnergy):
    def forward(self, latents, t=None):
        f = super().forward(latents)
        return torch.cat([f, 2 * f], dim=1)

    def of_layer(self, latents, layer, t=None):
        return self(latents, t)[:, -1 - layer]


class FloatOnly(SoundEnergy):
    def forward(self, latents, t=None):
        return super().forward(latents).float()


BROKEN_ENERGIES = [
    (FlatShape, "shape"),
    (BatchNormed, "batch-independence"),
    (IdleEnergyParameter, "parameter-gradients"),
    (TopBlind, "latent-gradients"),
    (Detaching, "latent-gradients"),
    (Dropping, "no-global-rng"),
    (FeatureReader, "detached"),
    (WrongEnergyFold, "folded"),
    (BottomFirst, "of-layer"),
    (FloatOnly, "float64"),
]


@attrs.frozen
class Energies(EnergyRecipe):
    kind: type

    def build(self, layout, logits=1, levels=1):
        return self.kind(layout, logits)


# ---------------------------------------------------------------- broken priors


class Root(PriorLearner):
    def __init__(self, dim):
        super().__init__()
        self.root, self.dim = None, dim

    def sample(self, backbone, n, noise, request=Request()):
        return Draw(noise.normal(n, self.dim)).fixed_as(request.fixed)


class SoundPrior(PriorLearner):
    """A tilt by a small net, with a short chain."""

    def __init__(self, backbone):
        super().__init__()
        self.root, self.energy = Root(backbone.layout.dim), SoundEnergy(backbone.layout, 1)

    def tilt(self, latents):
        return self.energy(latents).squeeze(2)

    def transitions(self, backbone):
        return (self._chain(backbone, "prior"),)

    def _chain(self, backbone, name, **options):
        return MCMC(
            name=name, sampler=SoundULA(), density=lambda at, request: self.density(backbone, at.context), **options
        )

    def objective(self, backbone, posterior, noise, progress, labels=None):
        u = self.sample(backbone, len(posterior.latents.u), noise).u
        negative = backbone.latents(u).detach()
        return Loss(self.tilt(negative).mean() - self.tilt(posterior.latents).mean(), {}, negative)


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


class ChainOnAnotherDensity(SoundPrior):
    def transitions(self, backbone):
        density = lambda at, request: GeneratorPosterior(backbone, image_batch(SMALL_IMAGES, len(at.u)).target)  # noqa: E731
        return (MCMC(name="prior", sampler=SoundULA(), density=density),)


class RootWithTransitions(Root):
    def __init__(self, backbone):
        super().__init__(backbone.layout.dim)

    def transitions(self, backbone):
        return (Exact(name="prior", apply=lambda at, noise, request: at),)


BROKEN_PRIORS = [
    (MovesWhatIsFixed, "fixed"),
    (LabelledWithoutCheck, "abilities"),
    (TwinNames, "transitions"),
    (TwinKeys, "transitions"),
    (DrawsWhileListing, "transitions"),
    (ChainOnAnotherDensity, "transitions"),
    (RootWithTransitions, "transitions"),
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


@attrs.frozen
class Priors(PriorRecipe):
    kind: type

    def build(self, backbone):
        return self.kind(backbone)


# ---------------------------------------------------------------- broken samplers


class Place(NamedTuple):
    u: torch.Tensor


@attrs.frozen
class SoundULA(Sampler):
    steps: int = 4
    h: float = 0.1

    def init(self, density, u):
        return Place(u)

    def move(self, density, u, noise, drift=0.5):
        value, grad = density.value_and_grad(u)
        h = self.h * density.scale
        root = h.sqrt() if isinstance(h, torch.Tensor) else h**0.5
        return u + drift * h * grad + root * noise.normal, Info(value, grad)

    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u), info


class WrongDrift(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise, drift=1.0)
        return Place(u), info


class WrongNoise(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise._replace(normal=2**0.5 * noise.normal))
        return Place(u), info


class IgnoresScale(SoundULA):
    def step(self, density, state, noise):
        value, grad = density.value_and_grad(state.u)
        return Place(state.u + 0.5 * self.h * grad + self.h**0.5 * noise.normal), Info(value, grad)


class LinearScale(SoundULA):
    def step(self, density, state, noise):
        value, grad = density.value_and_grad(state.u)
        h = self.h * density.scale
        return Place(state.u + 0.5 * h * grad + self.h**0.5 * density.scale * noise.normal), Info(value, grad)


class SharedState(SoundULA):
    memory = []

    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        u = u + 0.01 * len(self.memory)
        self.memory.append(u)
        return Place(u), info


class InPlace(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(state.u.copy_(u)), info


class Undeclared(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u + 0 * noise.uniform.unsqueeze(1), noise)
        return Place(u), info


class GlobalNoise(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise._replace(normal=torch.randn_like(state.u)))
        return Place(u), info


class PythonNoise(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u + random.gauss(0, 0.1), noise)
        return Place(u), info


class BareTensor(SoundULA):
    def init(self, density, u):
        return [u]


class ClipsByBatch(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u / u.norm().clamp(min=1.0)), info


class RepairsNaN(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u.nan_to_num(0.0)), info


class AlwaysAccepts(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u), info._replace(accepted=torch.ones_like(info.value))


BROKEN_SAMPLERS = [
    (WrongDrift, "stationary"),
    (WrongNoise, "stationary"),
    (AlwaysAccepts, "stationary"),
    (AlwaysAccepts, "nan-rejected"),
    (IgnoresScale, "scale"),
    (LinearScale, "scale"),
    (SharedState, "pure"),
    (InPlace, "pure"),
    (Undeclared, "declared-draws"),
    (GlobalNoise, "no-global-rng"),
    (PythonNoise, "no-global-rng"),
    (BareTensor, "state"),
    (ClipsByBatch, "nan-chain"),
    (RepairsNaN, "nan-chain"),
]

# ---------------------------------------------------------------- broken data sets


@attrs.frozen
class Data(DatasetRecipe):
    """Sound, but for what `fault` says."""

    fault: str
    batch_size: int = 4

    def load(self, split):
        if split not in ("train", "test") and self.fault != "any split":
            from hebm.errors import DataError

            raise DataError("no such split")
        generator = torch.Generator().manual_seed(0 if split == "train" or self.fault == "same splits" else 1)
        pixels = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8, generator=generator)
        labels = torch.arange(8) % (3 if self.fault == "labels" else 2)
        if self.fault == "range":
            return ArrayImages(pixels.float() / 255 * 2, labels, ("a", "b"))
        if self.fault == "global":
            torch.randn(1)
        images = ArrayImages(pixels, None if self.fault == "labels" else labels, ("a", "b"))
        if self.fault == "labels":
            images.labels = labels
        if self.fault == "attributes":
            images = ArrayImages(pixels, torch.stack([labels, labels], dim=1), attributes=("x", "y"))
            images.labels = 2 * images.labels
        if self.fault == "augments":
            calls = []
            read = images.read
            images.read = lambda indices: (calls.append(1), read(indices).roll(len(calls), -1))[1]
        if self.fault == "fingerprint":
            images.fingerprint = lambda: f"{random.getrandbits(256):064x}"
        return images


BROKEN_DATA = [
    ("range", "range"),
    ("any split", "splits"),
    ("labels", "labels"),
    ("attributes", "labels"),
    ("augments", "random-access"),
    ("fingerprint", "fingerprint"),
    ("same splits", "fingerprint"),
    ("global", "no-global-rng"),
]

# ---------------------------------------------------------------- broken recipes


@attrs.define
class Thawed(PriorRecipe):
    """A recipe in no order."""

    width: int = 3

    def build(self, backbone):
        return Root(backbone.layout.dim)


@recipe
class Bare(PriorRecipe):
    width: int = attrs.field(default=3)

    def build(self, backbone):
        return Root(backbone.layout.dim)


@recipe
class NeverEqual(PriorRecipe):
    """Compares by identity."""

    width: int = option(3, doc="of nothing")

    def build(self, backbone):
        return Root(backbone.layout.dim)

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


BROKEN_RECIPES = [
    (Thawed, "recipe-class"),
    (Thawed, "frozen"),
    (Bare, "documented"),
    (Bare, "round-trip"),
    (NeverEqual, "value"),
]

CONTROLS = [
    *((Backbones(kind), kind.__name__, name) for kind, name in BROKEN_BACKBONES),
    *((Energies(kind), kind.__name__, name) for kind, name in BROKEN_ENERGIES),
    *((Priors(kind), kind.__name__, name) for kind, name in BROKEN_PRIORS),
    *((kind(), kind.__name__, name) for kind, name in BROKEN_SAMPLERS),
    *((Data(fault), fault, name) for fault, name in BROKEN_DATA),
    *((kind(), kind.__name__, name) for kind, name in BROKEN_RECIPES),
]


def own(made):
    """The cases of the component's own interface: these classes are deliberately not recipes."""
    return [case for case in made if case.name not in ("recipe-class", "frozen", "value", "documented", "round-trip")]


@pytest.mark.parametrize(("broken", "name"), [pytest.param(b, n, id=f"{label}-{n}") for b, label, n in CONTROLS])
def test_the_named_check_catches(broken, name):
    (case,) = [case for case in cases(broken) if case.name == name]
    with pytest.raises(ConformanceError, match=r"promised: .*\n *seen: .*\n *fix: "):
        case()


class ContextRoot(Root):
    """Draws a context as well as u."""

    context = (3,)

    def sample(self, backbone, n, noise, request=Request()):
        context = noise.derive("context").normal(n, 3) if request.context is None else request.context
        return Draw(super().sample(backbone, n, noise, request).u, context)

    def context_bound(self, context, noise):
        return context.sum(1)

    context_weight = context_bound


class ContextPrior(SoundPrior):
    """Its chain holds the context of the base's draw, its negatives that of the positives."""

    def __init__(self, backbone):
        super().__init__(backbone)
        self.root = ContextRoot(backbone.layout.dim)

    def objective(self, backbone, posterior, noise, progress, labels=None):
        positive = posterior.latents
        u = self.sample(backbone, len(positive), noise, Request(context=positive.context)).u
        negative = backbone.latents(u, positive.context).detach()
        return Loss(self.tilt(negative).mean() - self.tilt(positive).mean(), {}, negative)


SPATIAL = LatentLayout(((2, 2, 2), (1, 4, 4)), context=(3,))


def test_spatial_layers_and_a_context_pass_as_well():
    check_all(own(cases(Backbones(lambda: ReferenceBackbone(SPATIAL)))))
    check_all(own(cases(Energies(SoundEnergy), layout=SPATIAL)))
    check_all(own(cases(Priors(ContextPrior), backbone=ReferenceBackbone(SPATIAL))))


class DrawsItsOwnContext(ContextPrior):
    def sample(self, backbone, n, noise, request=Request()):
        return super().sample(backbone, n, noise, attrs.evolve(request, context=None))


@pytest.mark.parametrize(("kind", "name"), [(SoundPrior, "context"), (DrawsItsOwnContext, "given-context")])
def test_a_prior_that_draws_no_context_or_its_own_is_caught_where_one_is_expected(kind, name):
    made = cases(Priors(kind), backbone=ReferenceBackbone(SPATIAL))
    (case,) = [case for case in made if case.name == name]
    with pytest.raises(ConformanceError, match="context"):
        case()


SOUND = [Backbones(ReferenceBackbone), Energies(SoundEnergy), Priors(SoundPrior), SoundULA(), Data("none")]


@pytest.mark.parametrize("sound", SOUND, ids=lambda sound: type(sound).__name__)
def test_the_sound_originals_pass(sound):
    check_all(own(cases(sound)))


def test_every_check_has_a_control():
    controlled = {(type(broken), name) for broken, _, name in CONTROLS}
    for sound, names in (
        (Backbones, [c.name for c in own(cases(SOUND[0]))]),
        (Energies, [c.name for c in own(cases(SOUND[1]))]),
        (Priors, [c.name for c in own(cases(SOUND[2]))]),
    ):
        # controlled on one interface, or on a layout with a context
        shared = {"latents", "state-dict", "deepcopy", "seeded-build", "sample", "given-context"}
        assert {name for name in names if (sound, name) not in controlled} <= shared
