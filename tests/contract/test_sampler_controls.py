"""Wrong samplers, each caught by the check that names its promise."""

import random

import pytest
import torch
from sound_components import Place, SoundULA, expect_caught, own, uncontrolled

from hebm.interfaces import Info
from hebm.testing import cases, check_all


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


@pytest.mark.parametrize(("kind", "name"), BROKEN_SAMPLERS, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_sampler_is_caught_by_the_check_of_that_promise(kind, name):
    expect_caught(kind(), name)


def test_a_sound_sampler_passes():
    check_all(own(cases(SoundULA())))


def test_every_check_of_a_sampler_has_a_wrong_example():
    assert uncontrolled(SoundULA(), BROKEN_SAMPLERS) <= set()
