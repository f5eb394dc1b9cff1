"""Checks of a training scheme. Every check is called with a recipe, a description of images, and a backbone or None.

The checks train `hebm.testing.reference_priors.ReferencePrior`. As in a run, only the parameters of a phase's groups
require gradients, and each group has its configured optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hebm.errors import HebmError
from hebm.interfaces import Backbone, Batch, ImageSpec, InferringBackbone, Loss, tilt_of
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.testing.evaluations import GeneratorOnly
from hebm.testing.promises import (
    ConformanceError,
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    expect_gradients,
    expect_shape,
    no_global_randomness,
)
from hebm.testing.reference_priors import ReferencePrior
from hebm.testing.scheme_training import OWNERS, ROWS, Trained
from hebm.testing.subjects import image_batch, seeded
from hebm.training.phases import Group, Phase, SchemeRecipe
from hebm.training.state import load_module


def _parameters(group: Group) -> set[int]:
    """Return the ids of all parameters in a group's modules, also of modules outside its owner."""
    return {id(p) for module in group.trained for p in module.parameters() if p.requires_grad}


def check_phases(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `phases` returns `Phase`s with unique names and at least one step, and the same ones again."""
    trained = Trained.of(recipe, images, backbone)
    strange = [type(phase).__name__ for phase in trained.phases if not isinstance(phase, Phase)]
    fix = "derive every phase from hebm.training.phases.Phase"
    expect(not strange and bool(trained.phases), "a tuple of at least one Phase", ", ".join(strange) or "no phase", fix)
    names = [phase.name for phase in trained.phases]
    unique = len(set(names)) == len(names) and all(names)
    expect(unique, "phases with unique names", ", ".join(map(repr, names)), "use the name of the stage in the name")
    idle = [phase.name for phase in trained.phases if not isinstance(phase.steps, int) or phase.steps < 1]
    expect(
        not idle,
        "steps >= 1 in every phase",
        f"fewer in {', '.join(idle)}",
        "declare the number of steps with option(…, low=1)",
    )
    again = [phase.name for phase in recipe.phases(trained.backbone, trained.prior)]
    expect(again == names, "equal phases from a second call of phases", ", ".join(again), "store nothing in the recipe")


def check_groups(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that groups are called "backbone" and "prior", and train parameters of that module, each once.

    They must be parameters of the phase, too.
    """
    trained = Trained.of(recipe, images, backbone)
    modules: Mapping[str, nn.Module] = {"backbone": trained.backbone, "prior": trained.prior}
    for phase in trained.phases:
        fix = 'set groups = {"backbone": Group(backbone, …), "prior": Group(prior, …)}, or one of them'
        strange = [name for name, group in phase.groups.items() if modules.get(name) is not group.owner]
        expect(
            not strange,
            'groups "backbone" and "prior", which own the module of that name',
            ", ".join(map(repr, strange)),
            fix,
        )
        own = {id(p) for p in phase.parameters()}
        seen: set[int] = set()
        for name, group in phase.groups.items():
            wanted, of_owner = _parameters(group), {id(p) for p in group.owner.parameters()}
            outside = len(wanted - of_owner)
            fix = f"list only sub-modules of the {name}; others are neither saved nor averaged with it"
            expect(
                not outside,
                f"only parameters of the {name} in group {name!r}",
                f"{outside} parameters of another module",
                fix,
            )
            expect(bool(wanted), f"at least one parameter in group {name!r}", "none", "leave out an empty group")
            twice = len(wanted & seen)
            expect(
                not twice,
                "each parameter in one group",
                f"{twice} parameters are in two",
                "put each module into one group",
            )
            unowned = len(wanted - own)
            fix = "set the module as an attribute of the phase, so that several processes average its gradients"
            expect(
                not unowned,
                f"group {name!r} has only parameters of the phase",
                f"{unowned} parameters are in no sub-module of the phase",
                fix,
            )
            seen |= wanted


def check_loss(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `forward` returns a finite scalar with a gradient in every parameter of its groups.

    Terms must be detached scalars.
    """
    trained = Trained.of(recipe, images, backbone)
    for phase, _ in trained.started():
        loss: Any = trained.loss(phase)
        expect(
            isinstance(loss, Loss),
            "a Loss from forward",
            type(loss).__name__,
            "return hebm.interfaces.Loss(total, terms)",
        )
        expect_shape(f"the loss of phase {phase.name!r}", loss.total, (), "average over the batch")
        expect_finite(f"the loss of phase {phase.name!r}", loss.total, "bound the arguments of exponentials")
        named = [pair for group in phase.groups.values() for pair in group.parameters().items()]
        fix = "leave unused modules out of the group, because training with several processes waits for their gradients"
        expect_gradients(
            loss.total, named, f"the loss of phase {phase.name!r} has a gradient in all its parameters", fix
        )
        attached = [name for name, term in loss.terms.items() if term.requires_grad or term.ndim]
        expect(
            not attached,
            "terms that are detached scalars",
            f"attached or not scalar: {', '.join(attached)}",
            "use term.detach()",
        )
        watched = phase.watched == "loss" or phase.watched in loss.terms
        seen = f"only the terms {', '.join(loss.terms)}"
        expect(watched, f"the term {phase.watched!r}, which `patience` watches", seen, "add it to Loss.terms")


def check_trains(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that two steps of a phase change every parameter of its groups and no other."""
    trained = Trained.of(recipe, images, backbone)
    for phase, groups in trained.started():
        own = {id(p) for group in phase.groups.values() for p in group.parameters().values()}
        before = {name: p.detach().clone() for name, p in trained.named_parameters().items()}
        for number in range(2):
            trained.step(phase, groups, number)
        moved = {name for name, p in trained.named_parameters().items() if not torch.equal(p, before[name])}
        wanted = {name for name, p in trained.named_parameters().items() if id(p) in own}
        fix = "put exactly the modules that the loss uses into the groups, and set no weight outside the optimiser"
        expected = f"two steps of phase {phase.name!r} change all parameters of its groups, and no others"
        expect(moved <= wanted, expected, f"others changed: {', '.join(sorted(moved - wanted)[:4])}", fix)
        expect(wanted <= moved, expected, f"unchanged: {', '.join(sorted(wanted - moved)[:4])}", fix)


def check_resume(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that a phase resumed after one step takes the same second step, bit for bit."""
    straight, resumed = Trained.of(recipe, images, backbone), Trained.of(recipe, images, backbone, seed=1)
    for i, (phase, groups) in enumerate(straight.started()):
        straight.step(phase, groups, 0)
        for name in OWNERS:
            weights = {key: value.clone() for key, value in getattr(straight, name).state_dict().items()}
            load_module(getattr(resumed, name), weights, name)
        files = {f: {k: t.clone() for k, t in ts.items()} for g in groups for f, ts in g.tensors().items()}
        later = resumed.start(resumed.phases[i])
        for group in later:
            group.load(files)
        straight.step(phase, groups, 1)
        resumed.step(resumed.phases[i], later, 1)
        wanted = straight.named_parameters()
        differing = [name for name, p in resumed.named_parameters().items() if not torch.equal(p, wanted[name])]
        fix = "keep only parameters and buffers between steps; set up everything else in Phase.start, from its noise"
        expect(
            not differing,
            f"phase {phase.name!r} takes the same second step after a resume",
            f"different: {', '.join(differing[:4])}",
            fix,
        )


def check_repeats(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that the loss is a function of weights, batch, noise and progress."""
    trained = Trained.of(recipe, images, backbone)
    for phase, _ in trained.started():
        first, again = trained.loss(phase).total, trained.loss(phase).total
        expect_equal(
            f"the loss of phase {phase.name!r} is equal if computed again",
            again,
            first,
            "draw from the noise argument only",
        )


def check_no_global_rng(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that losses and the posterior use no global generator."""
    trained = Trained.of(recipe, images, backbone)
    with no_global_randomness("the scheme"):
        for phase, _ in trained.started():
            trained.loss(phase)
        _posterior(trained, image_batch(images, ROWS), Noise(0, "infer"))


def _posterior(trained: Trained, batch: Batch, noise: Noise) -> Posterior:
    with torch.no_grad():
        return trained.recipe.posterior(trained.backbone.eval(), tilt_of(trained.prior), batch, noise)


def check_posterior(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `posterior` returns finite u `(B, D)` with z = T(u), with and without a tilt.

    log q and KL must be None or `(B, L)`.
    """
    trained, batch = Trained.of(recipe, images, backbone), image_batch(images, ROWS)
    layout = trained.backbone.layout
    for tilt in (tilt_of(trained.prior), None):
        with torch.no_grad():
            posterior: Any = recipe.posterior(trained.backbone.eval(), tilt, batch, Noise(0, "infer"))
            kind, fix = type(posterior).__name__, "return hebm.latents.Posterior(backbone.latents(u), …)"
            expect(isinstance(posterior, Posterior), "a Posterior from posterior", kind, fix)
            latents = posterior.latents
            expect_shape("u", latents.u, (ROWS, layout.dim), fix)
            expect_finite("u", latents.u, "use a smaller step size of the posterior chain")
            again = trained.backbone.latents(latents.u, latents.context)
        expect_close("z = T(u) for the posterior's latents", latents.flat_z, again.flat_z, 1e-4, fix)
        for name, terms in (("log_q", posterior.log_q), ("kl", posterior.kl)):
            if terms is not None:
                expect_shape(name, terms, (ROWS, len(layout)), "return one column per layer, top first")


def check_posterior_noise(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that the latents of an image depend only on the noise key, the row and the image."""
    trained, batch = Trained.of(recipe, images, backbone), image_batch(images, ROWS)
    labels = None if batch.labels is None else batch.labels[3:]
    last = Batch(batch.x[3:], batch.target[3:], labels, batch.index[3:])
    a, b, c = (_posterior(trained, batch, Noise(0, name)).latents.u for name in ("a", "a", "c"))
    tail = _posterior(trained, last, Noise(0, "a", start=3)).latents.u
    fix = "draw by noise.normal(len(batch.x), …), one row per image, and let no image depend on another"
    expect_equal("equal noise keys give equal latents", a, b, fix)
    expect(not torch.equal(a, c), "different noise keys give different latents", "equal latents", fix)
    expect_close("rows 3 to 5 drawn with noise.at(3) equal rows 3 to 5 of the whole batch", tail, a[3:], 1e-4, fix)


def check_infers_by_q(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that a scheme with `infers_by_q` returns the latents of `backbone.infer`, with any tilt."""
    trained, batch = Trained.of(recipe, images, backbone), image_batch(images, ROWS)
    inferring = trained.backbone.eval()
    if not recipe.infers_by_q or not isinstance(inferring, InferringBackbone):
        return
    with torch.no_grad():
        expected = inferring.infer(batch, Noise(0, "infer")).latents.u
    found = _posterior(trained, batch, Noise(0, "infer")).latents.u
    fix = "set infers_by_q to False, because evaluation would use the latents of backbone.infer for this scheme"
    expect_equal("the latents of posterior equal those of backbone.infer", found, expected, fix)


def check_unsuited(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `phases` trains a backbone without an inference model, or raises a `HebmError`."""
    generator = seeded(lambda: GeneratorOnly(images))
    prior = seeded(lambda: ReferencePrior(generator.layout, stages=1))
    try:
        recipe.phases(generator, prior)
    except HebmError:
        return
    except Exception as error:
        _refuse(error)
    try:
        check_loss(recipe, images, generator)
        check_posterior(recipe, images, generator)
    except ConformanceError:
        raise
    except Exception as error:
        _refuse(error)


def _refuse(error: Exception) -> None:
    seen = f"{type(error).__name__}: {error}"
    fix = "in phases(), raise ConfigError or call hebm.training.two_phase.require_inference"
    expect(False, "training without q(z|x), or a HebmError from phases() that says what is missing", seen, fix)
