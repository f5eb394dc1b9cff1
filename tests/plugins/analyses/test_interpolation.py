import pytest
import torch
from learned import evaluation, every_file_is_there

from hebm_plugins.analyses.interpolation import Interpolation, slerp


def test_the_ends_are_the_ends_and_equal_steps_are_equal_angles():
    a, b = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = b / b.norm(dim=1, keepdim=True) * a.norm(dim=1, keepdim=True)
    assert torch.allclose(slerp(a, b, 0.0), a)
    assert torch.allclose(slerp(a, b, 1.0), b)
    quarter, half = slerp(a, b, 0.25), slerp(a, b, 0.5)
    assert torch.allclose(quarter.norm(dim=1), a.norm(dim=1))
    cosine = torch.nn.functional.cosine_similarity
    assert torch.allclose(cosine(a, quarter), cosine(quarter, half))


def test_parallel_and_zero_latents_are_joined_by_a_straight_line():
    a = torch.ones(1, 4)
    assert torch.allclose(slerp(a, 3 * a, 0.5), 2 * a)
    assert torch.equal(slerp(0 * a, 0 * a, 0.3), 0 * a)


@pytest.mark.parametrize("ends", ["posterior", "prior"])
def test_a_row_for_each_pair(tmp_path, ends):
    made = evaluation()
    recipe = Interpolation(ends=ends, rows=3, columns=5)
    assert recipe.unsupported(made) is None
    section = recipe.run(made, tmp_path)
    assert every_file_is_there(section, tmp_path)
    assert section.numbers["points"] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_too_few_test_images_are_a_refusal():
    assert "fewer than 1000 test images" in Interpolation(rows=500).unsupported(evaluation())
