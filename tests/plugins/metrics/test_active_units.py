import pytest
import torch
from tiny_models import RootPrior, TinyData, numbers, tiny_evaluation
from torch import nn

from hebm.interfaces import InferringBackbone
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import GaussianPixels
from hebm_plugins.metrics.active_units import ActiveUnits


class Sees(InferringBackbone):
    """The mean of unit d of the lower layer is a_d times pixel d, the top layer sees nothing."""

    def __init__(self, gains, means=True):
        super().__init__()
        self.layout, self.means = LatentLayout(((2,), (len(gains),))), means
        self.gains = nn.Parameter(torch.tensor(gains, dtype=torch.float64))

    def latents(self, u, context=None):
        z = self.layout.split(u)
        return Latents(u, z, tuple(torch.ones_like(part) for part in z))

    def invert(self, z, context=None):
        return self.latents(self.layout.join(z))

    def likelihood(self, latents):
        return GaussianPixels(latents.z[1].new_zeros(len(latents.u), 1, 8, 8), 1.0)

    def infer(self, batch, noise):
        mean = self.gains * batch.x.flatten(1)[:, : len(self.gains)]
        means = (mean.new_zeros(len(mean), 2), mean)
        u = self.layout.join(means) + noise.normal(len(mean), self.layout.dim)
        return Posterior(self.latents(u), mean=means if self.means else None)


def measured(tmp_path, backbone, **options):
    evaluation = tiny_evaluation(tmp_path, prior=RootPrior(backbone.layout), data=TinyData(), backbone=backbone)
    return ActiveUnits(**options).compute(evaluation)


def test_units_whose_mean_varies_with_the_image_are_active(tmp_path):
    measurements = measured(tmp_path, Sees([1.0, 1.0, 0.0, 0.15]))
    found = numbers(measurements)
    assert [found[f"active-units-by-layer.layer {i}"] for i in (1, 2)] == [0.0, 0.5]
    assert [found[f"active-units-by-layer-strict.layer {i}"] for i in (1, 2)] == [0.0, pytest.approx(0.75)]
    assert found["active-units"] == pytest.approx(2 / 6)
    assert measurements[0].conditions == {"threshold": 0.01, "n": 400, "split": "test", "units": 6}


def test_an_inference_model_without_means_has_none_and_says_why(tmp_path):
    (found,) = measured(tmp_path, Sees([1.0], means=False))
    assert not found.found
    assert "no means" in found.note
