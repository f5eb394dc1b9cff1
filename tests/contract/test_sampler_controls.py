"""Wrong samplers, each caught by the check that names its promise."""

import random

import attrs
import pytest
import torch
from catching import expect_caught, own_cases
from sound_components import Place, SoundMALA, SoundULA, expect_failing, uncontrolled

from hebm.densities import Factor
from hebm.interfaces import Info
from hebm.testing import ConformanceError, check_all


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


class LeavesProposalOut(SoundMALA):
    """Accepts by p(u') / p(u), though its proposal is not symmetric."""

    def log_ratio(self, state, new, h, xi):
        return new.value - state.value


class InvertsProposal(SoundMALA):
    """Has q(u'|u) / q(u|u') in its ratio."""

    def log_ratio(self, state, new, h, xi):
        return 2 * (new.value - state.value) - super().log_ratio(state, new, h, xi)


class InvertsRatio(SoundMALA):
    def log_ratio(self, state, new, h, xi):
        return -super().log_ratio(state, new, h, xi)


class ReportsTheProposal(SoundMALA):
    """Its info is the proposal's, though the proposal was rejected."""

    def step(self, density, state, noise):
        moved, info = super().step(density, state, noise)
        new, _ = self.proposed(density, state, noise)
        return moved, info._replace(value=new.value, grad=new.grad)


class StaleGradient(SoundMALA):
    """A rejected chain keeps the gradient of the proposal."""

    def step(self, density, state, noise):
        moved, info = super().step(density, state, noise)
        new, _ = self.proposed(density, state, noise)
        return moved._replace(grad=new.grad), info._replace(grad=new.grad)


class ReportsEnergy(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u), info._replace(value=-info.value)


class FollowsTheGaussianAlone(SoundULA):
    def step(self, density, state, noise):
        value, grad = density.gaussian(state.u)
        h = self.h * density.scale
        root = h.sqrt() if isinstance(h, torch.Tensor) else h**0.5
        return Place(state.u + 0.5 * h * grad + root * noise.normal), Info(value, grad)


class ReportsNaN(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u), info._replace(grad=info.grad * torch.nan)


class SinglePrecision(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u.float().to(u.dtype)), info


class DoublesEverything(SoundULA):
    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u.double()), info


class ScalesOneCoordinate(SoundULA):
    """A density's scale reaches the drift of the first coordinate alone."""

    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u + 0.5 * self.h * (1 - density.scale) * info.grad * torch.tensor([0.0, 1.0]).to(u)), info


@attrs.frozen
class SoundWalk(SoundMALA):
    """A random walk, accepted by p(u') / p(u)."""

    def log_ratio(self, state, new, h, xi):
        return new.value - state.value

    def proposed(self, density, state, noise):
        flat = state._replace(grad=torch.zeros_like(state.grad))
        return super().proposed(density, flat, noise)


@attrs.frozen
class SoundPCN(SoundWalk):
    """u' = m + sqrt(1 - b²) (u - m) + b s xi, accepted by the remainders; a random walk if m and s are not known."""

    def believed(self, factor):
        return factor

    def proposed(self, density, state, noise):
        if density.factor() is None:
            return super().proposed(density, state, noise)
        mean, std = self.believed(density.factor())
        square = (self.h * density.scale * torch.ones_like(state.u)).clamp(max=1.0)
        u = mean + (1 - square).sqrt() * (state.u - mean) + square.sqrt() * std * noise.normal
        return self.init(density, u), noise.uniform.log() < density.remainder(u) - density.remainder(state.u)


class IgnoresTheFactor(SoundPCN):
    """Proposes u' as if m = 0 and s = 1."""

    def believed(self, factor):
        return Factor()


class IgnoresTheMean(SoundPCN):
    def believed(self, factor):
        return factor._replace(mean=0.0)


class IgnoresTheStd(SoundPCN):
    def believed(self, factor):
        return factor._replace(std=1.0)


class MeanOfTheBatch(SoundPCN):
    """Takes one m for all rows."""

    def believed(self, factor):
        return factor._replace(mean=factor.mean.mean(0))


class StdOfTheBatch(SoundPCN):
    """Takes one s for all rows."""

    def believed(self, factor):
        return factor._replace(std=factor.std.mean())


class AcceptsByTheDensity(SoundPCN):
    """Accepts by p(u') / p(u), though its proposal keeps N(m, s² I)."""

    def proposed(self, density, state, noise):
        new, accept = super().proposed(density, state, noise)
        return new, accept if density.factor() is None else noise.uniform.log() < new.value - state.value


class AcceptsAll(SoundPCN):
    """Accepts every proposal, so that the remainder has no effect."""

    def proposed(self, density, state, noise):
        new, accept = super().proposed(density, state, noise)
        return new, accept if density.factor() is None else torch.ones_like(accept)


