import numpy as np
import pytest
from learned import evaluation, every_file_is_there
from PIL import Image

from hebm_plugins.analyses.temperature import Temperature


@pytest.mark.parametrize(("prior", "files"), [("joint", ["prior.png", "gaussian.png"]), ("root", ["gaussian.png"])])
def test_a_grid_for_the_prior_and_one_for_the_root(tmp_path, prior, files):
    section = Temperature(columns=4).run(evaluation(prior), tmp_path)
    assert [picture.file for picture in section.pictures] == files
    assert every_file_is_there(section, tmp_path)
    assert "τ = 0.5, 0.7" in section.pictures[0].caption


def test_at_temperature_zero_all_draws_are_one(tmp_path):
    Temperature(temperatures=(0.0, 1.0), columns=3).run(evaluation(), tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "prior.png"))
    tiles = [pixels[2:34, 2 + 34 * i : 34 + 34 * i] for i in range(3)]
    assert np.array_equal(tiles[0], tiles[1])
    assert np.array_equal(tiles[1], tiles[2])
    below = [pixels[36:68, 2 + 34 * i : 34 + 34 * i] for i in range(3)]
    assert not np.array_equal(below[0], below[1])
