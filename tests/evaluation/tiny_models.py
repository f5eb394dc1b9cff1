"""A linear two-layer generator, a shifted prior, and a data set drawn from known latents: all that metrics look at."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import attrs
import torch
from torch import nn

from hebm.config.recipes import recipe
from hebm.data.dataset_recipe import ImageData, spec
from hebm.data.images import ArrayImages
from hebm.data.splits import Splits
from hebm.errors import ConfigError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.plan import EvaluationPlan
from hebm.evaluation.settings import EvaluateSettings
from hebm.evaluation.shares import Processes
from hebm.interfaces import Backbone, Draw, Exact, InferringBackbone, PriorLearner, Request
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import GaussianPixels
from hebm.noise import whole_blocks
from hebm.trained import TrainedModel
from hebm.training.phases import SchemeRecipe

SHAPE = (1, 8, 8)
_EXTRACTORS = tempfile.TemporaryDirectory()
EXTRACTORS = Path(_EXTRACTORS.name)
"""A cache folder that all tests of a process share, so that they train one classifier."""


class LinearGenerator(Backbone):
    """x = tanh(W z₁), z₁ = A z₂ + 0.5 u₁, z₂ = u₂, without an inference model."""

    def __init__(self):
        super().__init__()
        self.layout = LatentLayout(((3,), (6,)))
        generator = torch.Generator().manual_seed(0)
        self.top = nn.Parameter(torch.randn(3, 6, generator=generator))
        self.out = nn.Parameter(torch.randn(6, 64, generator=generator) / 3)
        self.drop = nn.Dropout(0.5)

    def latents(self, u, context=None):
        u2, u1 = self.layout.split(u)
        return Latents(u, (u2, u2 @ self.top + 0.5 * u1), (torch.ones_like(u2), torch.full_like(u1, 0.5)))

    def invert(self, z, context=None):
        return Latents(
            self.layout.join([z[0], (z[1] - z[0] @ self.top) / 0.5]), tuple(z), (torch.ones(1), torch.ones(1))
        )

    def likelihood(self, latents):
        return GaussianPixels(torch.tanh(self.drop(latents.z[1]) @ self.out).unflatten(1, SHAPE), 0.3)


class LinearBackbone(LinearGenerator, InferringBackbone):
    """The same generator, with a posterior that is a delta at the least-squares solution."""

    def infer(self, batch, noise):
        logits = batch.target.clamp(-0.999, 0.999).atanh().flatten(1)
        z1 = logits @ torch.linalg.pinv(self.out)
        z2 = z1 @ torch.linalg.pinv(self.top)
        latents = self.invert([z2, z1])
        kl = latents.u.square().sum(1, keepdim=True).expand(-1, 2)
        return Posterior(latents, log_q=torch.zeros_like(kl), kl=kl)


class RootPrior(PriorLearner):
    def __init__(self, layout):
        super().__init__()
        self.root, self.layout = None, layout

    def sample(self, backbone, n, noise, request=Request()):
        return Draw(noise.normal(n, self.layout.dim), request.context).fixed_as(request.fixed)


class Copies(RootPrior):
    """Draws the u of the 400 training images."""

    def __init__(self, layout):
        super().__init__(layout)
        self.known = 1 + torch.randn(400, layout.dim, generator=torch.Generator().manual_seed(0))

    def sample(self, backbone, n, noise, request=None):
        return Draw(self.known[(noise.start + torch.arange(n)) % 400])


class ShiftedPrior(PriorLearner):
    """Moves every draw of its root by what the data's latents are moved; one row can be made NaN."""

    def __init__(self, layout, shift, broken=()):
        super().__init__()
        self.root, self.shift, self.broken = RootPrior(layout), shift, set(broken)

    def transitions(self, backbone):
        return (Exact(name="prior", apply=self.shifted),)

    def shifted(self, at, noise, request):
        start = noise.start
        u = at.u + self.shift
        for row in self.broken & set(range(start, start + len(u))):
            u[row - start] = float("nan")
        return at.moved(u)


class InferScheme(SchemeRecipe):
    infers_by_q = True

    def phases(self, backbone, prior):
        raise ConfigError("nothing to train")

    def posterior(self, backbone, tilt, batch, noise):
        return backbone.infer(batch, noise)


@recipe
class TinyData(ImageData):
    """Images of a `LinearBackbone` whose u has mean 1: the Gaussian prior misses them, `ShiftedPrior(1)` does not."""

    rows: int = 400

    def source(self, split):
        generator = torch.Generator().manual_seed(int(split == "test"))
        u = 1 + torch.randn(self.rows, 9, generator=generator)
        backbone = LinearBackbone().eval()
        with torch.no_grad():
            x = backbone.likelihood(backbone.latents(u)).mean
        pixels = ((x + 1) * 127.5).round().to(torch.uint8)
        return ArrayImages(pixels, (u[:, 0] > 1).long(), ("low", "high"))


def tiny_evaluation(
    tmp_path,
    prior=None,
    data=None,
    seed=0,
    world=1,
    rank=0,
    gather=None,
    backbone=None,
    request=None,
    scheme=None,
    store=None,
    sources=None,
    listener=None,
    **settings,
):
    data = data or TinyData()
    backbone = backbone or LinearBackbone()
    prior = prior or ShiftedPrior(backbone.layout, 1.0)
    settings = EvaluateSettings(**{"metrics": (), "samples": 300, **settings})
    images = {split: data.load(split) for split in ("train", "test")}
    rows, scheme, request = (
        whole_blocks(settings.batch_size or 512),
        scheme or InferScheme(),
        request or settings.request,
    )
    model = TrainedModel(backbone, prior, scheme, seed, request, rows, settings.decode)
    processes = Processes(world, rank, gather)
    return Evaluation(model, Splits(data, images), settings, processes, str(tmp_path), store, sources, listener)


def gathering(world):
    """One gather per process, over threads."""
    barrier, slots = threading.Barrier(world), [None] * world

    def gather(rank):
        def call(tensor):
            slots[rank] = tensor
            barrier.wait(timeout=60)
            whole = torch.cat([part.clone() for part in slots])
            barrier.wait(timeout=60)
            return whole

        return call

    return [gather(rank) for rank in range(world)]


def plan_of(evaluation, **changes):
    """The plan of an evaluation, as metrics check it before training."""
    images = evaluation.splits.images
    shown = spec(images["train"], evaluation.splits.recipe)
    plan = EvaluationPlan(images, shown, evaluation.settings, evaluation.model.backbone, evaluation.model.prior)
    return attrs.evolve(plan, **changes)


def numbers(measurements):
    """The values of measurements by name, kind and part: `{"fd.prior": 8.9}`."""
    found = {".".join(filter(None, m.key[:3])): m.value for m in measurements}
    assert len(found) == len(measurements)
    return found
