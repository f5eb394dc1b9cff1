"""Draws, losses and gradients of every prior, by name.

`entries(backbone, case)` computes those of one prior on one backbone in float64, with fixed weights and noise:

    <backbone>/<case>/<mode>/{u, image, context, diagnostics/<name>}    draws, for each mode that the prior has
    <backbone>/<case>/observed/{calls, values}                          the observer's calls, and Σ log p at each
    <backbone>/<case>/regenerate/{u, image}                             given the last layer
    <backbone>/<case>/training/<stage>/{loss, terms/<name>, negative, gradient}
    <backbone>/<case>/after start of <stage>/{u, image, ...}            draws while later stages are untrained
    <backbone>/<case>/tilt[ after <name>]                               log tilts, and the root's bounds on log p(c)

`image` is E[x|T(u)], four fixed projections a row; `gradient` is the sum and the norm of each parameter's gradient.

The recorded numbers are in `draws.safetensors.xz`. A refactoring must not change them. A change that is meant to
change draws records them again, in a commit that says why:

    OMP_NUM_THREADS=1 PYTHONPATH=tests python -m pinned.record

Chains are short and their steps are small, so that the last bits of a product do not grow: numbers agree to
`TOLERANCE`, absolute or relative, on other processors. On one machine they agree closely; the environment variable
`HEBM_PINNED_TOLERANCE` sets another tolerance, such as 1e-12.
"""

import lzma
import os
from pathlib import Path

import safetensors.torch
import torch

from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.testing.subjects import PoisonedNoise, contexts, points

from . import adapter
from .cases import CASES, backbone

FILE = Path(__file__).with_name("draws.safetensors.xz")
TOLERANCE = float(os.environ.get("HEBM_PINNED_TOLERANCE", "1e-9"))
ROWS = 3
START = 70


# ---------------------------------------------------------------- the file


def read():
    """Return the recorded entries by name."""
    return safetensors.torch.load(lzma.decompress(FILE.read_bytes()))


def write(found):
    """Write the recorded entries to the file."""
    FILE.write_bytes(lzma.compress(safetensors.torch.save(found), preset=9))


# ---------------------------------------------------------------- one case


def entries(backbone_name, case_name):
    """Return all entries of a prior on a backbone, by name."""
    case, generator = CASES[backbone_name, case_name], backbone(backbone_name)
    subject = Subject(generator, case)
    found = {**subject.training(), **subject.draws(), **subject.scores()}
    return {f"{backbone_name}/{case_name}/{name}": _plain(value) for name, value in found.items()}


def _plain(value):
    return value.detach().to(torch.float64).contiguous().clone()


def noise(*path):
    return Noise(0, "pinned", *path, dtype=torch.float64)


