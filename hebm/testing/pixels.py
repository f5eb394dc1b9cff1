"""Checks of p(x|z) as a distribution. Every check is called with a recipe and the images of the backbone.

The checks use `log_prob`, `mean` and, if it exists, `draw`. They evaluate log p at images that differ in one pixel. The
sum or integral over the values of this pixel is p of the other pixels. For d pixels that are independent given z,

    log Z = log p(x) + Σ_i log ∫ p(v, x_others) dv / p(x),

for any x, so that log Z = 0 can be checked without a sum over images.
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
from hebm.testing.promises import expect, expect_equal, expect_finite, expect_shape, no_global_randomness
from hebm.testing.stein import BOUND
from hebm.testing.subjects import contexts, image_batch, points

LEVELS = 256
"""Number of values that are tried for a pixel, and rows of the distribution."""
REACH, STEEPNESS = 12.0, 9.0
"""Half-width and steepness of the sinh grid on the real line, 5000 times finer at the mean than at its ends."""
SLACK = 0.05
"""Allowed error of log Z in nats per pixel, and of a mean in units of x."""
TWO, BYTES, INTERVAL, LINE = "the values -1 and 1", "256 levels", "the interval from -1 to 1", "the real line"
"""Sets of pixel values over which p(x|z) is summed or integrated."""
MASKS = 32
"""Number of random mixtures of two images that test whether pixels are independent."""
SOME = 48
"""Number of pixels whose mean and draws are checked."""


class Pixels(NamedTuple):
    """p(x|z) at one z, repeated in every row.

    Arguments:
        distribution: p(x|z) with `LEVELS` rows.
        x: an image, flat `(d,)`.
        shape: shape of an image.
        binary: whether pixels are −1 or 1.
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
        """Return log p of x with each of `values` at one pixel, minus log p(x), `(pixels, values)`."""
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


# ---------------------------------------------------------------- grids of pixel values


class Grid(NamedTuple):
    """Values of a pixel and their weights in a sum or integral, `(n,)` each."""

    values: Tensor
    weights: Tensor


def _grids(pixels: Pixels) -> dict[str, Grid]:
    """Return the grids by name: −1 and 1, 256 levels, an interval, a line; only the first for a binary p(x|z)."""
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
    """Statistics of P pixels, each given all others, on one grid; `(P,)` each.

    Arguments:
        log_sum: log Σ_v weight(v) p(v, others) − log p(x).
        mean: E[v].
        clamped: E of v clamped to [−1, 1].
        std: standard deviation of the clamped v.
    """

    log_sum: Tensor
    mean: Tensor
    clamped: Tensor
    std: Tensor


def _tables(pixels: Pixels, some: Sequence[int]) -> dict[str, Table]:
    """Return the statistics of some pixels on each grid, by the grid's name."""
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
    """Return log of the number of levels that share one value if p(x|z) has fewer than 8 bits, else 0."""
    runs = int((log_p.diff() != 0).sum()) + 1
    return log_p.new_tensor(math.log(LEVELS / runs) if runs in (128, 64, 32, 16, 8, 4, 2) else 0.0)


def _spread(pixels: Pixels) -> list[int]:
    """Return up to `SOME` pixels, spread evenly over the image."""
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
    """Check that p(x|z) sums to 1 over binary pixels or 256 levels, or integrates to 1, to 5 % per pixel.

    `discrete` must say which of the two holds. Passes if pixels depend on each other given z.
    """
    pixels = _pixels(recipe, images)
    if not _independent(pixels):
        return
    here = pixels.log_prob(pixels.x.unsqueeze(0))
    tables = _tables(pixels, range(len(pixels.x)))
    found = {name: float(here + table.log_sum.sum()) / len(pixels.x) for name, table in tables.items()}
    seen = ", ".join(f"{value:.3f} over {name}" for name, value in found.items())
    fix = "keep all constants: 0.5 log(2 pi) + log std of a normal, log-softmax of mixture weights, tails of bins"
    expect(
        min(map(abs, found.values())) <= SLACK,
        "p(x|z) sums or integrates to 1: a log of 0",
        f"logs in nats per pixel: {seen}",
        fix,
    )
    over = min(found, key=lambda name: abs(found[name]))
    discrete, stated = over in (TWO, BYTES), getattr(pixels.distribution, "discrete", False)
    fix = "set `discrete` to True exactly if pixels have finitely many values; bits per dimension need it"
    expect(
        stated == discrete,
        f"discrete = {discrete}, because p(x|z) has the total 1 over {over}",
        f"discrete = {stated}",
        fix,
    )


