"""The kit can fail for schemes: each broken one is caught by the check that names its promise, and by no other."""

import attrs
import pytest
import torch
from catching import catching, expect_caught, names_of

from hebm.config.recipes import recipe
from hebm.noise import Noise
from hebm.training.optimization import Optimization
from hebm.training.phases import Group, Phase, SchemeRecipe
from hebm.training.two_phase import require_inference


class Elbo(Phase):
    """The backbone alone, by its objective."""

    def __init__(self, backbone, prior, name="backbone", steps=10, groups=None, watched="loss"):
        groups = groups or {"backbone": Group(backbone, (backbone,), Optimization())}
        super().__init__(name, steps, groups, watched=watched)
        self.backbone = backbone

    def forward(self, batch, noise, progress):
        return self.backbone.objective(batch, noise, progress)


class Sound(SchemeRecipe):
    """A phase that trains the backbone."""

    def phases(self, backbone, prior):
        require_inference(backbone, "sound")
        return (self.phase(backbone, prior),)

    def phase(self, backbone, prior):
        return Elbo(backbone, prior)

    def posterior(self, backbone, tilt, batch, noise):
        return require_inference(backbone, "sound").infer(batch, noise)


# ---------------------------------------------------------------- phases and groups


class NoPhases(Sound):
    def phases(self, backbone, prior):
        return ()


class SameNames(Sound):
    def phases(self, backbone, prior):
        require_inference(backbone, "sound")
        return Elbo(backbone, prior), Elbo(backbone, prior)


class NoSteps(Sound):
    def phase(self, backbone, prior):
        return Elbo(backbone, prior, steps=0)


LISTED = []


class NamedByTheCall(Sound):
    def phase(self, backbone, prior):
        LISTED.append(1)
        return Elbo(backbone, prior, name=f"backbone {len(LISTED)}")


class OtherGroupName(Sound):
    def phase(self, backbone, prior):
        return Elbo(backbone, prior, groups={"encoder": Group(backbone, (backbone,), Optimization())})


class StrangersParameters(Sound):
    def phase(self, backbone, prior):
        return Elbo(backbone, prior, groups={"backbone": Group(backbone, (backbone, prior), Optimization())})


class Unattached(Elbo):
    def __init__(self, backbone, prior):
        super().__init__(backbone, prior)
        del self.backbone
        self.hidden = (backbone,)

    def forward(self, batch, noise, progress):
        return self.hidden[0].objective(batch, noise, progress)


class NotASubmodule(Sound):
    def phase(self, backbone, prior):
        return Unattached(backbone, prior)


# ---------------------------------------------------------------- losses


class Changed(Elbo):
    """Changes the loss by a function."""

    def __init__(self, backbone, prior, change, **options):
        super().__init__(backbone, prior, **options)
        self.change = change

    def forward(self, batch, noise, progress):
        return self.change(super().forward(batch, noise, progress))


class ChangesTheLoss(Sound):
    def phase(self, backbone, prior):
        return Changed(backbone, prior, type(self).change)


class PerImage(ChangesTheLoss):
    def change(loss):
        return attrs.evolve(loss, total=loss.total.expand(6))


class NotFinite(ChangesTheLoss):
    def change(loss):
        return attrs.evolve(loss, total=loss.total / 0)


class AttachedTerms(ChangesTheLoss):
    def change(loss):
        return attrs.evolve(loss, terms={"elbo": -loss.total})


class WatchesNothing(Sound):
    def phase(self, backbone, prior):
        return Elbo(backbone, prior, watched="no-such-term")


class Unreached(Sound):
    def phase(self, backbone, prior):
        groups = {
            "backbone": Group(backbone, (backbone,), Optimization()),
            "prior": Group(prior, (prior,), Optimization()),
        }
        phase = Elbo(backbone, prior, groups=groups)
        phase.prior = prior
        return phase


# ---------------------------------------------------------------- steps


class MovesOthers(Elbo):
    def __init__(self, backbone, prior):
        super().__init__(backbone, prior)
        self.others = prior

    def forward(self, batch, noise, progress):
        with torch.no_grad():
            next(self.others.parameters()).mul_(0.99)
        return super().forward(batch, noise, progress)


class MovesThePrior(Sound):
    def phase(self, backbone, prior):
        return MovesOthers(backbone, prior)


class Momentum(Elbo):
    """Keeps a mean of its losses where no checkpoint sees it."""

    mean, seen = 0.0, -1

    def start(self, noise, supplies):
        super().start(noise, supplies)
        self.mean = 0.0

    def forward(self, batch, noise, progress):
        loss = super().forward(batch, noise, progress)
        if torch.is_grad_enabled() and progress.step != self.seen:
            self.mean, self.seen = 0.5 * self.mean + float(loss.total.detach()), progress.step
        return attrs.evolve(loss, total=loss.total * (1 + self.mean))