class Subject:
    """A prior on a backbone, with the points that it is asked about."""

    def __init__(self, generator, case):
        self.backbone, self.case, self.prior = generator, case, case.prior(generator)
        dim, layout = generator.layout.dim, generator.layout
        given = contexts(layout, ROWS, torch.float64)
        self.context = None if given is None else 0.3 * given
        self.given = points(ROWS, dim, torch.float64, "given")
        with torch.no_grad():
            self.latents = generator.latents(points(ROWS, dim, torch.float64, "posterior"), self.context).detach()

    # ------------------------------------------------------------ draws

    def drawn(self, mode, source=None, **asked):
        """Return the entries of one draw."""
        with torch.no_grad():
            draw = adapter.draw(self.prior, self.backbone, ROWS, source or noise(mode), **asked)
            found = {f"{mode}/u": draw.u, f"{mode}/image": self.image(draw.u, draw.context)}
        if draw.context is not None:
            found[f"{mode}/context"] = draw.context
        return {**found, **{f"{mode}/diagnostics/{name}": value for name, value in draw.diagnostics.items()}}

    def image(self, u, context):
        """Return projections of E[x|T(u)], `(n, 4)`."""
        mean = self.backbone.likelihood(self.backbone.latents(u, context)).mean.flatten(1)
        return mean @ noise("projection").normal(4, mean.shape[1]).T

    def draws(self):
        """Return the entries of every drawing mode."""
        top, last = (self.given, {0}), (self.given, {len(self.backbone.layout) - 1})
        found = {
            **self.drawn("plain"),
            **self.drawn("no steps", steps=0),
            **self.drawn("five steps", steps=5),
            **self.drawn("row 70 on", noise("plain").at(START)),
            **self.drawn("one row NaN", PoisonedNoise(0, "pinned", "plain", dtype=torch.float64)),
            **self.drawn("fixed top", fixed=top),
            **self.drawn("fixed last", fixed=last),
            **self.observed("observed"),
            **self.regenerated(),
        }
        for name in self.case.after:
            found |= self.drawn(f"after {name}", noise("plain"), after=name)
        if self.context is not None:
            found |= self.drawn("given context", context=self.context)
            found |= self.drawn("given context and fixed top", context=self.context, fixed=top)
        return found if self.case.labels is None else {**found, **self.labelled(last)}

    def labelled(self, fixed):
        """Return the entries of draws with labels."""
        labels = self.case.labels
        found = {
            **self.drawn("labels", labels=labels),
            **self.drawn("labels and fixed last", labels=labels, fixed=fixed),
            **self.observed("labels observed", labels=labels),
        }
        for name in self.case.after:
            found |= self.drawn(f"labels after {name}", noise("labels"), labels=labels, after=name)
        if self.context is not None:
            found |= self.drawn("labels and given context", labels=labels, context=self.context)
        return found

    def observed(self, mode, **asked):
        """Return the entries of a draw that is observed."""
        seen = []
        found = self.drawn(mode, seen=seen, **asked)
        values = torch.stack(seen) if seen else torch.zeros(0)
        return {**found, f"{mode}/calls": torch.tensor(float(len(seen))), f"{mode}/values": values}

    def regenerated(self):
        """Return the entries of a draw given the last layer."""
        layers = {len(self.backbone.layout) - 1}
        with torch.no_grad():
            u = adapter.regenerate(self.prior, self.backbone, self.latents, layers, noise("regenerate"))
            return {"regenerate/u": u, "regenerate/image": self.image(u, self.context)}

    # ------------------------------------------------------------ learning

    def training(self):
        """Return the entries of every stage's objective, each stage started in turn as training does."""
        stages, found = adapter.trained(self.prior), {}
        for stage in stages:
            stage.start(self.backbone, noise("start"))
            found |= self.learned(stage)
            if stage is not stages[-1]:
                found |= self.drawn(f"after start of {stage.name}", noise("plain"))
        return found

    def learned(self, stage):
        """Return the entries of one objective and its gradient."""
        where = f"training/{stage.name}"
        stage.module.train()
        loss = stage.objective(self.backbone, Posterior(self.latents), noise(where), self.case.labels)
        parameters = [p for p in stage.module.parameters() if p.requires_grad]
        grads = torch.autograd.grad(loss.total, parameters, allow_unused=True, materialize_grads=True)
        stage.module.eval()
        found = {
            f"{where}/loss": loss.total,
            f"{where}/gradient": torch.stack([torch.stack([grad.sum(), grad.norm()]) for grad in grads]),
            **{f"{where}/terms/{name}": value for name, value in loss.terms.items()},
        }
        return found if loss.negative is None else {**found, f"{where}/negative": loss.negative.u}

    # ------------------------------------------------------------ scores

    def scores(self):
        """Return the log tilt, and the root's bound and weight of a context."""
        found = {}
        with torch.no_grad():
            if any(stage.name != "context" for stage in adapter.trained(self.prior)):
                found["tilt"] = adapter.tilt(self.prior, self.backbone, self.latents)
            for name in self.case.after:
                found[f"tilt after {name}"] = adapter.tilt(self.prior, self.backbone, self.latents, name)
            if self.context is not None:
                found["context bound"] = adapter.context_bound(self.prior, self.context, noise("bound"))
                found["context weight"] = adapter.context_weight(self.prior, self.context, noise("weight"))
        return found


# ---------------------------------------------------------------- comparison


def differences(found, recorded, tolerance=TOLERANCE):
    """Return a line for each entry that is missing, additional or different, in the order of their computation."""
    lines = []
    for name in (*found, *(name for name in recorded if name not in found)):
        if name not in recorded:
            lines.append(f"{name}: not recorded")
        elif name not in found:
            lines.append(f"{name}: recorded, but not computed")
        elif complaint := _difference(found[name], recorded[name], tolerance):
            lines.append(f"{name}: {complaint}")
    return lines


def _difference(found, recorded, tolerance):
    """Return how two tensors differ, or None; NaN equals NaN."""
    if found.shape != recorded.shape:
        return f"shape {tuple(found.shape)}, recorded {tuple(recorded.shape)}"
    if torch.allclose(found, recorded, rtol=tolerance, atol=tolerance, equal_nan=True):
        return None
    if (moved := int((found.isnan() != recorded.isnan()).sum())) > 0:
        return f"{moved} numbers are NaN in one of them alone"
    return f"differs by up to {(found - recorded).abs().nan_to_num().max().item():.3g}"
