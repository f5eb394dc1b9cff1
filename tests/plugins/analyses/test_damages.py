from __future__ import annotations

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from hebm.noise import BLOCK, Noise
from hebm_plugins.analyses.damages import DAMAGES, blurred, contrasted, noisy

NOISE = Noise(0, "damages")


@pytest.fixture
def images():
    return torch.rand(5, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_strength_zero_changes_nothing(damage, images):
    torch.testing.assert_close(damage(images, 0.0, NOISE), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_images_stay_in_range_and_change_more_with_strength(damage, images):
    changes = [(damage(images, strength, NOISE) - images).square().mean() for strength in (0.3, 0.6, 1.2)]
    assert changes == sorted(changes)
    assert changes[0] > 0
    assert damage(images, 3.0, NOISE).abs().max() <= 1


def test_blur_is_a_gaussian_convolution(images):
    padded = torch.nn.functional.pad(images, (6,) * 4, mode="replicate")
    wanted = gaussian_blur(padded, [13, 13], [2.0, 2.0])[:, :, 6:-6, 6:-6]
    torch.testing.assert_close(blurred(images, 2.0, NOISE), wanted, rtol=0, atol=1e-5)


def test_large_images_are_blurred_in_proportion():
    images = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = gaussian_blur(torch.nn.functional.pad(images, (6,) * 4, mode="replicate"), [13, 13], [2.0, 2.0])
    torch.testing.assert_close(blurred(images, 1.0, NOISE), wanted[:, :, 6:-6, 6:-6], rtol=0, atol=1e-5)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_each_image_is_damaged_by_itself(damage):
    images = torch.rand(BLOCK + 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = damage(images, 0.5, NOISE.at(0))
    torch.testing.assert_close(damage(images[BLOCK:], 0.5, NOISE.at(BLOCK)), whole[BLOCK:])


def test_contrast_keeps_the_mean_and_scales_deviations():
    images = torch.tensor([-0.4, 0.0, 0.4, 0.4]).view(1, 1, 2, 2) * 0.5
    torch.testing.assert_close(contrasted(images, 1.0, NOISE), images.mean() + 2 * (images - images.mean()))


def test_noise_has_the_stated_deviation():
    images = torch.zeros(4, 1, 64, 64)
    assert float(noisy(images, 0.1, NOISE).std()) == pytest.approx(0.1, rel=0.02)
