import pytest
import torch
from learned import evaluation, every_file_is_there, finite

from hebm.errors import ConfigError
from hebm_plugins.analyses import hierarchical
from hebm_plugins.analyses.hierarchical import Hierarchical


@pytest.mark.parametrize("prior", ["root", "joint", "diffusion", "progressive", "ncp", "sir"])
def test_every_layer_alone_has_a_grid_and_a_share(tmp_path, prior):
    made = evaluation(prior)
    recipe = Hierarchical(rows=3, columns=4)
    assert recipe.unsupported(made) is None
    section = recipe.run(made, tmp_path)
    assert [picture.file for picture in section.pictures] == ["layers-0.png", "layers-1.png"]
    assert every_file_is_there(section, tmp_path)
    assert finite(section)
    assert (tmp_path / "shares.csv").read_text().startswith("redrawn,share")


@pytest.mark.parametrize("prior", ["joint", "diffusion", "progressive", "ncp", "sir"])
def test_layers_outside_a_set_are_those_of_the_held_draw(prior):
    made = evaluation(prior)
    recipe = Hierarchical(rows=3, columns=4)
    held = made.model.draw(3, made.noise("prior"))
    u = recipe._drawn(made, held, (1,)).u.unflatten(0, (3, 4))
    assert torch.equal(u[:, 0], held.u)
    assert torch.equal(u[:, :, :3], held.u[:, None, :3].expand(-1, 4, -1))
    assert (u[:, 1:, 3:] != held.u[:, None, 3:]).all()


def test_deep_models_are_cut_into_six_neighbouring_groups():
    sets = Hierarchical()._sets(15)
    assert len(sets) == 6
    assert [layer for layers in sets for layer in layers] == list(range(15))
    assert hierarchical._title(sets[0]) == "layers 0 to 2 redrawn"
    assert hierarchical._title((0, 2)) == "layers 0, 2 redrawn"


def test_a_layer_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"layer 2 does not exist; allowed are 0 \(top\) to 1"):
        Hierarchical(sets=((0, 2),)).run(evaluation(), tmp_path)


def test_the_share_is_one_where_nothing_is_held_and_zero_where_rows_do_not_change():
    images = torch.randn(40, 41, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert hierarchical._share(images) == pytest.approx(1, abs=0.02)
    assert hierarchical._share(images[:, :1].expand(-1, 5, -1, -1, -1)) == 0
