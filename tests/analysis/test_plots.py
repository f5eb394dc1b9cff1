import numpy as np
import pytest
import torch
from PIL import Image

from hebm.analysis.plots import Line, save_curves, save_histograms
from hebm.errors import CheckpointError


def ink(path):
    return np.asarray(Image.open(path).convert("L"), dtype=float).std()


def test_curves_with_gaps_bands_and_marks_are_drawn(tmp_path):
    line = Line([0, 1, 2], [1.0, float("nan"), 3.0], [0.5, float("nan"), 2.0], [1.5, float("nan"), 4.0])
    panels = {str(i): {"a": line, "b": Line([0, 1], [2.0, 2.0])} for i in range(4)}
    save_curves(tmp_path / "c.png", panels, "step", marks=[1], level=0.5)
    assert ink(tmp_path / "c.png") > 5
    width, height = Image.open(tmp_path / "c.png").size
    assert width > height  # three panels across, one below


def test_histograms_leave_out_what_is_not_finite_and_bear_empty_or_equal_sets(tmp_path):
    sets = {"some": torch.tensor([0.0, 1.0, torch.nan, torch.inf]), "none": torch.empty(0), "one": torch.ones(5)}
    save_histograms(tmp_path / "h.png", {"k": sets, "l": {"none": torch.empty(0)}}, "score")
    assert ink(tmp_path / "h.png") > 5


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match="cannot write"):
        save_curves(tmp_path / "no" / "c.png", {"a": {"b": Line([0], [1.0])}}, "x")