@attrs.frozen
class SoundFactorWalk(SoundPCN):
    """pCN that cannot do without the factor: in units of its deviation, without the density's scale, no gradient."""

    needs_factor = True

    def square(self, density):
        return self.h

    def value(self, density, state):
        return state.value

    def proposed(self, density, state, noise):
        mean, std = density.factor()
        square = self.square(density)
        u = mean + (1 - square) ** 0.5 * (state.u - mean) + square**0.5 * std * noise.normal
        new = self.init(density, u)
        accept = noise.uniform.log() < density.remainder(u) - density.remainder(state.u)
        return new, accept & u.isfinite().all(1)

    def step(self, density, state, noise):
        moved, info = super().step(density, state, noise)
        return moved, info._replace(value=self.value(density, moved), grad=None)


class ScalesTheFactor(SoundFactorWalk):
    """Multiplies its step by the density's scale."""

    def square(self, density):
        return (self.h * density.scale * torch.ones(1, 1)).clamp(max=1.0)


class InUnitsOfU(SoundFactorWalk):
    """Does not know that its step is in units of s."""

    def proposed(self, density, state, noise):
        std = density.factor().std * torch.ones_like(state.u)
        return super().proposed(density, state, noise._replace(normal=noise.normal / std))


class WalksAway(SoundFactorWalk):
    """Proposes u + b s xi, which does not keep the factor, and accepts by the density."""

    def proposed(self, density, state, noise):
        new = self.init(density, state.u + self.h**0.5 * density.factor().std * noise.normal)
        return new, noise.uniform.log() < new.value - state.value


class Hesitates(SoundFactorWalk):
    """Rejects a tenth of what it should accept: a correct chain, and a slower one."""

    def proposed(self, density, state, noise):
        new, accept = super().proposed(density, state, noise)
        return new, accept & (noise.uniform < 0.9)


class ReportsTheRemainder(SoundFactorWalk):
    """Its value leaves the Gaussian factor out."""

    def value(self, density, state):
        return density.remainder(state.u)


@attrs.frozen
class Adaptable(SoundMALA):
    """Has a target of acceptance."""

    target_acceptance: float = 0.0

    @property
    def step_size(self):
        return self.h

    def with_step_size(self, h):
        return attrs.evolve(self, h=h)


class ForgetsItsSteps(Adaptable):
    def with_step_size(self, h):
        return ForgetsItsSteps(steps=1, h=h)


class KeepsItsStepSize(Adaptable):
    """Takes another step size, and does not use it."""

    def proposed(self, density, state, noise):
        return Adaptable(h=0.1).proposed(density, state, noise)


OF_THE_FACTOR = [
    AcceptsByTheDensity,
    AcceptsAll,
    IgnoresTheFactor,
    IgnoresTheMean,
    IgnoresTheStd,
    MeanOfTheBatch,
    StdOfTheBatch,
]

BROKEN_SAMPLERS = [
    *((kind, "stationary-factor") for kind in (*OF_THE_FACTOR, WrongNoise)),
    (LeavesProposalOut, "stationary-skewed"),
    (InvertsProposal, "stationary-skewed"),
    (InvertsRatio, "stationary-skewed"),
    (FollowsTheGaussianAlone, "stationary-skewed"),
    (WrongDrift, "stationary-skewed"),
    (WrongNoise, "stationary-skewed"),
    (ReportsTheProposal, "info"),
    (StaleGradient, "info"),
    (ReportsEnergy, "info"),
    (ReportsNaN, "info"),
    (ReportsTheRemainder, "info"),
    (ForgetsItsSteps, "step-size"),
    (KeepsItsStepSize, "step-size"),
    (ScalesTheFactor, "scale"),
    (InUnitsOfU, "scale"),
    (WalksAway, "flat-remainder"),
    (WalksAway, "ignored-coordinates"),
    (Hesitates, "flat-remainder"),
    (SinglePrecision, "precision"),
    (DoublesEverything, "precision"),
    (ScalesOneCoordinate, "scale"),
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


@pytest.mark.parametrize(("kind", "name"), BROKEN_SAMPLERS, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_sampler_is_caught_by_the_check_of_that_promise(kind, name):
    expect_failing(kind(), name)


@pytest.mark.parametrize("kind", OF_THE_FACTOR)
def test_a_proposal_for_another_gaussian_factor_is_caught_by_one_check_alone(kind):
    expect_caught(kind(), "stationary-factor")


def test_a_gradient_of_nan_is_called_so():
    (case,) = [case for case in own_cases(ReportsNaN()) if case.name == "info"]
    with pytest.raises(ConformanceError, match=r"info\.grad is finite\n *found: 128 of 128 values are NaN"):
        case()


@pytest.mark.parametrize("name", ["stationary", "stationary-skewed"])
def test_a_wrong_law_is_measured_in_standard_errors_and_the_fix_names_the_acceptance(name):
    (case,) = [case for case in own_cases(InvertsRatio()) if case.name == name]
    with pytest.raises(
        ConformanceError, match=r"(?s)standard errors.*fix: .*p\(u'\) q\(u\|u'\) / \(p\(u\) q\(u'\|u\)\)"
    ):
        case()


@pytest.mark.parametrize("kind", [SoundULA, SoundMALA, SoundWalk, SoundPCN, SoundFactorWalk, Adaptable])
def test_a_sound_sampler_passes(kind):
    check_all(own_cases(kind()))


def test_every_check_of_a_sampler_has_a_wrong_example():
    assert uncontrolled(SoundULA(), BROKEN_SAMPLERS) <= set()
