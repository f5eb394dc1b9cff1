"""What metrics say before training."""

import pytest
from tiny_models import plan_of, tiny_evaluation

from hebm.config.recipes import recipe
from hebm.errors import ConfigError, HebmError, PluginError
from hebm.evaluation.metric import MetricRecipe
from hebm_plugins.extractors.classifier import Classifier
from hebm_plugins.extractors.efficientnet_lite0 import EfficientNetLite0Features
from hebm_plugins.extractors.inception import Inception
from hebm_plugins.metrics.distances import FrechetDistance
from hebm_plugins.metrics.gap import GapClosed
from hebm_plugins.metrics.inception import FID, KID, InceptionScore


@recipe
class Noted(MetricRecipe):
    """A metric whose check returns the given notes, or raises the given error."""

    note: str = ""
    error: str = ""
    forgets: bool = False

    def check(self, plan):
        if self.error:
            raise ConfigError(self.error)
        return None if self.forgets else [self.note]

    def compute(self, evaluation):
        return []


def checked(tmp_path, *metrics, **settings):
    return plan_of(tiny_evaluation(tmp_path, metrics=metrics, **settings)).check()


def test_notes_of_all_metrics_are_told_once(tmp_path):
    assert checked(tmp_path, Noted(note="a"), Noted(note="b"), Noted(note="a")) == ("a", "b")


def test_everything_that_does_not_fit_is_told_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"^one\ntwo$"):
        checked(tmp_path, Noted(error="one"), Noted(note="a"), Noted(error="two"), Noted(error="one"))


def test_a_check_without_a_list_of_notes_is_an_error_of_its_plugin(tmp_path):
    with pytest.raises(PluginError, match=r"metric Noted: check returned None; it must return a list of notes"):
        checked(tmp_path, Noted(forgets=True))


def test_few_images_for_the_features_are_a_note_with_the_number(tmp_path):
    two = (Classifier(), EfficientNetLite0Features())
    (note,) = checked(tmp_path, FrechetDistance(), GapClosed(), extractors=two)  # 300 images; 64 features are fine
    assert note.startswith("300 images are few for the 1280 features of efficientnet-lite0: ")
    assert "use 2560 or more" in note


def test_an_extractor_is_checked_once_and_two_of_one_name_are_refused(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(Inception, "check_weights", lambda self: calls.append(self))
    checked(tmp_path, FID(), InceptionScore(), FrechetDistance(), extractors=(Inception(),))
    assert len(calls) == 1
    with pytest.raises(ConfigError, match='two extractors "inception" with different settings'):
        checked(tmp_path, FID(inception=Inception(sha256="0" * 64)), FrechetDistance(), extractors=(Inception(),))


def test_weights_are_checked_before_training(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"something else")
    for metric in (FID, KID, InceptionScore):
        other = Inception(weights=str(tmp_path / "weights.pth"))
        with pytest.raises(ConfigError, match=r"weights\.pth: sha256 is .*, expected .*; the file was not opened"):
            checked(tmp_path, metric(inception=other))
        with pytest.raises(HebmError, match=r"none\.pth: No such file"):
            checked(tmp_path, metric(inception=Inception(weights=str(tmp_path / "none.pth"))))


def test_subsets_and_splits_are_no_larger_than_the_number_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr(Inception, "check_weights", lambda self: None)
    with pytest.raises(ConfigError, match=r"kid takes subsets of 1000 images, .* subset_size = 300 } or use more"):
        checked(tmp_path, KID())
    with pytest.raises(ConfigError, match=r"subset_size = 400 }$"):  # the split has no more
        checked(tmp_path, KID(), samples=2000)
    assert checked(tmp_path, KID(subset_size=300)) == ()
    with pytest.raises(ConfigError, match=r"over 301 splits, and there are 300 images; .* splits = 300"):
        checked(tmp_path, InceptionScore(splits=301))


def test_a_fid_of_few_images_points_to_kid(tmp_path, monkeypatch):
    monkeypatch.setattr(Inception, "check_weights", lambda self: None)
    (note,) = checked(tmp_path, FID())
    assert 'or add the metric "kid"' in note
    (note,) = checked(tmp_path, FID(), KID(subset_size=100))
    assert "kid" not in note