class KeepsAMean(Sound):
    def phase(self, backbone, prior):
        return Momentum(backbone, prior)


class OwnNoise(Elbo):
    """Draws from noise of its own, another at each call."""

    def __init__(self, backbone, prior):
        super().__init__(backbone, prior)
        self.own = Noise(0, "own")

    def start(self, noise, supplies):
        super().start(noise, supplies)
        self.own = Noise(0, "own")

    def forward(self, batch, noise, progress):
        loss = super().forward(batch, noise, progress)
        factor = 1 + self.own.uniform(1)[0]
        return attrs.evolve(loss, total=loss.total * factor)


class IgnoresItsNoise(Sound):
    def phase(self, backbone, prior):
        return OwnNoise(backbone, prior)


class Dropped(Elbo):
    def forward(self, batch, noise, progress):
        torch.rand(1)
        return super().forward(batch, noise, progress)


class DrawsGlobally(Sound):
    def phase(self, backbone, prior):
        return Dropped(backbone, prior)


# ---------------------------------------------------------------- the posterior


class BareLatents(Sound):
    def posterior(self, backbone, tilt, batch, noise):
        return super().posterior(backbone, tilt, batch, noise).latents


class OtherLatents(Sound):
    def posterior(self, backbone, tilt, batch, noise):
        found = super().posterior(backbone, tilt, batch, noise)
        z = tuple(1 + part for part in found.latents.z)
        return attrs.evolve(found, latents=type(found.latents)(found.latents.u, z, found.latents.sigma))


class KLPerImage(Sound):
    def posterior(self, backbone, tilt, batch, noise):
        found = super().posterior(backbone, tilt, batch, noise)
        return attrs.evolve(found, kl=found.kl.sum(1))


class CentresTheBatch(Sound):
    def posterior(self, backbone, tilt, batch, noise):
        return super().posterior(backbone, tilt, attrs.evolve(batch, x=batch.x - batch.x.mean(0)), noise)


class OneDraw(Sound):
    def posterior(self, backbone, tilt, batch, noise):
        return super().posterior(backbone, tilt, batch, Noise(0, "always", start=noise.start))


class NotByQ(Sound):
    infers_by_q = True

    def posterior(self, backbone, tilt, batch, noise):
        found = super().posterior(backbone, tilt, batch, noise)
        u = found.latents.u if tilt is None else 0.5 * found.latents.u
        return attrs.evolve(found, latents=backbone.latents(u))


# ---------------------------------------------------------------- what it refuses


class Unchecked(Sound):
    def phases(self, backbone, prior):
        return (self.phase(backbone.infer and backbone, prior),)


class RefusesLate(Sound):
    def phases(self, backbone, prior):
        return (self.phase(backbone, prior),)

    def posterior(self, backbone, tilt, batch, noise):
        return backbone.infer(batch, noise)


CONTROLS = [
    (NoPhases, "phases", ("unsuited",)),
    (SameNames, "phases", ()),
    (NoSteps, "phases", ()),
    (NamedByTheCall, "phases", ()),
    (OtherGroupName, "groups", ()),
    (StrangersParameters, "groups", ()),
    (NotASubmodule, "groups", ()),
    (PerImage, "loss", ("trains", "resume")),
    (NotFinite, "loss", ("resume",)),
    (AttachedTerms, "loss", ()),
    (WatchesNothing, "loss", ()),
    (Unreached, "loss", ("trains",)),
    (MovesThePrior, "trains", ()),
    (KeepsAMean, "resume", ()),
    (IgnoresItsNoise, "repeats", ("resume",)),
    (DrawsGlobally, "no-global-rng", ()),
    (BareLatents, "posterior", ("posterior-noise",)),
    (OtherLatents, "posterior", ()),
    (KLPerImage, "posterior", ()),
    (CentresTheBatch, "posterior-noise", ()),
    (OneDraw, "posterior-noise", ()),
    (NotByQ, "infers-by-q", ()),
    (Unchecked, "unsuited", ()),
    (RefusesLate, "unsuited", ()),
]


def of(kind):
    """A recipe of the class."""
    return recipe(type("Made", (kind,), {"__doc__": "A scheme."}))()


@pytest.mark.parametrize(("kind", "name", "also"), CONTROLS, ids=[f"{c[0].__name__}-{c[1]}" for c in CONTROLS])
def test_the_named_check_alone_catches(kind, name, also):
    expect_caught(of(kind), name, also)


def test_the_sound_original_passes():
    assert catching(of(Sound)) == set()


def test_every_check_has_a_control():
    assert names_of(of(Sound)) == {name for _, name, _ in CONTROLS}