@torch.no_grad()
def check_mean(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `mean` is E[x|z], of x or of x clamped to [−1, 1], to 0.05.

    Passes if pixels depend on each other given z.
    """
    pixels = _pixels(recipe, images)
    if not _independent(pixels):
        return
    some = _spread(pixels)
    seen = pixels.distribution.mean[0].flatten()[some]
    tables = _tables(pixels, some).values()
    off = min(float((seen - mean).abs().max()) for table in tables for mean in (table.mean, table.clamped))
    fix = "return E[x|z] in the range [-1, 1] of images, which is 2 p - 1 for a Bernoulli"
    expect(off <= SLACK, f"mean = E[x|z], to {SLACK:g} at each pixel", f"a difference of {off:.3f}", fix)


@torch.no_grad()
def check_draw(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `draw(noise)` depends only on the noise and returns `(B, C, H, W)` in [−1, 1].

    Passes if the distribution has no `draw`.
    """
    pixels = _pixels(recipe, images)
    if not hasattr(pixels.distribution, "draw"):
        return
    noise = Noise(0, "draw", dtype=torch.float64)
    with no_global_randomness("draw"):
        x, again, other = (pixels.distribution.draw(noise.derive(name)) for name in ("a", "a", "b"))
    fix = "draw by noise.normal or noise.uniform, one row per image, and clamp to [-1, 1]"
    expect_shape("draw(noise)", x, (LEVELS, *images.shape), fix)
    expect_finite("draw(noise)", x, fix)
    expect_equal("the same noise gives the same images", again, x, fix)
    expect(not torch.equal(other, x), "different noise gives different images", "equal images", fix)
    apart = float((x[0] - x[1]).abs().max())  # some processors compute equal rows with different rounding
    expect(apart > 1e-6, "different rows give different images", f"images that differ by {apart:g} at most", fix)
    largest = float(x.abs().max())
    expect(largest <= 1 + 1e-6, "draws in [-1, 1]", f"|x| up to {largest:g}", fix)


@torch.no_grad()
def check_draw_follows(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that draws have the mean and standard deviation of each pixel under `log_prob`.

    Passes without `draw`, and if pixels depend on each other given z.
    """
    pixels = _pixels(recipe, images)
    if not hasattr(pixels.distribution, "draw") or not _independent(pixels):
        return
    some = _spread(pixels)
    x = pixels.distribution.draw(Noise(0, "draw", dtype=torch.float64)).flatten(1)[:, some].clamp(-1, 1)
    tables = _tables(pixels, some)
    excess, seen = min((_excess((x - table.clamped) / table.std), name) for name, table in tables.items())
    expect(
        excess <= BOUND,
        f"draws have the mean and standard deviation of each pixel under log_prob, within {BOUND:g} standard errors",
        f"a difference of {excess:.1f} standard errors, with pixel values in {seen}",
        "draw from the distribution of log_prob, clamped to [-1, 1], with the same order of pixels",
    )


def _excess(t: Tensor) -> float:
    """Return by how many standard errors t `(n, P)` deviates from mean 0 and variance 1, beyond the allowed error."""
    wide = t.square() - 1
    parts = [
        (t.mean().abs() - 2 * SLACK) * t.numel() ** 0.5,
        (t.mean(0).abs().max() - 2 * SLACK) * len(t) ** 0.5,
        (wide.mean().abs() - 3 * SLACK) / wide.std() * wide.numel() ** 0.5,
    ]
    return float(torch.stack(parts).max().nan_to_num(torch.inf))
