"""All that the pinned draws need of hebm's interface and that a change of it may spell otherwise.

When an attribute, an argument or a key gets another name, change this file alone. `cases`, `draws` and the recorded
data stay as they are: entry names do not depend on hebm's spelling.
"""

import attrs
from torch import nn

from hebm.interfaces import FitsStatistics, Progress, Regenerates, Request, root_of, tilt_after
from hebm.registry import find
from hebm.training.phases import start_stage

ROOT = "root"
"""The recipe's key of the prior that is tilted."""


# ---------------------------------------------------------------- recipes


def recipe(group, name, **fields):
    """Return a registered recipe; `root` is the recipe of the prior that it tilts."""
    if "root" in fields:
        fields[ROOT] = fields.pop("root")
    return find(f"hebm_{group}", name)(**fields)


def fit_statistics(backbone, images):
    """Set the buffers of a backbone that depend on the data set."""
    if isinstance(backbone, FitsStatistics):
        backbone.fit_statistics(images)


# ---------------------------------------------------------------- drawing


@attrs.frozen(eq=False)
class Drawn:
    """What `draw` returns: u `(n, D)`, the context or None, and diagnostics by name."""

    u: object
    context: object
    diagnostics: dict


def draw(prior, backbone, n, noise, labels=None, context=None, steps=None, fixed=None, after=None, seen=None):
    """Draw from a prior.

    Arguments:
        prior, backbone, n, noise: as `sample` takes them.
        labels, context, steps: as a request has them.
        fixed: u `(n, D)` and the layers (0 is the top) that are given, or None.
        after: name of the stage or level to stop after, such as "stage 1" or "level 0"; None for the prior itself.
        seen: a list that gets Σ log p over the rows, at every call of an observer; None for no observer.
    """
    given = None if fixed is None else backbone.layout.fix(*fixed)
    request = Request(labels, context, steps, after, given, None if seen is None else _observer(seen))
    found = prior.sample(backbone, n, noise, request)
    return Drawn(found.u, found.context, dict(found.diagnostics))


def _observer(seen):
    def observe(name, step, state, info):
        seen.append(info.value.sum())

    return observe


def regenerate(prior, backbone, latents, layers, noise):
    """Draw all but the given layers again, `(n, D)`."""
    fixed = backbone.layout.fix(latents.u, layers)
    if isinstance(prior, Regenerates):
        return prior.regenerate(backbone, latents, fixed, noise, prior.transitions(backbone))
    return prior.sample(backbone, len(latents), noise, Request(context=latents.context, fixed=fixed)).u


# ---------------------------------------------------------------- learning


@attrs.frozen(eq=False)
class Trained:
    """One thing that a prior trains.

    Arguments:
        name: as entries have it, with spaces: "stage 1".
        module: its parameters.
        start: called as `start(backbone, noise)` when its training starts.
        objective: called as `objective(backbone, posterior, noise, labels)`.
    """

    name: str
    module: nn.Module
    start: object
    objective: object


def trained(prior):
    """Return what a prior trains in the order of training, its root's first."""
    return [_trained(stage) for stage in prior.stages()]


def _trained(stage):
    def start(backbone, noise):
        start_stage(stage, backbone, noise)

    def objective(backbone, posterior, noise, labels):
        return stage.objective(backbone, posterior, noise, Progress(3, 10), labels)

    return Trained(stage.name.replace("-", " "), stage.module, start, objective)


# ---------------------------------------------------------------- scoring


def tilt(prior, backbone, latents, after=None):
    """Return the log tilt per energy `(n, E)` of the prior after a stage or level, or of the whole one."""
    found = tilt_after(prior, backbone, after)
    return 0 * latents.u[:, :1] if found is None else found.at(backbone, latents)


def context_bound(prior, context, noise):
    """Return the root's bound on log p(c), `(n,)`."""
    return root_of(prior).context_bound(context, noise)


def context_weight(prior, context, noise):
    """Return the root's log importance weight of c, `(n,)`."""
    return root_of(prior).context_weight(context, noise)
