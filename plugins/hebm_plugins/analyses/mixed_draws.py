"""Draw u whose layers come from different places: from q(z|x) of images, and from N(0, I).

"u of layer i from q" is the standardised u_i = (z_i − μ_i(z_above)) / σ_i(z_above) of inferred latents z. Only u is
exchanged. With other layers above, the same u_i therefore gives a different z_i.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import GAUSSIAN
from hebm.latents import LatentLayout
from hebm.noise import BLOCK
from hebm.trained import evaluating
from hebm_plugins.analyses.fitted_gaussian import FittedGaussian, fit_gaussian

INDEPENDENT, TOP, BOTTOM = "independent", "top", "bottom"
FITTED, SCALED, TEMPERATURE = "fitted", "scaled", "temperature"
KINDS = (INDEPENDENT, TOP, BOTTOM, FITTED, SCALED, TEMPERATURE)
"""The kinds of rows that the user can select."""
POSTERIOR, ROOT = "posterior", "root"
"""The ends: rows whose gap closed is 100 % and 0 % by definition."""
_SAME = 1e-4


@attrs.frozen(eq=False)
class Row:
    """A way to draw u.

    Arguments:
        name: name in files, such as "top-2".
        title: title in tables.
        kind: one of `KINDS`, or an end.
        draw: maps a slice of samples to their u `(B, D)`.
        above: number of layers above the cut, for kinds with a cut.
    """

    name: str
    title: str
    kind: str
    draw: Callable[[slice], Tensor]
    above: int = 0


class MixedDraws:
    """Mixes inferred u of N images with draws from N(0, I). Sample i is a function of the seed and i.

    Arguments:
        evaluation: evaluation of the model.
        u: inferred u, `(N, D)`, on the CPU.
    """

    def __init__(self, evaluation: Evaluation, u: Tensor) -> None:
        self.evaluation, self.u = evaluation, u
        self.layout: LatentLayout = evaluation.model.backbone.layout
        order = torch.Generator().manual_seed(evaluation.model.seed)
        self._order = torch.randperm(len(u), generator=order)  # data may be sorted by class

    @functools.cached_property
    def fit(self) -> FittedGaussian:
        """The Gaussian fitted to u."""
        return fit_gaussian(self.u)

    @functools.cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """The mean and the deviation of each coordinate, `(D,)`."""
        return self.u.double().mean(0).to(self.u), self.u.double().std(0).to(self.u)

    # ------------------------------------------------------------ draws

    def posterior(self, few: slice) -> Tensor:
        """Return u from q, with all layers of the same image."""
        return self._placed(self.u[few])

    def gaussian(self, few: slice) -> Tensor:
        """Draw u ~ N(0, I), as a Gaussian root does."""
        noise = self.evaluation.noise(GAUSSIAN, few.start)
        return noise.normal(few.stop - few.start, self.layout.dim)

    def independent(self, few: slice) -> Tensor:
        """Return u with each layer of another image: the law of a layer is kept, dependence between layers is lost."""
        n, layers = len(self.u), len(self.layout)
        at = torch.arange(few.start, few.stop)
        images = [self._order[(at + i * max(1, n // layers)) % n] for i in range(layers)]
        return self._placed(torch.cat([self.u[chosen, self.layout.place(i)] for i, chosen in enumerate(images)], dim=1))

    def top(self, above: int, few: slice) -> Tensor:
        """Return u with the layers above the cut from q, and those below it from N(0, I)."""
        cut = self.layout.place(above).start
        return torch.cat([self.posterior(few)[:, :cut], self.gaussian(few)[:, cut:]], dim=1)

    def bottom(self, above: int, few: slice) -> Tensor:
        """Return u with the layers below the cut from q, and those above it from N(0, I)."""
        cut = self.layout.place(above).start
        return torch.cat([self.gaussian(few)[:, :cut], self.posterior(few)[:, cut:]], dim=1)

    def scaled(self, few: slice) -> Tensor:
        """Draw Gaussian u with the mean and deviation of each coordinate under q."""
        mean, deviation = map(self._placed, self._moments)
        return mean + deviation * self.gaussian(few)

    def fitted(self, few: slice) -> Tensor:
        """Draw from the Gaussian fitted to u."""
        return self.fit.at(self.gaussian(few), self.evaluation.noise("hole", few.start))

    def heated(self, temperature: float, few: slice) -> Tensor:
        """Draw u ~ N(0, τ² I)."""
        return temperature * self.gaussian(few)

    def last_layer_decides(self, context: Tensor | None) -> bool:
        """Return whether images depend on z of the last layer alone, by exchanging z of the layers above it.

        Arguments:
            context: contexts of the images, `(N, *context)`, or None.
        """
        few = slice(0, min(BLOCK, len(self.u)))
        u, given = self.posterior(few), None if context is None else self._placed(context[few])
        generator = self.evaluation.model.generator
        with evaluating(generator):
            latents = generator.latents(u, given)
            others = [z.roll(1, 0) for z in latents.z[:-1]]
            exchanged = generator.invert([*others, latents.z[-1]], given)
            images = [generator.likelihood(each).mean for each in (latents, exchanged)]
        return torch.allclose(images[0], images[1], atol=_SAME)

    def _placed(self, u: Tensor) -> Tensor:
        model = self.evaluation.model
        return u.to(model.device, model.dtype)

    # ------------------------------------------------------------ rows

    def rows(self, kinds: Sequence[str], cuts: Sequence[int], temperatures: Sequence[float]) -> list[Row]:
        """List the ends and the rows of the given kinds.

        Arguments:
            kinds: kinds of rows, from `KINDS`.
            cuts: numbers of layers above a cut, from 1 to L − 1.
            temperatures: values of τ.
        """
        last = len(self.layout)
        made = {
            INDEPENDENT: [Row(INDEPENDENT, "every layer from q, each of another image", INDEPENDENT, self.independent)],
            TOP: [self._cut(TOP, f"{_layers(1, k)} from q, those below Gaussian", self.top, k) for k in cuts],
            BOTTOM: [
                self._cut(BOTTOM, f"{_layers(k + 1, last)} from q, those above Gaussian", self.bottom, k) for k in cuts
            ],
            FITTED: [Row(FITTED, "Gaussian with the full covariance of u", FITTED, self.fitted)],
            SCALED: [Row(SCALED, "Gaussian with mean and deviation of each coordinate of u", SCALED, self.scaled)],
            TEMPERATURE: [
                Row(f"temperature-{t:g}", f"N(0, τ² I), τ = {t:g}", TEMPERATURE, functools.partial(self.heated, t))
                for t in temperatures
            ],
        }
        ends = [
            Row(POSTERIOR, "every layer from q (reconstructions)", POSTERIOR, self.posterior),
            Row(ROOT, "every layer Gaussian, N(0, I)", ROOT, self.gaussian),
        ]
        return [*ends, *(row for kind in KINDS if kind in kinds for row in made[kind])]

    def _cut(self, kind: str, title: str, draw: Callable[[int, slice], Tensor], above: int) -> Row:
        return Row(f"{kind}-{above}", title, kind, functools.partial(draw, above), above)


def _layers(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first} to {last}"
