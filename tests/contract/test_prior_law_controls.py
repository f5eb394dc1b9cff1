"""Wrong priors whose draws, density, tilt and objective disagree, each caught by the check that names its promise."""

import attrs
import pytest
import torch
from catching import own_cases
from sound_components import Place, Priors, Root, SoundPrior, SoundULA, expect_failing, uncontrolled
from test_prior_contrast_controls import CHECKS as OF_CONTRASTS
from test_prior_controls import BROKEN_PRIORS
from test_prior_energy_controls import BROKEN_TRAINING
from torch.nn import Linear
from torch.nn.functional import softplus

from hebm.densities import ConditionalPrior, TiltedPrior
from hebm.fixed import Fixed
from hebm.interfaces import MCMC, Exact, Loss, Population, Tilt
from hebm.testing import check_all

# ---------------------------------------------------------------- signs


class ReportsEnergy(SoundPrior):
    """Its tilt is −f; draws and objective have f."""

    def f(self, latents):
        return self.energy(latents).squeeze(2)

    def tilt(self, latents):
        return -self.f(latents)

    def density(self, backbone, context=None, labels=None):
        return TiltedPrior(backbone, Tilt(self.f, (self.energy,)), context)

    def objective(self, backbone, posterior, noise, progress, labels=None):
        negative = backbone.latents(self.sample(backbone, len(posterior.latents.u), noise).u).detach()
        return Loss(self.f(negative).mean() - self.f(posterior.latents).mean(), {}, negative)


class ReportsEnergyAsDensity(ReportsEnergy):
    """Its tilt is −f, and so is its density's; chains follow f."""

    def density(self, backbone, context=None, labels=None):
        return TiltedPrior(backbone, Tilt(self.tilt, (self.energy,)), context)

    def transitions(self, backbone):
        density = lambda at, request: ReportsEnergy.density(self, backbone, at.context)  # noqa: E731
        return (MCMC(name="prior", sampler=SoundULA(), density=density),)


class NegativeDensity(SoundPrior):
    """Its density is f's of the wrong sign; chains follow f."""

    def density(self, backbone, context=None, labels=None):
        return TiltedPrior(backbone, Tilt(lambda latents: -self.tilt(latents), (self.energy,)), context)

    def transitions(self, backbone):
        density = lambda at, request: TiltedPrior(backbone, Tilt(self.tilt, (self.energy,)), at.context)  # noqa: E731
        return (MCMC(name="prior", sampler=SoundULA(), density=density),)


class Unlearns(SoundPrior):
    def objective(self, backbone, posterior, noise, progress, labels=None):
        loss = super().objective(backbone, posterior, noise, progress)
        return attrs.evolve(loss, total=-loss.total)


class LearnsFromPriorAlone(SoundPrior):
    """Both expectations are over draws of the prior."""

    def objective(self, backbone, posterior, noise, progress, labels=None):
        first, second = (
            backbone.latents(self.sample(backbone, len(posterior.latents.u), noise.derive(i)).u).detach()
            for i in (0, 1)
        )
        return Loss(self.tilt(second).mean() - self.tilt(first).mean(), {}, second)


class LearnsFromDataAlone(SoundPrior):
    """Its loss raises f on posterior draws, and has no negative phase."""

    def objective(self, backbone, posterior, noise, progress, labels=None):
        loss = super().objective(backbone, posterior, noise, progress)
        return attrs.evolve(loss, total=softplus(-self.tilt(posterior.latents)).mean())


class RaisesBoth(SoundPrior):
    """Its loss raises f on draws of the prior too."""

    def objective(self, backbone, posterior, noise, progress, labels=None):
        loss = super().objective(backbone, posterior, noise, progress)
        both = self.tilt(posterior.latents).mean() + 0.5 * self.tilt(loss.negative).mean()
        return attrs.evolve(loss, total=-both)


class Contrasts(SoundPrior):
    """A right prior that learns by contrast of posterior draws with those of the root."""

    def objective(self, backbone, posterior, noise, progress, labels=None):
        u = self.root.sample(backbone, len(posterior.latents.u), noise).u
        negative = backbone.latents(u).detach()
        f = self.tilt(posterior.latents), self.tilt(negative)
        return Loss(softplus(-f[0]).mean() + softplus(f[1]).mean(), {}, negative)


