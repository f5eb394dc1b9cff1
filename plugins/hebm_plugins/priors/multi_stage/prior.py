"""A product of density ratios over u, each learned by contrast with the product of those before it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hebm.densities import Tilt, TiltedPrior
from hebm.errors import ConfigError
from hebm.interfaces import (
    PLAIN,
    Backbone,
    Draw,
    EnergyFn,
    ImageSpec,
    Info,
    Loss,
    PriorLearner,
    Progress,
    Request,
    Sampler,
    Stage,
)
from hebm.latents import Latents, Posterior
from hebm.noise import Noise
from hebm.sampling import Observer, later, run
from hebm_plugins.priors.contrast import bce, contrast_terms
from hebm_plugins.priors.labels import Coupling
from hebm_plugins.priors.multi_stage.choices import Contrast, Drawing
from hebm_plugins.priors.multi_stage.negatives import Bank, Pool
from hebm_plugins.priors.multi_stage.smc import Particles, chosen, smc


class MultiStagePrior(PriorLearner):
    """log p_M(u) = Σ_{s ≤ M} log r_s(T(u)) − |u|²/2 − log Z,   log r_s(z) = Σ_i f_{s,i}(z_i).

    Arguments:
        base: p_0, and the context.
        ratios: an energy for each stage.
        sampler: of the chains, in training and after it: a product belongs to the chain it was learned with.
        coupling: labels and energies; with labels a net has one logit more, of the negatives.
        drawing: how draws are made.
        contrast: how ratios are learned.
        dim: D.
    """

    stages_begun: Tensor
    label_shift: Tensor
    begun: int
    """Ratios that count: those of the stages whose training has begun; the others are 1."""

    def __init__(
        self,
        base: PriorLearner,
        ratios: Sequence[EnergyFn],
        sampler: Sampler,
        coupling: Coupling,
        drawing: Drawing,
        contrast: Contrast,
        dim: int,
    ) -> None:
        super().__init__()
        self.base, self.ratios, self.sampler, self.coupling = base, nn.ModuleList(ratios), sampler, coupling
        self.drawing, self.contrast = drawing, contrast
        self.bank = Bank(contrast.pool, dim) if contrast.negatives == "posterior" else None
        self.pool: Pool | None = None
        self.register_buffer("stages_begun", torch.zeros((), dtype=torch.int64))
        self.begun = 0
        shifts = [[0.0 if column is None else math.log(coupling.logits)] for column in coupling.columns]
        self.register_buffer("label_shift", torch.tensor(shifts), persistent=False)
        self.register_load_state_dict_post_hook(_read_begun)

    @property
    def labelled(self) -> bool:
        """Whether labels are coupled to an energy, or the base heeds them."""
        return self.coupling.labelled or (self.base is not None and self.base.labelled)

    def check(self, images: ImageSpec) -> None:
        """Raises `ConfigError` unless the images have as many classes or attributes as labels were made for."""
        super().check(images)
        self.coupling.check(images)

    # ------------------------------------------------------------ the density

    def tilt(self, latents: Latents) -> Tensor:
        """Σ_s f_{s,i}(z_i) over the stages begun, `(B, E)`."""
        return self.product(self.begun, latents)

    def product(self, stages: int, latents: Latents, labels: Tensor | None = None) -> Tensor:
        """Σ_{s ≤ stages} f_{s,i}(z_i), given labels where there are any, `(B, E)`; 0 of no stage."""
        return self._tilt(range(stages), labels)(latents)

    def _tilt(self, stages: Sequence[int], labels: Tensor | None = None, fold: bool = False) -> Tilt:
        """The sum of log ratios number `stages`, the first being 0; the last one gives the label's.

        Each stage has learned p(y|z) anew: the labels of all of them together would count it M times.
        """
        energies: list[Any] = [self.ratios[s].folded() if fold else self.ratios[s] for s in stages]

        def tilt(latents: Latents) -> Tensor:
            if not energies:
                return 0 * latents.u[:, :1]
            *before, last = [energy(latents) for energy in energies]
            terms = [*(self._log_ratio(logits) for logits in before), self._log_ratio(last, labels)]
            return torch.stack(terms).sum(0)

        return tilt

    def _log_ratio(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """f_i `(B, E)` of logits l `(B, E, K)`; with labels log Σ_y exp(l_y) / K − l_{K+1}, or that of one y.

        The division by K lets a net of zeros be r = 1.
        """
        relative = self._relative(logits)
        return self.coupling.tilt(relative, torch.ones_like(relative[:, 0, :1]), labels)

    def _relative(self, logits: Tensor) -> Tensor:
        return logits[..., :-1] - logits[..., -1:] - self.label_shift if self.coupling.labelled else logits

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> TiltedPrior:
        """Σ_s log r_s(T(u)) − |u|²/2 over the stages begun."""
        return self._density(backbone, range(self.begun), context, labels)

    def _density(
        self, backbone: Backbone, stages: Sequence[int], context: Tensor | None, labels: Tensor | None
    ) -> TiltedPrior:
        density = TiltedPrior(backbone, self._tilt(stages, labels, fold=True), context)
        density.modules = (backbone, self.ratios)
        return density

    def milestones(self) -> Mapping[str, MultiStagePrior]:
        """The product up to each stage."""
        return {f"stage {s}": self._up_to(s) for s in range(1, self.begun + 1)}

    def _up_to(self, stages: int) -> MultiStagePrior:
        prior = copy.copy(self)
        prior.begun = stages
        return prior

    def factors(self) -> Mapping[str, PriorLearner]:
        """The ratio of each stage alone."""
        found: dict[str, PriorLearner] = {}
        for s in range(self.begun):
            prior = self._up_to(1)
            prior._modules = {**self._modules, "ratios": nn.ModuleList([self.ratios[s]])}
            found[f"stage {s + 1}"] = prior
        return found

    # ------------------------------------------------------------ drawing

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = PLAIN) -> Draw:
        """Draws of the product of the stages begun; `observe` counts steps over all chains."""
        return self._drawn(self.begun, backbone, n, noise, request)

    def _drawn(self, stages: int, backbone: Backbone, n: int, noise: Noise, request: Request = PLAIN) -> Draw:
        """Of the product of the first so many."""
        if self.drawing.mode == "smc" and stages:
            particles, context = self._particles(stages, backbone, n, noise, request)
            return Draw(chosen(particles, noise.derive("choice")), context, {"ess": particles.share})
        start = self.base.sample(backbone, n, noise.derive("base"), request)
        u = start.u
        for i, target in enumerate(self._targets(stages)):
            watch = later(request.observe, i * self._length(request))
            density = self._density(backbone, target, start.context, request.labels)
            u = run(self.sampler, density, u, noise.derive("chain", i), request.steps, watch, request.hold).u
        return Draw(u, start.context)

    def _length(self, request: Request) -> int:
        """Steps of each chain."""
        return self.sampler.steps if request.steps is None else request.steps

    def _targets(self, stages: int) -> list[range]:
        """The ratios that each chain climbs."""
        if self.drawing.mode == "joint":
            return [range(stages)] if stages else []
        single = self.drawing.factors == "single"
        return [range(s if single else 0, s + 1) for s in range(stages)]

    def _particles(
        self, stages: int, backbone: Backbone, n: int, noise: Noise, request: Request
    ) -> tuple[Particles, Tensor | None]:
        """P particles of each sample, and the samples' contexts."""
        p, rows = self.drawing.particles, noise.grouped(self.drawing.particles)
        each = request.repeated(p)
        start = self.base.sample(backbone, n * p, rows.derive("base"), each)
        context = None if start.context is None else start.context[::p]
        shared = None if context is None else context.repeat_interleave(p, 0)
        densities = [self._density(backbone, range(s + 1), shared, each.labels) for s in range(stages)]
        ratios = [TiltedPrior(backbone, self._weight(s, each.labels), shared).remainder for s in range(stages)]

        def move(s: int, u: Tensor) -> Tensor:
            watch = later(_first_of(request.observe, p), (s - 1) * self._length(request))
            return run(self.sampler, densities[s - 1], u, rows.derive("chain", s), request.steps, watch, each.hold).u

        with torch.no_grad():
            particles = smc(start.u.unflatten(0, (n, p)), ratios, move, noise, self.drawing.threshold)
        return particles, context

    def _weight(self, s: int, labels: Tensor | None) -> Tilt:
        """Return the log weight of step s: its chain's target over that of the step before.

        The step before ends in l_{s−1,y} of the label y, the chain of step s counts f_{s−1} in its place:
        l_{s,y} + f_{s−1} − l_{s−1,y}.
        """
        here = self._tilt((s,), labels, fold=True)
        if s == 0 or labels is None or not self.coupling.labelled:
            return here
        before = self._tilt((s - 1,), fold=True)
        before_labelled = self._tilt((s - 1,), labels, fold=True)
        return lambda latents: here(latents) + before(latents) - before_labelled(latents)

    # ------------------------------------------------------------ learning

    def stages(self) -> tuple[Stage, ...]:
        """The base's, then every ratio against the product of those before it."""
        return (*super().stages(), *(self._stage(m) for m in range(1, len(self.ratios) + 1)))

    def _stage(self, m: int) -> Stage:
        tilt = partial(self.product, m - 1) if self.contrast.infer_under == "previous" else None
        return Stage(
            name=f"stage-{m}",
            module=self.ratios[m - 1],
            objective=partial(self._objective, m),
            start=partial(self._start, m),
            tilt=tilt,
        )

    def _start(self, m: int, backbone: Backbone, noise: Noise) -> None:
        """Stage m starts, or resumes: the ratios before it are fixed.

        Raises `ConfigError` for a pool of draws on a backbone that moves.
        """
        if self.contrast.negatives == "pool" and any(p.requires_grad for p in backbone.parameters()):
            raise ConfigError(
                'prior.negatives: a "pool" keeps draws of a fixed backbone, this scheme trains it too; use "chain" or '
                '"posterior", or train.type = "two-phase"'
            )
        if self.bank is not None and self.begun != m:
            self.bank.turn()
        self.begun = m
        self.stages_begun.fill_(m)
        self.pool = Pool(self.contrast.pool, self.contrast.refresh, noise.derive("pool"))
        for ratio in self.ratios[: m - 1]:
            ratio.eval()

    def _objective(
        self,
        m: int,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """−E_q[log σ(log r_m)] − E_{p_{m−1}}[log(1 − σ(log r_m))], 2 log 2 at r_m = 1; with labels also the
        cross-entropy of theirs: together that of K + 1 classes, the last being "drawn from p_{m−1}".
        """
        positive = posterior.latents
        negative, drawn = self._negative(m, backbone, positive, noise, progress.step)
        if self.bank is not None:
            self.bank.record(positive.flat_z)
        logits = self.ratios[m - 1](positive)
        on_positive, on_negative = self._log_ratio(logits), self._log_ratio(self.ratios[m - 1](negative))
        nonfinite = (~negative.u.isfinite().all(1)).sum().to(on_negative.dtype)
        terms = {**contrast_terms(on_positive, on_negative), "nonfinite_chains": nonfinite}
        if self.contrast.loss == "joint":
            on_positive, on_negative = on_positive.sum(1, keepdim=True), on_negative.sum(1, keepdim=True)
        loss = bce(on_positive, on_negative).sum()
        if self.coupling.labelled:
            entropy = self._cross_entropy(logits, labels)
            loss, terms = loss + self.contrast.label_weight * entropy, {**terms, "cross_entropy": entropy.detach()}
        return Loss(loss, terms, drawn)

    def _cross_entropy(self, logits: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise ConfigError("prior: it was made for labels, these images have none; set classes and attributes to 0")
        relative = self._relative(logits)
        return self.coupling.cross_entropy(relative, torch.ones_like(relative[:, 0, :1]), labels).mean()

    @torch.no_grad()
    def _negative(
        self, m: int, backbone: Backbone, positive: Latents, noise: Noise, step: int
    ) -> tuple[Latents, Latents | None]:
        """Latents of p_{m−1} with the context of the positives, and the same where they are draws of the prior under
        which latents are inferred, so that a scheme may use them for its normaliser.
        """
        rows = len(positive.u)
        if self.bank is not None and (z := self.bank.take(noise.derive("bank"), rows)) is not None:
            return backbone.invert(backbone.layout.split(z), positive.context).detach(), None
        given = Request(context=positive.context)
        if m == 1:
            u = self.base.sample(backbone, rows, noise.derive("base"), given).u
        elif self.contrast.negatives == "pool" and self.pool is not None:
            u = self.pool.take(partial(self._many, m - 1, backbone), step, noise.derive("pool"), rows)
        else:
            u = self._drawn(m - 1, backbone, rows, noise.derive("negative"), given).u
        drawn = backbone.latents(u, positive.context).detach()
        return drawn, drawn if self.contrast.infer_under == "previous" else None

    def _many(self, stages: int, backbone: Backbone, n: int, noise: Noise) -> Tensor:
        """n draws `(n, D)` of a product, for the pool."""
        return self._drawn(stages, backbone, n, noise).u


def _read_begun(prior: MultiStagePrior, _: object) -> None:
    """After weights were loaded: how many stages they belong to."""
    prior.begun = int(prior.stages_begun)


def _first_of(observe: Observer | None, particles: int) -> Observer | None:
    """An observer of the first particle of each sample."""
    if observe is None:
        return None

    def first(step: int, state: Any, info: Info) -> None:
        accepted = None if info.accepted is None else info.accepted[::particles]
        observe(step, (state[0][::particles],), Info(info.value[::particles], info.grad[::particles], accepted))

    return first
