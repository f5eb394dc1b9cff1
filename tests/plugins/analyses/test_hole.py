import csv

import pytest
import torch
from learned import evaluation, every_file_is_there, finite
from tiny_models import LinearGenerator, RootPrior, TinyData, tiny_evaluation
from torch import nn

from hebm.config.recipes import recipe
from hebm.data.dataset_recipe import ImageData
from hebm.data.images import ArrayImages
from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec, InferringBackbone
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import GaussianPixels
from hebm.testing.evaluations import WITH_CONTEXT, StandIn, subjects
from hebm_plugins.analyses import inferred_u
from hebm_plugins.analyses.hole import Hole
from hebm_plugins.analyses.mixed_draws import MixedDraws

SMALL = Hole(samples=400)


class Known(InferringBackbone):
    """x = tanh(W u) of L layers of 3, z = u; q(u|x) = N(a u(x), 1 − a²) with u(x) exact."""

    def __init__(self, layers=2, signal=1.0, says_mean=True):
        super().__init__()
        self.layout = LatentLayout(((3,),) * layers)
        self.out = nn.Parameter(torch.randn(3 * layers, 64, generator=torch.Generator().manual_seed(0)) / 6)
        self.signal, self.says_mean = torch.as_tensor(signal), says_mean

    def latents(self, u, context=None):
        z = self.layout.split(u)
        return Latents(u, z, tuple(map(torch.ones_like, z)))

    def invert(self, z, context=None):
        return self.latents(self.layout.join(z))

    def likelihood(self, latents):
        return GaussianPixels(torch.tanh(latents.u @ self.out).unflatten(1, (1, 8, 8)), 0.3)

    def infer(self, batch, noise):
        known = batch.x.clamp(-0.999, 0.999).atanh().flatten(1) @ torch.linalg.pinv(self.out)
        mean = self.signal * known
        u = mean + (1 - self.signal**2).sqrt() * noise.normal(*mean.shape)
        kl = torch.stack([part.square().sum(1) / 2 for part in self.layout.split(mean)], dim=1)
        return Posterior(self.latents(u), kl=kl, mean=self.layout.split(mean) if self.says_mean else None)


@recipe
class KnownData(ImageData):
    """Images of a `Known` backbone of 2 layers: u of mean 1, or each layer N(0, I) and the lower one a copy."""

    copied: bool = False

    def source(self, split):
        u = torch.randn(400, 6, generator=torch.Generator().manual_seed(1))
        u = torch.cat([u[:, :3], u[:, :3]], dim=1) if self.copied else u + 1
        with torch.no_grad():
            backbone = Known()
            x = backbone.likelihood(backbone.latents(u)).mean
        return ArrayImages(((x + 1) * 127.5).round().to(torch.uint8), (u[:, 0] > 1).long(), ("low", "high"))


def made(tmp_path, backbone=None, copied=False, batch_size=256):
    backbone, data = backbone or Known(), KnownData(copied=copied)
    prior = RootPrior(backbone.layout)
    found = tiny_evaluation(tmp_path, prior=prior, data=data, samples=400, batch_size=batch_size, backbone=backbone)
    found.extractors["classifier"] = StandIn("classifier", 2)  # features of all pixels, not of what labels tell
    return found


def test_independent_layers_close_everything_where_the_aggregate_posterior_factorises(tmp_path):
    section = SMALL.run(made(tmp_path), tmp_path)
    closed = section.numbers["gap_closed"]
    assert closed["independent"] > 0.95
    assert closed["posterior"] == 1
    assert closed["root"] == 0
    assert closed["scaled"] > 0.9
    assert 0.1 < closed["top-1"] < 0.9
    assert section.text[0].startswith("The prior hole is within the layers")
    assert '"mlp" or "conv"' in section.text[0]
    assert every_file_is_there(section, tmp_path)
    assert finite(section)


def test_independent_layers_close_nothing_where_only_their_dependence_is_wrong(tmp_path):
    section = SMALL.run(made(tmp_path, copied=True), tmp_path)
    closed = section.numbers["gap_closed"]
    for row in ("independent", "top-1", "bottom-1", "scaled"):
        assert -0.25 < closed[row] < 0.15, row
    assert closed["fitted"] > 0.85  # the dependence is linear
    assert section.text[0].startswith("The prior hole is in how a layer depends on the layers above it")
    assert '"image-conv"' in section.text[0]
    assert "feature" not in section.text[0]  # this backbone shows none
    assert "layer 2 adds most" in section.text[1]


def test_it_is_found_out_whether_the_image_depends_on_the_last_layer_alone(tmp_path):
    markov = evaluation("root")
    others = made(tmp_path)
    for whole, alone in ((markov, True), (others, False)):
        u = inferred_u.infer_u(whole).u
        assert MixedDraws(whole, u).last_layer_decides(None) is alone


def test_the_ends_are_the_evaluations_own_reconstructions_and_gaussian_draws(tmp_path):
    whole = evaluation("root")
    fd = Hole(samples=128, rows=()).run(whole, tmp_path).numbers["fd"]
    assert list(fd) == ["posterior", "root"]
    assert fd["posterior"] == pytest.approx(whole.distance("reconstruction"), rel=1e-3)
    assert fd["root"] == pytest.approx(whole.distance("gaussian"), rel=1e-3)


def test_the_prior_does_not_matter(tmp_path):
    few = Hole(samples=128, rows=("independent",))
    assert few.run(evaluation("joint"), tmp_path) == few.run(evaluation("root"), tmp_path)


