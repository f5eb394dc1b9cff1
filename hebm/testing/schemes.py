"""What a training scheme promises. Every check is called with a recipe, and the images and the backbone it trains.

The prior that is trained is `hebm.testing.reference_priors.ReferencePrior`. A phase is trained here as a run does it:
only the parameters of its groups require gradients, and each group has the optimiser that it asks for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import nn

from hebm.errors import HebmError
from hebm.interfaces import Backbone, Batch, ImageSpec, InferringBackbone, Loss, PriorLearner, Progress, tilt_of
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.testing.evaluations import GeneratorOnly
from hebm.testing.promises import (
    ConformanceError,
    expect_close,
    expect_equal,
    expect_finite,
    expect_gradients,
    expect_shape,
    no_global_randomness,
    promise,
)
from hebm.testing.reference_priors import ReferencePrior
from hebm.testing.subjects import ReferenceBackbone, image_batch, image_set, perturbed, seeded
from hebm.training.phases import Group, Phase, SchemeRecipe, Supplies
from hebm.training.state import GroupState, clip_gradients, load_module

ROWS = 6
OWNERS = ("backbone", "prior")


@attrs.frozen(eq=False)
class Trained:
    """A backbone and a prior while a scheme trains them.

    Arguments:
        recipe: of the scheme.
        images: that are trained on.
        backbone, prior: the modules.
        phases: in order.
    """

    recipe: SchemeRecipe
    images: ImageSpec
    backbone: Backbone
    prior: PriorLearner
    phases: tuple[Phase, ...]

    @classmethod
    def of(cls, recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None, seed: int = 0) -> Trained:
        """Build the model, prepare it, and list the phases."""
        own = ReferenceBackbone(images=images) if backbone is None else copy.deepcopy(backbone)
        own = perturbed(seeded(lambda: own.train(), seed))
        prior = seeded(lambda: ReferencePrior(own.layout, stages=1), seed)
        try:
            recipe.prepare(own, prior, image_set(images), Noise(0, "prepare"))
            phases = recipe.phases(own, prior)
        except HebmError as error:
            fix = "train the backbone that it needs: cases(recipe, backbone=…)"
            promise(False, "phases for a small backbone", f"{type(error).__name__}: {error}", fix)
            raise
        return cls(recipe, images, own, prior, phases)

    def start(self, phase: Phase) -> list[GroupState]:
        """Start a phase: freeze all parameters except its own, and build its optimisers."""
        for module in (self.backbone, self.prior):
            module.requires_grad_(False)
        for group in phase.groups.values():
            for parameter in group.parameters().values():
                parameter.requires_grad_(True)
        phase.start(Noise(0, "begin", phase.key), Supplies())
        return [GroupState.of(name, group) for name, group in phase.groups.items()]

    def loss(self, phase: Phase, number: int = 0) -> Loss:
        """Return the loss of a step in the middle of a phase."""
        step = phase.steps // 2 + number
        found: Loss = phase(image_batch(self.images, ROWS), Noise(0, "train", step), Progress(step, phase.steps))
        return found

    def step(self, phase: Phase, groups: list[GroupState], number: int) -> None:
        """Take one step of every optimiser of the phase, at its rate in the middle of the phase."""
        for group in groups:
            group.set_rate(phase.steps // 2 + number, phase.steps)
        torch.autograd.backward(self.loss(phase, number).total)
        clip_gradients(groups, phase.one_clip)
        for group in groups:
            group.update()
            group.optimizer.zero_grad(set_to_none=True)

    def started(self) -> Iterator[tuple[Phase, list[GroupState]]]:
        """Yield each phase when it has started."""
        for phase in self.phases:
            yield phase, self.start(phase)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return all parameters, by name."""
        owners = zip(OWNERS, (self.backbone, self.prior), strict=True)
        return {f"{owner}.{name}": p for owner, module in owners for name, p in module.named_parameters()}


def _parameters(group: Group) -> set[int]:
    """Return the parameters that a group means to train, whatever its owner."""
    return {id(p) for module in group.trained for p in module.parameters() if p.requires_grad}


