"""What p(x|z) of a backbone promises as a distribution. Every check is called with a recipe and the images it is for.

The kit knows `log_prob`, `mean` and, where there is one, `draw`. It asks for log p at images that differ in one pixel:
their sum, or integral, over the pixel's values is p of the other pixels. Of d pixels that are independent given z,

    log Z = log p(x) + Σ_i log ∫ p(v, x_others) dv / p(x),

for any x, so that log Z = 0 can be told without a sum over images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hebm.interfaces import Backbone, BackboneRecipe, ImageSpec
from hebm.noise import Noise
from hebm.testing.backbones import built_backbone
from hebm.testing.promises import expect_equal, expect_finite, expect_shape, no_global_randomness, promise
from hebm.testing.stein import BOUND
from hebm.testing.subjects import contexts, image_batch, points

LEVELS = 256
"""Values of a pixel that are tried, and rows of the distribution."""
REACH, STEEPNESS = 12.0, 9.0
"""Of the grid on the real line: it reaches as far from the mean, and is 5000 times as fine there as at its ends."""
SLACK = 0.05
"""Nats a pixel that log Z may be off, and how much a mean may be off, in units of x."""
TWO, BYTES, INTERVAL, LINE = "the values -1 and 1", "256 levels", "the interval from -1 to 1", "the real line"
"""Measures of what a pixel can be."""
MASKS = 32
"""Ways to mix two images, which tell whether pixels are independent."""
SOME = 48
"""Pixels whose mean and draws are looked at."""


class Pixels(NamedTuple):
    """p(x|z) at one z, repeated in every row.

    Arguments:
        distribution: of `LEVELS` rows.
        x: an image, flat `(d,)`.
        shape: of images.
        binary: whether it is a distribution of pixels −1 and 1.
    """

    distribution: Any
    x: Tensor
    shape: tuple[int, int, int]
    binary: bool

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p `(n,)` of flat images `(n, d)`."""
        found = []
        for part in torch.split(x, LEVELS):
            rows = torch.cat([part, part[:1].expand(LEVELS - len(part), -1)])
            found.append(self.distribution.log_prob(rows.view(-1, *self.shape))[: len(part)])
        return torch.cat(found).nan_to_num(-torch.inf, posinf=torch.inf)

    def over(self, pixels: Sequence[int], values: Tensor) -> Tensor:
        """Return log p of x with each of `values` at one pixel, less log p(x), `(pixels, values)`."""
        together = max(1, LEVELS // len(values))
        found = []
        for first in range(0, len(pixels), together):
            some = torch.tensor(pixels[first : first + together])
            images = self.x.expand(len(some), len(values), -1).clone()
            images.scatter_(
                2, some.view(-1, 1, 1).expand(-1, len(values), 1), values.expand(len(some), -1).unsqueeze(2)
            )
            found.append(self.log_prob(images.flatten(0, 1)).view(len(some), -1))
        return torch.cat(found) - self.log_prob(self.x.unsqueeze(0))


def _pixels(recipe: BackboneRecipe, images: ImageSpec) -> Pixels:
    likelihood = _repeated(built_backbone(recipe, images, torch.float64))
    binary = bool(getattr(likelihood, "binary", False))
    x = image_batch(images, 1, torch.float64).target
    return Pixels(likelihood, (x.sign() if binary else x).flatten(), images.shape, binary)


@torch.no_grad()
def _repeated(backbone: Backbone) -> Any:
    """Return p(x|z) at one z, in `LEVELS` rows."""
    u, context = points(1, backbone.layout.dim, torch.float64), contexts(backbone.layout, 1, torch.float64)
    rows = None if context is None else context.expand(LEVELS, *context.shape[1:]).contiguous()
    return backbone.likelihood(backbone.latents(u.expand(LEVELS, -1).contiguous(), rows))


# ---------------------------------------------------------------- measures


class Grid(NamedTuple):
    """Values of a pixel `(n,)` with weights: a measure of what a pixel can be."""

    values: Tensor
    weights: Tensor


def _grids(pixels: Pixels) -> dict[str, Grid]:
    """Return the values −1 and 1, 256 levels, an interval and the real line; the first alone for a binary p(x|z)."""
    two = Grid(torch.tensor([-1.0, 1.0], dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    if pixels.binary:
        return {TWO: two}
    levels, t = torch.linspace(-1, 1, LEVELS, dtype=torch.float64), torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
    cells = torch.full_like(levels, 2 / (LEVELS - 1))
    cells[[0, -1]] /= 2
    factor = REACH / math.sinh(STEEPNESS)
    line = Grid(factor * (STEEPNESS * t).sinh(), factor * STEEPNESS * (STEEPNESS * t).cosh() * 2 / (LEVELS - 1))
    return {
        TWO: two,
        BYTES: Grid(levels, torch.ones_like(levels)),
        INTERVAL: Grid(levels, cells),
        LINE: line,
    }


class Table(NamedTuple):
    """Pixels, each given all others, under one measure; `(P,)` each.

    Arguments:
        log_sum: log Σ_v weight(v) p(v, others) − log p(x).
        mean: E[v].
        clamped: E of v clamped to [−1, 1].
        std: deviation of the clamped v.
    """

    log_sum: Tensor
    mean: Tensor
    clamped: Tensor
    std: Tensor


def _tables(pixels: Pixels, some: Sequence[int]) -> dict[str, Table]:
    """Return a table of some pixels for each measure."""
    tables: dict[str, Table] = {}
    grids, levels = _grids(pixels), None
    for name, grid in grids.items():
        if name == LINE:
            centre = pixels.distribution.mean[0].flatten()[list(some)]
            values = grid.values + centre.unsqueeze(1)
            log_p = torch.cat([pixels.over([i], row) for i, row in zip(some, values, strict=True)])
        else:
            values = grid.values.expand(len(some), -1)
            log_p = levels if name == INTERVAL and levels is not None else pixels.over(some, grid.values)
        if name == BYTES:
            levels = log_p
        tables[name] = _table(log_p, values, grid.weights, whole_levels=name == BYTES)
    return tables


def _table(log_p: Tensor, values: Tensor, weights: Tensor, whole_levels: bool) -> Table:
    log_mass = log_p + weights.log()
    log_sum = log_mass.logsumexp(1)
    if whole_levels:
        log_sum = log_sum - torch.stack([_shared(row) for row in log_p])
    share, clamped = log_mass.softmax(1), values.clamp(-1, 1)
    mean = (share * clamped).sum(1)
    std = (share * (clamped - mean.unsqueeze(1)).square()).sum(1).sqrt().clamp(min=1e-6)
    return Table(log_sum, (share * values).sum(1), mean, std)


def _shared(log_p: Tensor) -> Tensor:
    """Return log of how many of the 256 levels have one value together, for p(x|z) of fewer bits; else 0."""
    runs = int((log_p.diff() != 0).sum()) + 1
    return log_p.new_tensor(math.log(LEVELS / runs) if runs in (128, 64, 32, 16, 8, 4, 2) else 0.0)


def _spread(pixels: Pixels) -> list[int]:
    """Return up to `SOME` pixels all over the image."""
    count = min(SOME, len(pixels.x))
    return torch.linspace(0, len(pixels.x) - 1, count).long().tolist()


def _independent(pixels: Pixels) -> bool:
    """Return whether log p is a sum over pixels: log p(a, b) + log p(a', b') = log p(a', b) + log p(a, b')."""
    dim, x = len(pixels.x), pixels.x
    other = -x if pixels.binary else 2 * Noise(0, "other", dtype=torch.float64).uniform(1, dim)[0] - 1
    mask = Noise(0, "masks", dtype=torch.float64).uniform(MASKS, dim) < 0.5
    images = torch.cat([torch.stack([x, other]), torch.where(mask, x, other), torch.where(mask, other, x)])
    ends, mixed, opposite = torch.split(pixels.log_prob(images), [2, MASKS, MASKS])
    off = (mixed + opposite - ends.sum()).abs().max()
    return bool(off <= 1e-8 * (1 + ends.sum().abs()))


# ---------------------------------------------------------------- checks


@torch.no_grad()
def check_normalised(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """p(x|z) adds up to 1 over binary pixels or 256 levels, or is a density with integral 1, to 5 % a pixel.

    `discrete` says which. Passes where pixels depend on each other given z.
    """
    pixels = _pixels(recipe, images)
    if not _independent(pixels):
        return
    here = pixels.log_prob(pixels.x.unsqueeze(0))
    tables = _tables(pixels, range(len(pixels.x)))
    found = {name: float(here + table.log_sum.sum()) / len(pixels.x) for name, table in tables.items()}
    seen = ", ".join(f"{value:.3f} over {name}" for name, value in found.items())
    fix = "keep all constants: 0.5 log(2 pi) + log std of a normal, log-softmax of mixture weights, all mass of a bin"
    promise(min(map(abs, found.values())) <= SLACK, "log of the sum of p(x|z) is 0", f"{seen}, in nats a pixel", fix)
    over = min(found, key=lambda name: abs(found[name]))
    discrete, stated = over in (TWO, BYTES), getattr(pixels.distribution, "discrete", False)
    fix = "set `discrete` where pixels have finitely many values: bits per dimension are measured there alone"
    promise(stated == discrete, f"discrete = {discrete}, as p(x|z) adds up to 1 over {over}", str(stated), fix)


@torch.no_grad()
def check_mean(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`mean` is E[x|z], of x or of x clamped to [−1, 1], to 0.05. Passes where pixels depend on each other given z."""
    pixels = _pixels(recipe, images)
    if not _independent(pixels):
        return
    some = _spread(pixels)
    seen = pixels.distribution.mean[0].flatten()[some]
    tables = _tables(pixels, some).values()
    off = min(float((seen - mean).abs().max()) for table in tables for mean in (table.mean, table.clamped))
    fix = "return E[x|z] in the range [-1, 1] of images: of a Bernoulli 2 p - 1"
    promise(off <= SLACK, f"mean = E[x|z] to {SLACK:g}", f"off by {off:.3f} at a pixel", fix)


@torch.no_grad()
def check_draw(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`draw(noise)` is a function of the noise, `(B, C, H, W)` in [−1, 1]. Passes where there is no `draw`."""
    pixels = _pixels(recipe, images)
    if not hasattr(pixels.distribution, "draw"):
        return
    noise = Noise(0, "draw", dtype=torch.float64)
    with no_global_randomness("draw"):
        x, again, other = (pixels.distribution.draw(noise.derive(name)) for name in ("a", "a", "b"))
    fix = "draw by noise.normal or noise.uniform, rows being samples, and clamp to [-1, 1]"
    expect_shape("draw(noise)", x, (LEVELS, *images.shape), fix)
    expect_finite("draw(noise)", x, fix)
    expect_equal("the same noise gives the same images", again, x, fix)
    promise(not torch.equal(other, x), "another noise gives other images", "the same", fix)
    promise(not torch.equal(x[0], x[1]), "another row gives another image", "the same", fix)
    largest = float(x.abs().max())
    promise(largest <= 1 + 1e-6, "images in [-1, 1]", f"|x| up to {largest:g}", fix)


@torch.no_grad()
def check_draw_follows(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Draws have the mean and deviation that `log_prob` gives each pixel.

    Passes without `draw`, and where pixels depend on each other given z.
    """
    pixels = _pixels(recipe, images)
    if not hasattr(pixels.distribution, "draw") or not _independent(pixels):
        return
    some = _spread(pixels)
    x = pixels.distribution.draw(Noise(0, "draw", dtype=torch.float64)).flatten(1)[:, some].clamp(-1, 1)
    tables = _tables(pixels, some)
    excess, seen = min((_excess((x - table.clamped) / table.std), name) for name, table in tables.items())
    promise(
        excess <= BOUND,
        f"draws have the mean and deviation of each pixel under log_prob, within {BOUND:g} standard errors",
        f"{excess:.1f} standard errors, p(x|z) being over {seen}",
        "draw from the distribution that log_prob scores, clamped to [-1, 1]: the same mean, deviation and pixel order",
    )


def _excess(t: Tensor) -> float:
    """Return how many standard errors t `(n, P)` is off mean 0 and deviation 1, less some slack."""
    wide = t.square() - 1
    parts = [
        (t.mean().abs() - 2 * SLACK) * t.numel() ** 0.5,
        (t.mean(0).abs().max() - 2 * SLACK) * len(t) ** 0.5,
        (wide.mean().abs() - 3 * SLACK) / wide.std() * wide.numel() ** 0.5,
    ]
    return float(torch.stack(parts).max().nan_to_num(torch.inf))