def test_numbers_do_not_depend_on_the_batch_size(tmp_path):
    one, other = (SMALL.run(made(tmp_path, batch_size=size), tmp_path).numbers for size in (64, 256))
    assert one["gap_closed"] == pytest.approx(other["gap_closed"], abs=1e-3)
    assert one["layers"] == [pytest.approx(layer) for layer in other["layers"]]


def test_only_the_rows_that_are_asked_for_are_measured(tmp_path):
    section = Hole(samples=128, rows=("temperature",), temperatures=(0.7,)).run(made(tmp_path), tmp_path)
    assert list(section.numbers["fd"]) == ["posterior", "root", "temperature-0.7"]
    assert [picture.file for picture in section.pictures] == ["layers.png"]
    assert 'add "independent" to hole.rows' in section.text[0]
    with open(tmp_path / "rows.csv") as file:
        assert [row["row"] for row in csv.DictReader(file)] == list(section.numbers["fd"])


def test_many_layers_have_few_cuts_the_first_and_the_last_among_them(tmp_path):
    deep = Known(12)
    whole = tiny_evaluation(tmp_path, prior=RootPrior(deep.layout), data=KnownData(), samples=64, backbone=deep)
    fd = Hole(samples=64, rows=("top", "bottom"), cuts=3).run(whole, tmp_path).numbers["fd"]
    cuts = [1, 6, 11]
    assert list(fd)[2:] == [f"{kind}-{cut}" for kind in ("top", "bottom") for cut in cuts]


@pytest.mark.parametrize("says_mean", [True, False], ids=["mean of q", "two draws"])
def test_active_share_and_effective_dimensions_are_those_of_the_signal(tmp_path, says_mean):
    signal = torch.tensor([0.9, 0.9, 0.9, 0.8, 0.0, 0.0])
    whole = made(tmp_path, Known(signal=signal, says_mean=says_mean))
    section = Hole(samples=400, rows=()).run(whole, tmp_path)
    top, bottom = section.numbers["layers"]
    assert top["share"] == pytest.approx(0.81, abs=0.06)
    assert bottom["share"] == pytest.approx(0.64 / 3, abs=0.06)
    assert top["dimensions"] == pytest.approx(3, abs=0.2)
    assert bottom["dimensions"] == pytest.approx(1, abs=0.3)
    assert top["kl"] == pytest.approx(0.81 * 3, rel=0.2)  # E[u²] = 2, halved


def test_a_layer_without_signal_has_no_effective_dimensions_to_show(tmp_path):
    section = Hole(samples=128, rows=()).run(made(tmp_path, Known(signal=torch.zeros(6))), tmp_path)
    assert [layer["dimensions"] for layer in section.numbers["layers"]] == [None, None]
    assert section.tables[1].rows[0][-1] == "–"


def test_where_reconstructions_are_worse_than_gaussian_draws_the_gap_is_said_to_be_undefined(tmp_path):
    section = Hole(samples=128).run(made(tmp_path, Known(signal=-1.0)), tmp_path)
    assert set(section.numbers["gap_closed"].values()) == {None}
    assert section.text[0].startswith("The gap is not defined: reconstructions are not nearer")
    assert finite(section)


def test_every_row_uses_the_contexts_of_the_images(tmp_path):
    whole = subjects(ImageSpec(1, 8, 8, classes=("a", "b")), None)[WITH_CONTEXT].evaluation()
    seen = []
    plain = whole.model.backbone.latents

    def latents(u, context=None):
        seen.append(context)
        return plain(u, context)

    whole.model.generator.latents = latents
    inferred = inferred_u.infer_u(whole).context
    seen.clear()
    section = Hole(samples=64, rows=("independent",)).run(whole, tmp_path)
    drawn = [context for context in seen if context is not None]
    assert sum(torch.equal(context, inferred) for context in drawn) >= 3
    assert any("c ~ r(c|x)" in paragraph for paragraph in section.text)


def test_a_generator_alone_and_images_without_features_are_left_out(tmp_path):
    generator = LinearGenerator()
    whole = tiny_evaluation(tmp_path, prior=RootPrior(generator.layout), data=TinyData(), backbone=generator)
    assert "no inference model" in Hole().unsupported(whole)
    assert Hole().unsupported(evaluation("root")) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ("independent", "middle")}, "expected one of 'independent', 'top'"),
        ({"samples": 10}, "at least 64"),
        ({"cuts": 0}, "at least 1"),
        ({"temperatures": (0.0,)}, "more than 0"),
    ],
)
def test_options_that_make_no_sense_are_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        Hole(**options)


def test_latents_that_would_not_fit_into_memory_are_an_error_that_says_how_many_do(tmp_path, monkeypatch):
    monkeypatch.setattr(inferred_u, "_MOST_BYTES", 12 * 6 * 150)
    with pytest.raises(ConfigError, match=r"hole\.samples.*at most 150"):
        SMALL.run(made(tmp_path), tmp_path)


def test_images_that_are_not_finite_are_said_to_be_so(tmp_path):
    class Overflows(Known):
        def likelihood(self, latents):
            far = latents.u.abs().amax(1, keepdim=True) > 3.5
            return super().likelihood(with_u(latents, torch.where(far, torch.nan, latents.u)))

    def with_u(latents, u):
        return Latents(u, latents.z, latents.sigma)

    section = Hole(samples=400, rows=("independent",)).run(made(tmp_path, Overflows()), tmp_path)
    assert section.numbers["fd"]["root"] is None or section.numbers["fd"]["posterior"] is None
    assert "not finite" in section.text[0]
    assert "not finite" in section.tables[0].caption