def check_phases(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """`phases` gives `Phase`s with names of their own and at least one step, and the same ones again."""
    trained = Trained.of(recipe, images, backbone)
    strange = [type(phase).__name__ for phase in trained.phases if not isinstance(phase, Phase)]
    fix = "derive each from hebm.training.phases.Phase"
    promise(not strange and bool(trained.phases), "phases, at least one", ", ".join(strange) or "none", fix)
    names = [phase.name for phase in trained.phases]
    unique = len(set(names)) == len(names) and all(names)
    promise(unique, "a name of its own for each phase", ", ".join(map(repr, names)), "build it from the stage's name")
    idle = [phase.name for phase in trained.phases if not isinstance(phase.steps, int) or phase.steps < 1]
    promise(not idle, "steps >= 1", f"fewer in {', '.join(idle)}", "option(…, low=1)")
    again = [phase.name for phase in recipe.phases(trained.backbone, trained.prior)]
    promise(again == names, "the same phases, listed again", ", ".join(again), "keep no state in the recipe")


def check_groups(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Groups are called "backbone" and "prior", and train parameters of that module and of the phase, each once."""
    trained = Trained.of(recipe, images, backbone)
    modules: Mapping[str, nn.Module] = {"backbone": trained.backbone, "prior": trained.prior}
    for phase in trained.phases:
        fix = 'groups = {"backbone": Group(backbone, …), "prior": Group(prior, …)}'
        strange = [name for name, group in phase.groups.items() if modules.get(name) is not group.owner]
        promise(not strange, 'groups "backbone" and "prior" with that owner', ", ".join(map(repr, strange)), fix)
        own = {id(p) for p in phase.parameters()}
        seen: set[int] = set()
        for name, group in phase.groups.items():
            wanted, of_owner = _parameters(group), {id(p) for p in group.owner.parameters()}
            outside = len(wanted - of_owner)
            fix = f"list sub-modules of the {name} alone: others are neither saved nor averaged with it"
            promise(not outside, f"parameters of the {name}", f"{outside} of another module", fix)
            promise(bool(wanted), f"parameters in group {name!r}", "none", "leave an empty group out")
            twice = len(wanted & seen)
            promise(not twice, "each parameter in one group", f"{twice} in two", "divide the modules")
            unowned = len(wanted - own)
            fix = "set the module as an attribute of the phase: only then do several processes average its gradients"
            promise(not unowned, "parameters of the phase's own sub-modules", f"{unowned} are not", fix)
            seen |= wanted


def check_loss(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """`forward` gives a finite scalar that reaches every parameter of its groups, and detached scalar terms."""
    trained = Trained.of(recipe, images, backbone)
    for phase, _ in trained.started():
        loss: Any = trained.loss(phase)
        promise(isinstance(loss, Loss), "a Loss", type(loss).__name__, "return hebm.interfaces.Loss(total, terms)")
        expect_shape(f"the loss of phase {phase.name!r}", loss.total, (), "average over the batch")
        expect_finite(f"the loss of phase {phase.name!r}", loss.total, "bound what is exponentiated")
        named = [pair for group in phase.groups.values() for pair in group.parameters().items()]
        fix = "leave modules that are not used out of the group: several processes would wait for their gradients"
        expect_gradients(loss.total, named, f"the loss of {phase.name!r} reaches all its parameters", fix)
        attached = [name for name, term in loss.terms.items() if term.requires_grad or term.ndim]
        promise(not attached, "terms are detached scalars", f"others: {', '.join(attached)}", "term.detach()")
        watched = phase.watched == "loss" or phase.watched in loss.terms
        promise(watched, f"the term {phase.watched!r} that patience watches", ", ".join(loss.terms), "add it to terms")


def check_trains(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Two steps of a phase change every parameter of its groups, and no other."""
    trained = Trained.of(recipe, images, backbone)
    for phase, groups in trained.started():
        own = {id(p) for group in phase.groups.values() for p in group.parameters().values()}
        before = {name: p.detach().clone() for name, p in trained.named_parameters().items()}
        for number in range(2):
            trained.step(phase, groups, number)
        moved = {name for name, p in trained.named_parameters().items() if not torch.equal(p, before[name])}
        wanted = {name for name, p in trained.named_parameters().items() if id(p) in own}
        fix = "put exactly the modules that the loss depends on into the groups, and set no weight by hand"
        promised = f"two steps of {phase.name!r} change its parameters alone"
        promise(moved <= wanted, promised, f"others changed: {', '.join(sorted(moved - wanted)[:4])}", fix)
        promise(wanted <= moved, promised, f"unchanged: {', '.join(sorted(wanted - moved)[:4])}", fix)


def check_resume(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """A phase that is resumed after one step, from weights and moments, takes the same second step bit for bit."""
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
        fix = "keep nothing between steps but parameters and buffers; set up the rest in Phase.start, from its noise"
        promise(not differing, f"{phase.name!r} resumes exactly", f"others: {', '.join(differing[:4])}", fix)


def check_repeats(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """The loss is a function of weights, batch, noise and progress: computed again, it is equal bit for bit."""
    trained = Trained.of(recipe, images, backbone)
    for phase, _ in trained.started():
        first, again = trained.loss(phase).total, trained.loss(phase).total
        expect_equal(f"the loss of {phase.name!r}, computed again", again, first, "draw from the noise that is given")


def check_no_global_rng(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Losses and the posterior touch no global generator."""
    trained = Trained.of(recipe, images, backbone)
    with no_global_randomness("the scheme"):
        for phase, _ in trained.started():
            trained.loss(phase)
        _posterior(trained, image_batch(images, ROWS), Noise(0, "infer"))


def _posterior(trained: Trained, batch: Batch, noise: Noise) -> Posterior:
    with torch.no_grad():
        return trained.recipe.posterior(trained.backbone.eval(), tilt_of(trained.prior), batch, noise)


def check_posterior(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """`posterior` gives finite latents u `(B, D)`, z = T(u), with and without a tilt; log q and KL are `(B, L)`."""
    trained, batch = Trained.of(recipe, images, backbone), image_batch(images, ROWS)
    layout = trained.backbone.layout
    for tilt in (tilt_of(trained.prior), None):
        with torch.no_grad():
            posterior: Any = recipe.posterior(trained.backbone.eval(), tilt, batch, Noise(0, "infer"))
            kind, fix = type(posterior).__name__, "return hebm.latents.Posterior(backbone.latents(u), …)"
            promise(isinstance(posterior, Posterior), "a Posterior", kind, fix)
            latents = posterior.latents
            expect_shape("u", latents.u, (ROWS, layout.dim), fix)
            expect_finite("u", latents.u, "lower the step size of the chain")
            again = trained.backbone.latents(latents.u, latents.context)
        expect_close("the posterior's z = T(u)", latents.flat_z, again.flat_z, 1e-4, fix)
        for name, terms in (("log_q", posterior.log_q), ("kl", posterior.kl)):
            if terms is not None:
                expect_shape(name, terms, (ROWS, len(layout)), "one column per layer, top first")


def check_posterior_noise(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """The latents of an image are a function of the noise's key, the row and the image."""
    trained, batch = Trained.of(recipe, images, backbone), image_batch(images, ROWS)
    labels = None if batch.labels is None else batch.labels[3:]
    last = Batch(batch.x[3:], batch.target[3:], labels, batch.index[3:])
    a, b, c = (_posterior(trained, batch, Noise(0, name)).latents.u for name in ("a", "a", "c"))
    tail = _posterior(trained, last, Noise(0, "a", start=3)).latents.u
    fix = "draw by noise.normal(len(batch.x), …), rows being images, and let no image depend on another"
    expect_equal("the same key gives the same latents", a, b, fix)
    promise(not torch.equal(a, c), "another key gives other latents", "the same", fix)
    expect_close("rows 3 to 5 with noise.at(3) are rows 3 to 5 of the whole batch", tail, a[3:], 1e-4, fix)


def check_infers_by_q(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """A scheme with `infers_by_q` gives the latents of `backbone.infer`, whatever the tilt."""
    trained, batch = Trained.of(recipe, images, backbone), image_batch(images, ROWS)
    inferring = trained.backbone.eval()
    if not recipe.infers_by_q or not isinstance(inferring, InferringBackbone):
        return
    with torch.no_grad():
        expected = inferring.infer(batch, Noise(0, "infer")).latents.u
    found = _posterior(trained, batch, Noise(0, "infer")).latents.u
    fix = "leave infers_by_q at False: evaluation takes such a scheme's reconstructions for those of the backbone"
    expect_equal("the latents of q(z|x)", found, expected, fix)


def check_unsuited(recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """A backbone without an inference model is trained, or refused by `phases` with a `HebmError`."""
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
    fix = "raise ConfigError in phases(), or call hebm.training.two_phase.require_inference there"
    promise(False, "training without q(z|x), or a HebmError of phases() that says what is missing", seen, fix)
