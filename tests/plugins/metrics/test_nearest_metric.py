"""The metric `nearest`: copies are found and shown, new images of the data's law are not called copies."""

import attrs
import pytest
import torch
from tiny_models import EXTRACTORS, Copies, ShiftedPrior, numbers, plan_of, tiny_evaluation

from hebm.errors import ConfigError
from hebm.evaluation.kinds import PRIOR
from hebm.latents import LatentLayout
from hebm.pixel_levels import to_pixels
from hebm.report.plot_data import read_plots
from hebm.report.plots import collect_from
from hebm_plugins.metrics.nearest import NearestImages

LAYOUT = LatentLayout(((3,), (6,)))


def measured(prior, **options):
    evaluation = tiny_evaluation(EXTRACTORS, prior=prior, batch_size=64)
    return evaluation, NearestImages(**{"samples": 150, "rows": 3, "neighbours": 4, **options}).compute(evaluation)


def test_copies_of_training_images_are_found():
    _, (share, near, test) = measured(Copies(LAYOUT))
    assert (share.kind, share.value, share.conditions["draws"]) == (PRIOR, 1.0, 150)
    assert "look whether the draws in the pictures are copies" in share.note
    assert near.value < 0.05 * test.value


def test_new_images_of_the_datas_law_are_as_near_as_test_images():
    _, (share, near, test) = measured(ShiftedPrior(LAYOUT, 1.0), quantile=0.3)
    assert share.value == pytest.approx(0.3, abs=3 * share.error)
    assert not share.note
    assert near.value == pytest.approx(test.value, rel=0.15)


def test_pictures_show_the_nearest_draws_with_their_training_images():
    evaluation, _ = measured(Copies(LAYOUT))
    shown = evaluation.illustrations["nearest"]
    assert (shown.columns, len(shown.images)) == (5, 3 * 5)
    for row in shown.images.reshape(3, 5, *shown.images.shape[1:]):
        assert torch.equal(to_pixels(row[0]), to_pixels(row[1]))  # a copy, and the image that it copies
    assert "Nearest training images of the learned prior" in shown.title


def test_what_a_metric_shows_is_kept_with_the_samples(tmp_path):
    evaluation, _ = measured(Copies(LAYOUT))
    plots = collect_from(evaluation, tmp_path)
    assert [each.file for each in plots.shown] == ["metric-nearest.png"]
    assert read_plots(tmp_path) == plots
    assert (tmp_path / "metric-nearest.png").exists()


def test_data_without_test_images_are_refused_before_training():
    plan = plan_of(tiny_evaluation(EXTRACTORS))
    assert NearestImages().check(plan) == []
    few = attrs.evolve(plan, images={**plan.images, "test": range(1)})
    with pytest.raises(ConfigError, match="compares draws with test images, and the data set has fewer than two"):
        NearestImages().check(few)


def test_its_numbers_have_the_names_that_tables_show():
    evaluation, found = measured(ShiftedPrior(LAYOUT, 1.0))
    assert {each.name for each in found} == {"nearest-share", "nearest-distance"}
    assert all(each.extractor == evaluation.extractor().name for each in found)
    assert found[0].title == "as near to a training image as the nearest 10 % of test images"
    assert len(numbers(found)) == len(found)