# ---------------------------------------------------------------- draws


class WideRoot(Root):
    def __init__(self, backbone):
        super().__init__(backbone.layout.dim)

    def sample(self, backbone, n, noise, *request):
        draw = super().sample(backbone, n, noise, *request)
        return draw.moved(1.2 * draw.u)


class LeavesTiltOut(SoundPrior):
    def transitions(self, backbone):
        return (Exact(name="prior", apply=lambda at, noise, request: at.fixed_as(request.fixed)),)


@attrs.frozen
class Hot(SoundULA):
    """Its noise is too large: the draws are too wide."""

    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise._replace(normal=1.5 * noise.normal))
        return Place(u), info


class DrawsTooWide(SoundPrior):
    def sample(self, backbone, n, noise, *request):
        draw = super().sample(backbone, n, noise, *request)
        return draw.moved(1.3 * draw.u)


class HalfTilt(SoundPrior):
    """Its chain climbs half of f."""

    def transitions(self, backbone):
        half = Tilt(lambda latents: 0.5 * self.tilt(latents), (self.energy,))
        density = lambda at, request: TiltedPrior(backbone, half, at.context)  # noqa: E731
        return (MCMC(name="prior", sampler=SoundULA(), density=density),)


class OverwritesWhatIsFixed(SoundPrior):
    """Fixed coordinates replace those of draws that know nothing of them."""

    def sample(self, backbone, n, noise, request):
        return super().sample(backbone, n, noise, attrs.evolve(request, fixed=None)).fixed_as(request.fixed)


class SoundParticles(SoundPrior):
    """Draws of the root, one of 64 chosen by exp f."""

    population = Population(64, threshold=1.0)
    sign = 1

    def transitions(self, backbone):
        ratio = Tilt(lambda latents: self.sign * self.tilt(latents), (self.energy,))
        return (Exact(name="prior", apply=lambda at, noise, request: at, ratio=lambda labels: ratio),)


class WrongWeights(SoundParticles):
    sign = -1


class EqualWeights(SoundParticles):
    sign = 0


# ---------------------------------------------------------------- layers one after another


class SoundGibbs(SoundPrior):
    """Chains of each layer given the others."""

    def target(self, backbone, layer, context):
        return self.density(backbone, context)

    def transitions(self, backbone):
        return tuple(self.layer(backbone, i) for i in range(len(backbone.layout)))

    def layer(self, backbone, i):
        others = torch.ones(backbone.layout.dim, dtype=torch.bool)
        others[backbone.layout.place(i)] = False

        def fixed(at, noise, given):
            return Fixed(at.u, others) if given is None else Fixed(given.apply(at.u), others | given.mask)

        return MCMC(
            name=f"layer {i}",
            key=("layer", i),
            sampler=SoundULA(),
            density=lambda at, request: self.target(backbone, i, at.context),
            fixed=fixed,
        )


class SeesOneLayer(TiltedPrior):
    """f with all other layers at 0."""

    layer = 0

    def remainder(self, u):
        alone = torch.zeros_like(u)
        place = self.backbone.layout.place(self.layer)
        alone[:, place] = u[:, place]
        return super().remainder(alone)


class BlindGibbs(SoundGibbs):
    """A layer's chain conditions on nothing."""

    def target(self, backbone, layer, context):
        density = SeesOneLayer(backbone, Tilt(self.tilt, (self.energy,)), context)
        density.layer = layer
        return density


# ---------------------------------------------------------------- a chain of conditionals


class SoundConditionals(SoundPrior):
    """Two levels, each with f and a Gaussian around the level above."""

    kind, sampler, noise = ConditionalPrior, SoundULA(), 0.6

    def density(self, backbone, context=None, labels=None):
        return None

    def transitions(self, backbone):
        return tuple(self.level(backbone, t) for t in (1, 0))

    def level(self, backbone, t):
        density = lambda at, request: self.conditional(backbone, at.u, at.context)  # noqa: E731
        return MCMC(name=f"level {t}", key=("chain", t), sampler=self.sampler, density=density)

    def conditional(self, backbone, above, context):
        column = torch.ones_like(above[:, :1])
        tilt = Tilt(self.tilt, (self.energy,))
        alpha, sigma = (1 - self.noise**2) ** 0.5 * column, self.noise * column
        return self.kind(backbone, tilt, above, alpha, sigma, column, column, sigma.square(), context)


