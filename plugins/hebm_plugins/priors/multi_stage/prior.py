"""A product of density ratios over u, each learned by contrast with draws of the product of the previous ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from hebm.contrasts import bce
from hebm.interfaces import (
    MCMC,
    Backbone,
    Contrasted,
    Draw,
    EnergyFn,
    ImageSpec,
    Latents,
    Loss,
    Noise,
    Population,
    Posterior,
    PriorLearner,
    Progress,
    Request,
    RowCache,
    Sampler,
    Stage,
    Tilt,
    TiltedPrior,
    Transition,
    seen_by,
    sees_of,
    shown,
    starting,
)
from hebm.training.kept_latents import Kept
from hebm_plugins.module_lists import ModuleList
from hebm_plugins.priors.contrast import contrast_terms
from hebm_plugins.priors.labels import Coupling
from hebm_plugins.priors.multi_stage.negatives import Bank, Pool, bound_to, require_fixed
from hebm_plugins.priors.multi_stage.settings import Contrast, Drawing


class MultiStagePrior(PriorLearner):
    """log p_M(u) = Σ_{s ≤ M} log r_s(T(u)) − |u|²/2 − log Z,   log r_s(z) = Σ_i f_{s,i}(z_i).

    Arguments:
        root: p_0, which also draws the context.
        ratios: one energy per stage.
        sampler: runs the chains, in training and after it. A ratio is learned against draws of this sampler.
        coupling: assigns labels to energies; with labels, a net has one more logit, for the negatives.
        drawing: settings for drawing from the product.
        contrast: settings for learning the ratios.
        dim: D, the dimension of u.
        start_proposals: P; if above 1, a chain from the root starts at one of P draws, chosen with weights exp f.
        start: the prior whose draws are the starts of chains; None for the root.

    `trained_stages` counts the stages whose training has started. The ratios of later stages are 1.
    """

    root: PriorLearner
    label_shift: Tensor

    def __init__(
        self,
        root: PriorLearner,
        ratios: Sequence[EnergyFn],
        sampler: Sampler,
        coupling: Coupling,
        drawing: Drawing,
        contrast: Contrast,
        dim: int,
        start_proposals: int = 1,
        start: PriorLearner | None = None,
    ) -> None:
        super().__init__()
        self.root, self.ratios, self.sampler, self.coupling = root, ModuleList(ratios), sampler, coupling
        self.drawing, self.contrast, self.trained_stages = drawing, contrast, 0
        self.reads = ("latents",) if contrast.negatives == "posterior" else ()
        self.start_proposals, self.start = start_proposals, start
        self.bank = Bank(contrast.pool, dim) if contrast.negatives == "posterior" else None
        self.pool: Pool | None = None
        if drawing.mode == "smc":
            self.population = Population(drawing.particles, drawing.threshold)
        shifts = [[0.0 if column is None else math.log(coupling.logits)] for column in coupling.columns]
        self.register_buffer("label_shift", torch.tensor(shifts, dtype=torch.float64), persistent=False)

    def get_extra_state(self) -> Tensor:
        """Return the number of trained stages, which is saved with the weights."""
        return torch.tensor(self.trained_stages)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the number of trained stages to that of the loaded weights."""
        self.trained_stages = int(state)

    @property
    def labelled(self) -> bool:
        """Whether any energy carries a label."""
        return self.coupling.labelled

    def check(self, images: ImageSpec) -> None:
        """Raise `ConfigError` unless the images have as many classes or attributes as the prior."""
        self.coupling.check(images)

    # ------------------------------------------------------------ the density

    def tilt(self, latents: Latents) -> Tensor:
        """Return Σ_s f_{s,i}(z_i) over the trained stages, `(B, E)`."""
        return self.product(self.trained_stages).f(latents)

    def product(self, stages: int) -> Tilt:
        """Return the tilt Σ_{s ≤ stages} f_{s,i}(z_i), which is 0 for `stages` = 0."""
        return self._tilt(range(stages))

    def _tilt(self, stages: Sequence[int], labels: Tensor | None = None, fold: bool = False) -> Tilt:
        """Return the sum of the log ratios of some stages, counted from 0. Labels apply to the last of them alone.

        Each stage has learned p(y|z) on its own, so labels in every stage would count p(y|z) several times.
        """
        energies = [self.ratios[s].folded() if fold else self.ratios[s] for s in stages]

        def f(latents: Latents) -> Tensor:
            if not energies:
                return 0 * latents.u[:, :1]
            *before, last = [energy(latents) for energy in energies]
            terms = [*(self._log_ratio(logits) for logits in before), self._log_ratio(last, labels)]
            return torch.stack(terms).sum(0)

        return Tilt(f, (self.ratios,), (*stages, labels is None))

    def _weight(self, s: int, labels: Tensor | None) -> Tilt:
        """Return the log ratio of the chain's target at stage number `s` to that of the previous stage.

        With a label y, the previous target has l_{s−1,y} where the target of stage s has f_{s−1}, so the ratio is
        l_{s,y} + f_{s−1} − l_{s−1,y}.
        """
        here = self._tilt((s,), labels, fold=True)
        if s == 0 or labels is None or not self.labelled:
            return here
        marginal, labelled = self._tilt((s - 1,), fold=True), self._tilt((s - 1,), labels, fold=True)
        return Tilt(lambda latents: here.f(latents) + marginal.f(latents) - labelled.f(latents), (self.ratios,))

    def _log_ratio(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return f_i `(B, E)` of logits l `(B, E, K)`.

        A prior with labels has K + 1 logits: f_i = log Σ_y exp(l_y) / K − l_{K+1}, or the term of y alone for given
        labels. With the division by K, a net with zero output has r = 1.
        """
        relative = self._relative(logits)
        return self.coupling.tilt(relative, torch.ones_like(relative[:, 0, :1]), labels)

    def _relative(self, logits: Tensor) -> Tensor:
        return logits[..., :-1] - logits[..., -1:] - self.label_shift.to(logits) if self.labelled else logits

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> TiltedPrior:
        """Return Σ_s log r_s(T(u)) − |u|²/2 over the trained stages."""
        return self._density(backbone, range(self.trained_stages), context, labels)

    def _density(
        self, backbone: Backbone, stages: Sequence[int], context: Tensor | None, labels: Tensor | None
    ) -> TiltedPrior:
        return TiltedPrior(backbone, self._tilt(stages, labels, fold=True), context)

    # ------------------------------------------------------------ drawing

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List one chain per trained stage.

        In mode joint every stage's chain starts at the root, so a draw from a product runs only the chain of that
        product.
        """
        return self._transitions(backbone, self.trained_stages)

    def planned_transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List one chain per stage, trained or not."""
        return self._transitions(backbone, len(self.ratios))

    def _transitions(self, backbone: Backbone, stages: int) -> tuple[Transition, ...]:
        return tuple(transition for s in range(stages) for transition in self._stage_transitions(backbone, s))

    def _stage_transitions(self, backbone: Backbone, s: int) -> tuple[Transition, ...]:
        """List the transitions of stage number `s`: the choice of its start, if there is one, and its chain."""
        mode, single = self.drawing.mode, self.drawing.factors == "single"
        again = mode == "joint"
        climbed = range(s if mode == "progressive" and single else 0, s + 1)

        def target(at: Draw, request: Request) -> TiltedPrior:
            return self._density(backbone, climbed, at.context, request.labels)

        name = f"stage {s + 1}"
        start = self._chain_start(f"start {name}", backbone, target, again) if again or s == 0 else ()
        chain = MCMC(
            name=name,
            sampler=self.sampler,
            density=target,
            key=("chain", {"joint": 0, "progressive": s, "smc": s + 1}[mode]),
            ratio=partial(self._weight, s),
            from_root=again and not start,
        )
        return *start, chain

    def _chain_start(
        self, name: str, backbone: Backbone, target: Callable[[Draw, Request], TiltedPrior], again: bool
    ) -> tuple[Transition, ...]:
        return starting(self, backbone, target, self.start_proposals, name, from_root=again, key=("start",))

    # ------------------------------------------------------------ learning

    def stages(self) -> tuple[Stage, ...]:
        """List the stages of the root and the start, then one stage per ratio."""
        return (*self.stages_before(), *(self._stage(m) for m in range(1, len(self.ratios) + 1)))

    def _stage(self, m: int) -> Stage:
        return Stage(
            name=f"stage {m}",
            module=self.ratios[m - 1],
            objective=partial(self._objective, m),
            start=partial(self._start, m),
            tilt=self.product(m - 1) if self.contrast.infer_under == "previous" else None,
            reads=self.reads,
            contrasted=partial(self._contrasted, m),
        )

    def _start(self, m: int, backbone: Backbone, noise: Noise, cache: RowCache = RowCache()) -> None:
        """Start or resume stage m, with the previous ratios in evaluation mode."""
        if self.bank is not None and self.trained_stages != m:
            self.bank.turn()
        self.trained_stages = m
        for ratio in self.ratios[: m - 1]:
            ratio.eval()
        self.pool = self._pool(m, backbone, noise.derive("pool"), cache)

    def _pool(self, m: int, backbone: Backbone, noise: Noise, cache: RowCache) -> Pool | None:
        """Return the pool of draws of p_{m−1}, or None.

        Stage 1 needs no pool if the energies see only latents: new draws of the root are then cheap.
        """
        if self.contrast.negatives != "pool":
            return None
        require_fixed(backbone)
        if m == 1 and not sees_of(self.ratios):
            return None
        chain = () if m == 1 else (self.sampler, self.drawing, self.start_proposals)
        bound = bound_to(cache, self.root, [self.ratios[s] for s in range(m - 1)], chain)
        if m > 1 and self.start is not None:
            bound = RowCache()  # a start's settings are not part of its weights, so its draws stay in memory
        kept, size, refresh = Kept.of(self.ratios[m - 1]), self.contrast.pool, self.contrast.refresh
        return Pool(backbone, partial(self._before, m, backbone), kept, size, refresh, noise, bound)

    def _objective(
        self,
        m: int,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """Return −E_q[log σ(log r_m)] − E_{p_{m−1}}[log(1 − σ(log r_m))], which is 2 log 2 at r_m = 1.

        With labels, their cross-entropy is added. The sum is the cross-entropy of K + 1 classes, where the last class
        is "drawn from p_{m−1}".
        """
        positive = posterior.latents
        negative, drawn = self._negative(m, backbone, positive, noise, progress)
        if self.bank is not None:
            self.bank.record(positive.flat_z)
        energy = self.ratios[m - 1].perturbed(noise.derive("energy"))
        logits = energy(positive)
        on_positive, on_negative = self._log_ratio(logits), self._log_ratio(energy(negative))
        nonfinite = (~on_negative.isfinite().all(1)).sum().to(on_negative.dtype)
        terms = {**contrast_terms(on_positive, on_negative), "nonfinite_chains": nonfinite}
        if self.contrast.loss == "joint":
            on_positive, on_negative = on_positive.sum(1, keepdim=True), on_negative.sum(1, keepdim=True)
        loss = Loss(bce(on_positive, on_negative).sum(), terms, drawn)
        if self.coupling.labelled:
            relative = self._relative(logits)
            entropy = self.coupling.cross_entropy(relative, torch.ones_like(relative[:, 0, :1]), labels).mean()
            loss = loss.plus("cross_entropy", entropy, self.contrast.label_weight)
        return loss.plus("penalty", self.ratios[m - 1].penalty(positive))

    @torch.no_grad()
    def _negative(
        self, m: int, backbone: Backbone, positive: Latents, noise: Noise, progress: Progress
    ) -> tuple[Latents, Latents | None]:
        """Return latents of p_{m−1} with the context of the positives, and what `Loss` gets of them.

        The second value is the same latents if they are draws of the prior under which latents are inferred, so that a
        scheme can use them for its normaliser. Otherwise it is None.
        """
        rows = len(positive)
        if self.bank is not None and (z := self.bank.take(noise.derive("bank"), rows)) is not None:
            kept = backbone.invert(backbone.layout.split(z), positive.context)
            return shown(backbone, kept, sees_of(self.ratios)).detach(), None
        if self.pool is not None:
            drawn, whole = self.pool.take(noise, progress, positive.u), self.pool.keeps_latents
        else:
            u, whole = self._before(m, backbone, rows, noise, positive.context).u, True
            drawn = seen_by(self.ratios, backbone, u, positive.context).detach()
        return drawn, drawn if whole and self.contrast.infer_under == "previous" else None

    def _contrasted(self, m: int, backbone: Backbone, latents: Latents, noise: Noise) -> Contrasted:
        """Return posterior draws, new draws of p_{m−1} in their contexts, and log r_m = Σ_i f_{m,i}."""
        u = self._before(m, backbone, len(latents), noise, latents.context).u
        drawn = seen_by(self.ratios[m - 1], backbone, u, latents.context).detach()
        return Contrasted(latents, drawn, lambda at: self._log_ratio(self.ratios[m - 1](at)).sum(1))

    def _before(self, m: int, backbone: Backbone, rows: int, noise: Noise, context: Tensor | None = None) -> Draw:
        """Return draws of p_{m−1}, from the root or by a chain."""
        if m == 1:
            return self.root.sample(backbone, rows, noise.derive("base"), Request(context=context))
        return self.sample(backbone, rows, noise.derive("negative"), Request(context=context, after=f"stage {m - 1}"))
