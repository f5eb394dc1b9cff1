import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

from hebm.noise import Noise
from hebm_plugins.analyses import fitted_gaussian
from hebm_plugins.analyses.fitted_gaussian import fit_gaussian


def correlated(n, dim):
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(dim, dim, generator=generator)
    return 0.5 + torch.randn(n, dim, generator=generator) @ mix


@pytest.mark.parametrize(("n", "dim"), [(400, 6), (30, 50)], ids=["many points", "fewer points than dimensions"])
def test_covariance_is_that_of_ledoit_and_wolf(n, dim, monkeypatch):
    monkeypatch.setattr(fitted_gaussian, "_CHUNK", 7)
    points = correlated(n, dim)
    fit = fit_gaussian(points)
    expected, shrinkage = ledoit_wolf(points.double().numpy())
    assert fit.shrinkage == pytest.approx(shrinkage, rel=1e-4)
    empirical = fit.centred.double().T @ fit.centred.double() / n
    covariance = fit.shrinkage * fit.variance * torch.eye(dim) + (1 - fit.shrinkage) * empirical
    np.testing.assert_allclose(covariance, expected, rtol=1e-3, atol=1e-3)


def test_draws_have_the_fitted_mean_and_covariance():
    fit = fit_gaussian(correlated(60, 4))
    noise = Noise(0, "fitted")
    draws = fit.at(noise.derive("a").normal(40_000, 4), noise.derive("b")).double()
    expected, _ = ledoit_wolf(correlated(60, 4).double().numpy())
    np.testing.assert_allclose(draws.mean(0), correlated(60, 4).mean(0), atol=0.06)
    np.testing.assert_allclose(draws.T.cov(), expected, atol=0.03 * float(expected.max()))


def test_points_without_a_direction_are_fitted_by_an_isotropic_gaussian():
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    fit = fit_gaussian(square)
    assert fit.shrinkage == 1
    assert fit.variance == pytest.approx(1)
