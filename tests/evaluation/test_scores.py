import pytest
import torch
from tiny_models import LinearBackbone, RootPrior, ShiftedPrior, tiny_evaluation

from hebm.errors import ConfigError, NonFiniteError
from hebm.evaluation.references import EvenSubset
from hebm.evaluation.scores import Scorer, above, scan
from hebm.interfaces import Regenerates, Tilts, tilt_of


class Tilted(ShiftedPrior):
    """f_i = Σ z_i; what is not fixed becomes 7."""

    def tilt(self, latents):
        return torch.stack([z.sum(1) for z in latents.z], dim=1)

    def regenerate(self, backbone, latents, fixed, noise, path):
        return fixed.apply(torch.full_like(latents.u, 7.0))


def evaluation(tmp_path, **options):
    return tiny_evaluation(tmp_path, prior=Tilted(LinearBackbone().layout, 1.0), **options)


def batch_of(made, n=10):
    return made.batch(made.splits["test"], 0, n)


def test_column_k_sums_the_layers_above_the_k_th_from_the_bottom():
    tilts = torch.tensor([[1.0, 10.0, 100.0]])  # top first
    assert above(tilts).tolist() == [[111.0, 11.0, 1.0]]
    assert above(tilts[:, :1]).tolist() == [[1.0]]


def test_scores_are_the_tilts_of_inferred_latents(tmp_path):
    made = evaluation(tmp_path)
    batch, noise = batch_of(made), made.noise("scores")
    latents = made.model.backbone.eval().infer(batch, noise).latents
    expected = torch.stack([latents.z[0].sum(1) + latents.z[1].sum(1), latents.z[0].sum(1)], dim=1)
    scorer = Scorer(made.model)
    assert torch.allclose(scorer.scores(batch, noise), expected)
    squares = latents.u.square()
    control = -0.5 * torch.stack([squares.sum(1), squares[:, :3].sum(1)], dim=1)
    assert torch.allclose(scorer.gaussian(batch, noise), control)


def test_regenerated_scores_fix_the_layers_above_k_and_no_other(tmp_path):
    made = evaluation(tmp_path)
    batch, noise = batch_of(made), made.noise("scores")
    scorer = Scorer(made.model)
    by_inference = scorer.scores(batch, noise)
    for k in (0, 1):
        assert torch.allclose(scorer.regenerated(batch, noise, k), by_inference[:, k])
    u = scorer.inferred(batch, noise.derive(0)).u
    fixed = made.model.backbone.layout.fix(u, range(1)).mask  # k = 1 of 2 layers: the top one
    assert fixed.tolist() == [True] * 3 + [False] * 6


def test_scanning_batches_equals_scoring_at_once(tmp_path):
    made = evaluation(tmp_path, batch_size=64)
    images = EvenSubset(made.splits["test"], 150)
    found = scan(made, images, Scorer(made.model).scores, "test")
    assert found.dtype == torch.float64
    whole = made.batch(images, 0, 150)
    assert torch.allclose(found.float(), Scorer(made.model).scores(whole, made.noise("scores")), atol=1e-5)


def test_scores_that_are_not_finite_are_an_error(tmp_path):
    made = evaluation(tmp_path)
    with pytest.raises(NonFiniteError, match="400 of 400 scores of poisoned"):
        scan(made, made.splits["test"], lambda batch, noise: torch.full((len(batch.x), 2), torch.nan), "poisoned")


def test_who_has_a_tilt_and_who_regenerates():
    layout = LinearBackbone().layout
    priors = (Tilted(layout, 1), ShiftedPrior(layout, 1), RootPrior(layout))
    assert [isinstance(prior, Tilts) for prior in priors] == [True, False, False]
    assert [tilt_of(prior) is not None for prior in priors] == [True, False, False]
    assert [isinstance(prior, Regenerates) for prior in priors] == [True, False, False]


def test_a_prior_without_a_tilt_has_no_scores(tmp_path):
    made = tiny_evaluation(tmp_path)
    with pytest.raises(ConfigError, match="no tilt to score by"):
        Scorer(made.model).scores(batch_of(made), made.noise("scores"))


def test_scores_of_images_unlike_the_training_data_are_the_lowest_where_they_are_no_numbers(tmp_path):
    made = evaluation(tmp_path)
    images = EvenSubset(made.splits["test"], 4)
    found = torch.tensor([1.0, float("nan"), float("inf"), -2.0])
    scores = scan(made, images, lambda batch, noise: found, "outside", unlike=True)
    assert scores.tolist() == [1.0, float("-inf"), float("inf"), -2.0]
