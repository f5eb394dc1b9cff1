"""What is said of a table's rows."""

import re

import pytest

from hebm.latents import LatentLayout
from hebm_plugins.analyses.mixed_draws import Row
from hebm_plugins.analyses.verdicts import Measured, verdict

DEEP = LatentLayout(((2,),) * 6, features=((1,),) * 7)


def measured(name, gap, kind=None, above=0, fd=1.0):
    return Measured(Row(name, f"draws of {name}", kind or name, lambda few: None, above), fd, 0.1, gap)


ENDS = [measured("posterior", 1.0), measured("root", 0.0)]


def said(*rows, layout=DEEP):
    return " ".join(verdict([*ENDS, *rows], layout))


@pytest.mark.parametrize(
    ("closed", "where", "energies"),
    [
        (-0.02, "in how a layer depends on the layers above it: .* nothing of the gap is closed", '"image-conv"'),
        (0.07, "in how a layer depends on the layers above it: .* 7.0 % of the gap is closed", '"feature-mlp"'),
        (0.5, "partly within the layers, partly in how a layer depends", 'Use an energy .*"image-conv"'),
        (0.9, "within the layers: ", '"mlp" or "conv"\\) therefore suffice'),
    ],
)
def test_the_share_of_independent_layers_decides_where_the_hole_is_and_what_to_use(closed, where, energies):

    text = said(measured("independent", closed))
    assert re.search(f"The prior hole is {where}", text)
    assert re.search(energies, text)


def test_energies_that_see_features_are_named_only_for_a_backbone_that_shows_them():
    few = measured("independent", 0.0)
    assert "feature" in said(few)
    assert "feature" not in said(few, layout=LatentLayout(DEEP.shapes))


def test_energies_of_z_are_named_where_the_image_depends_on_the_last_z_alone():
    few = [*ENDS, measured("independent", 0.1)]
    assert 'coordinate = "z"' in verdict(few, DEEP, last_alone=True)[0]
    assert "coordinate" not in verdict(few, DEEP)[0]


def test_the_layers_that_add_most_are_named():
    cuts = [measured(f"top-{k}", gap, "top", k) for k, gap in ((1, 0.1), (3, 0.6), (5, 0.9))]
    assert "layers 2 to 3 add most: 50.0 points" in said(*cuts)
    last = [measured("top-5", 0.2, "top", 5)]
    assert "layer 6 adds most: 80.0 points" in said(*last)


def test_nothing_is_said_of_layers_when_a_row_is_missing():
    assert "most" not in said(measured("top-1", 0.1, "top", 1), measured("top-2", None, "top", 2, fd=None))


def test_the_best_gaussian_is_named_where_one_helps():
    cold, fitted = measured("temperature-0.8", -0.1, "temperature"), measured("fitted", 0.4)
    assert "(draws of fitted) closes 40.0 %" in said(cold, fitted)
    assert "closes any of the gap" in said(cold)


def test_one_layer_has_nothing_above_it():
    assert "one layer" in said(measured("independent", 1.0), layout=LatentLayout(((2,),)))


def test_a_gap_that_is_not_defined_is_explained():
    assert "not nearer to the data" in verdict([measured("posterior", None), measured("root", None)], DEEP)[0]
    assert "not finite" in verdict([measured("posterior", None, fd=None), measured("root", None)], DEEP)[0]
