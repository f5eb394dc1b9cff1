"""A trained model in use: one object that draws, decodes and infers.

Evaluation, reports, analyses, `Model.sample` and the commands all use it, so they see the same samples:

* **Noise.** Sample i of a kind is a function of (seed, kind, i). It does not depend on the batch size or the number of
  processes.
* **Batches.** A batch consists of whole noise blocks.
* **Modes.** Everything runs in eval mode and without gradients; afterwards every module returns to its previous mode.
  Chains of the prior and the decoding of its draws run on the backbone's folded copy.
* **NaN.** Samples that are not finite are kept and counted; `finite` turns the count into an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import attrs
import torch
from torch import Tensor, nn

from hebm.adaptation import Adaptation, adapted, unknown
from hebm.draws import Draw, Request
from hebm.errors import ConfigError, NonFiniteError
from hebm.interfaces import Backbone, Batch, InferringBackbone, PriorLearner, tilt_after
from hebm.kept_adaptations import KeptAdaptations
from hebm.latents import Latents, Posterior
from hebm.likelihoods import PixelDistribution
from hebm.memory import explaining_memory
from hebm.noise import BLOCK, Noise
from hebm.placement import device_of, floating_type
from hebm.tilts import Tilt
from hebm.training.phases import SchemeRecipe
from hebm.transitions import Transition, path_to, require_start, up_to
from hebm.walking import root_of, walk


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules in eval mode and disable gradients inside the context; restore each module's mode afterwards."""
    training = [part for module in modules for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


@attrs.frozen(eq=False, slots=False)
class TrainedModel:
    """A backbone and a prior after training.

    Arguments:
        backbone, prior: the trained modules, on one device.
        scheme: the training scheme, which infers latents of given images; None infers by q(z|x).
        seed: seed of all draws.
        request: settings of draws, such as chain lengths and the transition to stop after.
        rows: batch size in samples, a multiple of the noise block.
        decoding: the image of a latent: "mean" is E[x|z], "sample" a draw from p(x|z).
        adaptations: the adapted step sizes found so far, by transition; filled when needed.
        kept: the file that stores adaptations; None keeps them in memory only.
    """

    backbone: Backbone
    prior: PriorLearner
    scheme: SchemeRecipe | None = None
    seed: int = 0
    request: Request = attrs.field(factory=Request)
    rows: int = 8 * BLOCK
    decoding: str = "mean"
    adaptations: dict[str, Adaptation] = attrs.field(factory=dict)
    kept: KeptAdaptations | None = None

    @cached_property
    def generator(self) -> Backbone:
        """The folded, equal copy of the backbone, which chains and decoding use."""
        with evaluating(self.backbone):
            return self.backbone.folded()

    @cached_property
    def tilt(self) -> Tilt | None:
        """The log tilt of the prior after the transition `request.after`; None at the root."""
        return tilt_after(self.prior, self.generator, self.request.after)

    def check_request(self) -> None:
        """Raise `ConfigError` if the prior cannot satisfy the request. It computes nothing.

        This is the case if no transition is named `request.after`, or if none chooses among start proposals.
        """
        listed = self.prior.transitions(self.generator)
        up_to(listed, self.request.after)
        require_start(listed, self.request.start_proposals)

    @cached_property
    def path(self) -> tuple[Transition, ...]:
        """The transitions that a draw runs, with adapted step sizes.

        Raises `ConfigError` if no transition is named `request.after`.
        """
        return self.path_to(self.request.after)

    @cached_property
    def transitions(self) -> tuple[Transition, ...]:
        """All transitions up to `request.after`, with adapted step sizes, including those that a draw skips."""
        return self._adapted(up_to(self.prior.transitions(self.generator), self.request.after))

    def path_to(self, after: str | None) -> tuple[Transition, ...]:
        """Return the transitions of a draw that stops after transition `after`, with adapted step sizes; see `path`."""
        return self._adapted(path_to(self.prior.transitions(self.generator), after))

    def _adapted(self, listed: tuple[Transition, ...]) -> tuple[Transition, ...]:
        noise, key = Noise(0, "adapt", device=self.device, dtype=self.dtype), ""
        if self.kept is not None and unknown(listed, self.adaptations):
            key = self.kept.key(
                self.device, self.dtype, (self.backbone, self.prior), self.prior.transitions(self.generator)
            )
            self.adaptations.update(self.kept.read(key))
        computed = unknown(listed, self.adaptations)
        with self._evaluating():
            found = adapted(self.prior, self.generator, listed, self.adaptations, noise)
        if self.kept is not None and computed:
            self.kept.write(key, self.adaptations)
        return found

    @property
    def route(self) -> tuple[Transition, ...]:
        """The transitions of `path` with their configured step sizes, which need no computation."""
        return path_to(self.prior.transitions(self.generator), self.request.after)

    @property
    def chain_lengths(self) -> dict[str, int]:
        """The number of steps of each chain that a draw runs, by transition, without chains of 0 steps."""
        asked = self.request.steps
        lengths = {chain.name: chain.steps if asked is None else asked for chain in self.route if chain.steps}
        return {name: steps for name, steps in lengths.items() if steps}

    @property
    def device(self) -> torch.device:
        """The device of the backbone."""
        return device_of(self.backbone)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the backbone."""
        return floating_type(self.backbone)

    def noise(self, kind: str, start: int = 0) -> Noise:
        """Return the noise of a kind of samples ("prior", "gaussian", …), from sample `start` on."""
        return Noise(self.seed, "sample", kind, start=start, device=self.device, dtype=self.dtype)

    def changed(self, request: Request | None = None, rows: int | None = None, decoding: str = "") -> TrainedModel:
        """Return the model with other settings; it shares the folded copy."""
        other = TrainedModel(
            self.backbone,
            self.prior,
            self.scheme,
            self.seed,
            self.request if request is None else request,
            rows or self.rows,
            decoding or self.decoding,
            self.adaptations,
            self.kept,
        )
        other.__dict__["generator"] = self.generator
        return other

    # ------------------------------------------------------------ drawing

    def walk(
        self, n: int, noise: Noise, request: Request | None = None, path: tuple[Transition, ...] | None = None
    ) -> Iterator[tuple[str, Draw]]:
        """Yield one batch of n draws at the root and after each transition, with their names.

        Arguments:
            n: number of draws.
            noise: row i belongs to the sample with global index i.
            request: replaces the model's request.
            path: the transitions to apply, in place of those that the request needs.
        """
        wanted = request or self.request
        route = self.path_to(wanted.after) if path is None else path
        walked = walk(self.prior, self.generator, n, noise, wanted, route)
        while True:
            with self._evaluating():  # not around the yield, which would change modes for the caller
                step = next(walked, None)
            if step is None:
                return
            yield step

    def draw(self, n: int, noise: Noise, request: Request | None = None) -> Draw:
        """Return n draws of the prior, computed in batches.

        Arguments:
            n: number of draws.
            noise: the noise of the first draw; row i belongs to the sample with global index i.
            request: replaces the model's request.

        Raises `ConfigError` if the request stops after an unknown transition.
        """
        wanted, parts = request or self.request, []
        path = self.path_to(wanted.after)  # checks the name, which a root would ignore
        with self._evaluating():
            for few in self.batches(n):
                at, rows = noise.at(noise.start + few.start), few.stop - few.start
                parts.append(self._sampled(rows, at, wanted.rows(few), path))
        return Draw.joined(parts)

    def _sampled(self, n: int, noise: Noise, request: Request, path: tuple[Transition, ...]) -> Draw:
        """Return one batch of draws: by `path`, or by `sample` of a prior that overrides it."""
        if type(self.prior).sample is not PriorLearner.sample:
            return self.prior.sample(self.generator, n, noise, request)
        *_, (_, end) = walk(self.prior, self.generator, n, noise, request, path)
        return end

    def draw_root(self, n: int, noise: Noise) -> Draw:
        """Return n draws of the root, the backbone's own prior; see `draw`."""
        with self._evaluating():
            root = root_of(self.prior)
            return Draw.joined(
                [
                    root.sample(self.generator, few.stop - few.start, noise.at(noise.start + few.start))
                    for few in self.batches(n)
                ]
            )

    def batches(self, n: int) -> Iterator[slice]:
        """Yield the rows of each batch of n samples. Raises `ConfigError` for n < 1."""
        if n < 1:
            raise ConfigError(f"number of samples: expected at least 1, got {n}")
        for start in range(0, n, self.rows):
            yield slice(start, min(start + self.rows, n))

    def of_latents(self, draw: Draw, function: Callable[[Latents], Tensor]) -> Tensor:
        """Return `function` of T(u; c) for n draws, `(n, …)`, computed in batches."""
        parts = []
        with self._evaluating():
            for few in map(draw.rows, self.batches(len(draw.u))):
                parts.append(function(self.generator.latents(few.u, few.context)))
        return torch.cat(parts)

    # ------------------------------------------------------------ images

    def images(self, draw: Draw, noise: Noise | None = None) -> Tensor:
        """Return the image of each draw, `(n, C, H, W)` in [−1, 1].

        Arguments:
            draw: n draws.
            noise: the noise for decoding "sample"; None returns the mean.
        """
        parts = []
        with self._evaluating():
            for few in self.batches(len(draw.u)):
                part, source = draw.rows(few), None if noise is None else noise.at(noise.start + few.start)
                likelihood = self.generator.likelihood(self.generator.latents(part.u, part.context))
                parts.append(self.decoded(likelihood, source))
        return torch.cat(parts)

    def decoded(self, likelihood: PixelDistribution, noise: Noise | None) -> Tensor:
        """Return E[x|z], or a draw from p(x|z) if `decoding` is "sample" and noise is given."""
        if self.decoding == "mean" or noise is None:
            return likelihood.mean
        draw = getattr(likelihood, "draw", None)
        if draw is None:
            raise ConfigError(f'decode: {type(likelihood).__name__} has no draw(noise); use decode = "mean"')
        sample: Tensor = draw(noise.derive("decode"))
        return sample

    # ------------------------------------------------------------ inference

    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Return a posterior draw of each image, inferred as in training.

        Raises `ConfigError` if the model has neither a scheme nor an inference model.
        """
        with self._evaluating():
            if self.scheme is not None:
                return self.scheme.posterior(self.backbone, self.tilt, batch, noise)
            if isinstance(self.backbone, InferringBackbone):
                return self.backbone.infer(batch, noise)
        raise ConfigError(
            f"infer: {type(self.backbone).__name__} has no inference model q(z|x); give the training scheme, which "
            "infers latents by MCMC"
        )

    def reconstructed(self, batch: Batch, noise: Noise) -> Tensor:
        """Return the decoded posterior draw of each image, `(B, C, H, W)`."""
        with self._evaluating():
            return self.decoded(self.backbone.likelihood(self.infer(batch, noise).latents), noise)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        fix = "compute fewer at a time (evaluate.batch_size, --batch-size, or batch_size in Python)"
        with (
            explaining_memory(f"{self.rows} images at a time are computed", fix),
            evaluating(self.backbone, self.prior),
        ):
            yield


def count_nonfinite(images: Tensor) -> int:
    """Return how many images `(n, …)` are not finite."""
    return int((~images.flatten(1).isfinite().all(1)).sum())


CHAINS = "their chains diverged; lower prior.sampler.step_size"
WEIGHTS = "the backbone's weights give images that are not finite; lower train.backbone.learning_rate"


def finite(images: Tensor, what: str = "samples", cause: str = CHAINS) -> Tensor:
    """Return images `(n, …)` unchanged, after checking that they are finite.

    Arguments:
        images: the images to check.
        what: their name in the error.
        cause: the cause and the remedy, for the error.

    Raises `NonFiniteError` if one of them has a NaN or an infinite value.
    """
    bad = count_nonfinite(images)
    if bad:
        raise NonFiniteError(f"{bad} of {len(images)} {what} are not finite: {cause}")
    return images
