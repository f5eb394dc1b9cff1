"""Nearest training images: copies are found, new images of the data's law are not called copies."""

import pytest
import torch
from learned import every_file_is_there, finite
from tiny_models import Copies, RootPrior, ShiftedPrior, TinyData, tiny_evaluation

from hebm.data.dataset_recipe import SPLITS
from hebm.latents import LatentLayout
from hebm_plugins.analyses.nearest import Nearest
from hebm_plugins.nearest_images import closer

LAYOUT = LatentLayout(((3,), (6,)))


def section(tmp_path, prior, world=1, rank=0, gather=None, **options):
    evaluation = tiny_evaluation(tmp_path, prior=prior, batch_size=64, world=world, rank=rank, gather=gather)
    recipe = Nearest(**{"samples": 200, "rows": 3, **options})
    assert recipe.unsupported(evaluation) is None
    return recipe.run(evaluation, tmp_path)


@pytest.mark.parametrize("space", ["features", "pixels"])
def test_copies_of_training_images_are_found_and_shown(tmp_path, space):
    made = section(tmp_path, Copies(LAYOUT), space=space)
    assert made.numbers["ratio_of_medians"] < 0.05
    assert [each["share"] for each in made.numbers["closer"]] == [1.0, 1.0]
    assert "check in the pictures whether" in made.text[0]
    assert every_file_is_there(made, tmp_path)
    assert finite(made)


def test_new_images_of_the_datas_law_are_as_near_as_test_images(tmp_path):
    made = section(tmp_path, ShiftedPrior(LAYOUT, 1.0), space="pixels")
    assert made.numbers["ratio_of_medians"] == pytest.approx(1, abs=0.1)
    assert "no sign" in made.text[0]
    for each in made.numbers["closer"]:
        assert each["share"] == pytest.approx(each["quantile"], abs=3 * each["error"])


def test_distances_in_pixels_are_those_of_brute_force(tmp_path):
    made = section(tmp_path, ShiftedPrior(LAYOUT, 1.0), space="pixels")
    evaluation = tiny_evaluation(tmp_path, batch_size=64).measured_on(200)
    draws = evaluation.pixels("prior").double().flatten(1) / 127.5
    train = evaluation.splits["train"].read(torch.arange(400)).double().flatten(1) + 1
    wanted = torch.cdist(draws, train, compute_mode="donot_use_mm_for_euclid_dist").min(1).values
    assert made.numbers["median"]["draws"] == pytest.approx(float(wanted.median()), rel=1e-5)


def test_the_error_of_a_share_is_its_deviation_over_draws_and_test_images():
    generator = torch.Generator().manual_seed(0)
    found = [closer(*torch.rand(2, 200, generator=generator), 0.1) for _ in range(400)]
    deviation = torch.tensor([each.share for each in found]).std()
    assert float(deviation) == pytest.approx(sum(each.error for each in found) / 400, rel=0.15)
    assert sum(each.suspicious for each in found) < 0.06 * 400


def test_images_that_the_extractor_does_not_take_can_be_compared_in_pixels(tmp_path):
    data = TinyData()
    evaluation = tiny_evaluation(tmp_path, prior=RootPrior(LAYOUT), data=data)
    for split in SPLITS:
        evaluation.splits.images[split].labels = None
    assert "class labels" in Nearest().unsupported(evaluation)
    assert Nearest(space="pixels").unsupported(evaluation) is None