class NoFactor(ConditionalPrior):
    """The same density, which does not tell its Gaussian factor."""

    def factor(self):
        return None


class NarrowConditionals(SoundConditionals):
    """Levels close to each other, of densities that do not tell how narrow they are."""

    kind, noise = NoFactor, 0.1


class ForgetsTheLevelAbove(SoundConditionals):
    def conditional(self, backbone, above, context):
        return super().conditional(backbone, 0 * above, context)


class PullsTooHard(ConditionalPrior):
    """Its gradient is of a Gaussian that is too narrow."""

    def gaussian(self, u):
        value, grad = super().gaussian(u)
        return value, 1.5 * grad


class WrongConditionalGradient(SoundConditionals):
    kind = PullsTooHard


class HotConditionals(SoundConditionals):
    sampler = Hot()


class NegativeConditionals(SoundConditionals):
    def conditional(self, backbone, above, context):
        density = super().conditional(backbone, above, context)
        density.tilt = Tilt(lambda latents: -self.tilt(latents), (self.energy,))
        return density


class Shifted(SoundPrior):
    """f = aᵀu, which makes the prior N(a, I), with log Z = |a|²/2."""

    def __init__(self, backbone):
        super().__init__(backbone)
        self.energy = Linear(backbone.layout.dim, 1, bias=False)

    @property
    def log_z(self):
        return float(self.energy.weight.detach().square().sum() / 2)

    def tilt(self, latents):
        return self.energy(latents.u)


class StatesTheWrongLogZ(Shifted):
    @property
    def log_z(self):
        return -super().log_z


BROKEN_LAWS = [
    (StatesTheWrongLogZ, "log-z"),
    (ReportsEnergy, "tilt-in-density"),
    (ReportsEnergy, "learning"),
    (ReportsEnergyAsDensity, "draws"),
    (ReportsEnergyAsDensity, "learning"),
    (NegativeDensity, "tilt-in-density"),
    (NegativeDensity, "draws"),
    (NegativeConditionals, "tilt-in-density"),
    (Unlearns, "learning"),
    (LearnsFromPriorAlone, "learning"),
    (LearnsFromDataAlone, "balance"),
    (RaisesBoth, "balance"),
    (WideRoot, "root-draws"),
    (LeavesTiltOut, "draws"),
    (DrawsTooWide, "draws"),
    (HalfTilt, "draws"),
    (OverwritesWhatIsFixed, "draws-given-layers"),
    (OverwritesWhatIsFixed, "fixed-in-chains"),
    (WrongWeights, "draws"),
    (EqualWeights, "draws"),
    (BlindGibbs, "draws-given-layers"),
    (BlindGibbs, "transition-densities"),
    (ForgetsTheLevelAbove, "transition-densities"),
    (WrongConditionalGradient, "transition-densities"),
    (HotConditionals, "transition-draws"),
]


@pytest.mark.parametrize(("kind", "name"), BROKEN_LAWS, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_prior_is_caught_by_the_check_of_that_promise(kind, name):
    expect_failing(Priors(kind), name)


@pytest.mark.parametrize(
    "kind", [Contrasts, Shifted, SoundGibbs, SoundConditionals, NarrowConditionals, SoundParticles]
)
def test_priors_that_draw_in_other_ways_pass(kind):
    check_all(own_cases(Priors(kind)))


def test_every_check_of_a_prior_has_a_wrong_example():
    shared = {"sample", "given-context", "state-dict", "deepcopy", "seeded-build"}
    assert uncontrolled(Priors(SoundPrior), BROKEN_PRIORS + BROKEN_LAWS + BROKEN_TRAINING) <= shared | set(OF_CONTRASTS)
