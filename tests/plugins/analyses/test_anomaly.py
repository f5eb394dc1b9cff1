import pytest
from learned import evaluation, every_file_is_there
from tiny_models import TinyData

from hebm.errors import DataError
from hebm_plugins.analyses.anomaly import Anomaly

WITHOUT = TinyData(without=("high",))


@pytest.mark.parametrize(("prior", "joint"), [("joint", True), ("diffusion", False)])
def test_what_was_left_out_is_scored_against_the_others(tmp_path, prior, joint):
    made = evaluation(prior, data=WITHOUT)
    recipe = Anomaly(images=50)
    assert recipe.unsupported(made) is None
    section = recipe.run(made, tmp_path)
    names = [row[0] for row in section.tables[0].rows]
    assert "Σ f by inference, L>0" in names
    assert "log p(x|z)" in names
    assert ("log p(x|z) + f + log N(u)" in names) == joint
    assert ("Σ f regenerated, L>1" in names) != joint
    assert section.numbers["share"] == 0.5
    assert every_file_is_there(section, tmp_path)


def test_anomalies_are_the_positives_and_low_scores_find_them(tmp_path):
    made = evaluation(data=TinyData(without=("low",)))  # "high" is seen: the top latent above 1
    made.model.prior.tilt = lambda latents: latents.u[:, :2]
    section = Anomaly().run(made, tmp_path)
    # u[:, 0] > 1 is what "high" means, up to 8-bit rounding of the images, and the score is u[:, 0] alone
    top = section.numbers["Σ f by inference, L>1"]
    assert top["auroc"] > 0.95
    assert top["auprc"] > 0.95


def test_a_run_that_left_nothing_out_or_a_prior_without_a_tilt_is_refused():
    assert "data.without" in Anomaly().unsupported(evaluation())
    assert "no tilt" in Anomaly().unsupported(evaluation("root", data=WITHOUT))


def test_a_test_split_without_the_class_is_an_error(tmp_path):
    made = evaluation(data=WITHOUT)
    made.splits.images["test"] = made.splits.images["train"]
    with pytest.raises(DataError, match="no image is in the classes high"):
        Anomaly().run(made, tmp_path)
