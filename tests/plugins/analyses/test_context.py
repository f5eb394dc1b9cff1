import csv

import pytest
import torch
from learned import evaluation, every_file_is_there, finite
from tiny_models import LinearBackbone, RootPrior, TinyData, tiny_evaluation

from hebm.interfaces import Draw, Exact, PriorLearner, Request
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.testing.evaluations import StandIn
from hebm_plugins.analyses.context import Context


class Shifted(LinearBackbone):
    """z₁ is moved by a context, which the inference model reads off the image as its mean."""

    def __init__(self):
        super().__init__()
        self.layout = LatentLayout(((3,), (6,)), (1, 1, 1))

    def latents(self, u, context=None):
        plain = super().latents(u)
        return Latents(u, (plain.z[0], plain.z[1] + context.flatten(1)), plain.sigma, context)

    def invert(self, z, context=None):
        plain = super().invert([z[0], z[1] - (0 if context is None else context.flatten(1))])
        return Latents(plain.u, tuple(z), plain.sigma, context)

    def infer(self, batch, noise):
        found = super().infer(batch, noise)
        context = batch.x.mean((1, 2, 3)).view(-1, 1, 1, 1)
        return Posterior(self.invert(found.latents.z, context), log_q=found.log_q, kl=found.kl)


class Contexts(RootPrior):
    """u ~ N(0, I), c far from the data's unless it is given."""

    context = (1, 1, 1)

    def sample(self, backbone, n, noise, request=Request()):
        context = torch.full((n, 1, 1, 1), 5.0) if request.context is None else request.context
        return Draw(noise.normal(n, self.layout.dim), context)

    def context_bound(self, context, noise):
        return torch.zeros(len(context))

    context_weight = context_bound


class Known(PriorLearner):
    """The root's draws, moved by a shift; the tilt is large where they are."""

    def __init__(self, layout, shift):
        super().__init__()
        self.root, self.shift = Contexts(layout), shift

    def transitions(self, backbone):
        return (Exact(name="prior", apply=lambda at, noise, request: at.moved(at.u + self.shift)),)

    def tilt(self, latents):
        return latents.u.sum(1, keepdim=True)


@pytest.fixture
def made(tmp_path):
    def of(shift=None):
        backbone = Shifted()
        prior = Contexts(backbone.layout) if shift is None else Known(backbone.layout, shift)
        found = tiny_evaluation(tmp_path, prior=prior, data=TinyData(), samples=128, batch_size=64, backbone=backbone)
        found.extractors["classifier"] = StandIn("classifier", 2)  # features of all pixels, not of what labels tell
        return found

    return of


def test_a_tilted_prior_and_its_root_with_contexts_of_data_and_drawn(made, tmp_path):
    section = Context(images=128, columns=3).run(made(0.5), tmp_path)
    assert every_file_is_there(section, tmp_path)
    assert finite(section)
    rows = list(csv.DictReader(open(tmp_path / "contexts.csv")))
    assert [(row["draws of"], row["contexts"]) for row in rows] == [
        ("root", "of data"),
        ("root", "drawn"),
        ("prior", "of data"),
        ("prior", "drawn"),
    ]
    assert section.numbers["n"] == 128
    assert set(section.numbers["auroc"]) == set(section.numbers["auroc_of_tilt"]) == {"root", "prior"}


def test_a_root_alone_has_two_rows(made, tmp_path):
    section = Context(images=64, columns=3).run(made(), tmp_path)
    assert set(section.numbers["auroc"]) == {"root"}
    assert section.numbers["auroc_of_tilt"] == {}


def test_contexts_far_from_the_datas_give_worse_draws(made, tmp_path):
    section = Context(images=128).run(made(), tmp_path)
    distance = section.numbers["fd"]
    assert distance["root, drawn"] > 1.1 * distance["root, of data"]


def test_draws_far_from_the_posterior_are_told_apart(made, tmp_path):
    found = Context(images=400).run(made(6.0), tmp_path).numbers
    assert found["auroc"]["prior"] > 0.95
    assert found["auroc"]["root"] < found["auroc"]["prior"]
    assert found["auroc_of_tilt"]["prior"] < 0.05 < 0.5 < found["auroc_of_tilt"]["root"]


def test_a_prior_without_a_context_is_left_out():
    assert "no context" in Context().unsupported(evaluation("joint"))
