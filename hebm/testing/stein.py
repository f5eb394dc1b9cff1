"""Test that draws follow a density by Stein's identity, which needs only the score.

    E_p[s(u)·φ(u) + ∇·φ(u)] = 0,      s = ∇ log p,

for every smooth φ that does not grow too fast. It also holds for some coordinates given the others, if φ is 0 in the
others. With x = (u − m) / std, where m and std belong to the density's Gaussian factor, the test uses

    v,    (w·x) v,    sin(w·x) v        for unit vectors v, w
    s(u) − s₀(u)                        s₀ = −x / std; it finds draws that ignore the tilt or use its wrong sign
    s(u) − s(u')                        u' has another row's given coordinates; it finds draws that ignore them

References:
    Measuring Sample Quality with Stein's Method, arXiv 1506.03039.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn

from hebm.densities import LogDensity
from hebm.noise import Noise
from hebm.testing.promises import expect

BOUND = 5.0
"""Allowed deviation from 0 of a mean, in standard errors."""
DIRECTIONS = 16
STEP = 1e-4
"""Step of finite differences in float64, in units of std."""
SPAN = 0.1
"""Half of the interval over which a field is averaged, in units of std."""

Score = Callable[[Tensor], Tensor]
"""A function u `(n, D)` → ∇ log p(u) `(n, D)`."""


@attrs.frozen(eq=False)
class Subject:
    """The density that draws are compared with.

    Arguments:
        score: the score s.
        free: positions of the coordinates that were drawn; the others were given.
        mean, std: m and std, which broadcast with `(n, D)`.
        elsewhere: the score given another row's coordinates; None if no coordinate is given.
    """

    score: Score
    free: Tensor
    mean: Tensor | float = 0.0
    std: Tensor | float = 1.0
    elsewhere: Score | None = None

    @classmethod
    def of(cls, density: LogDensity, moved: Tensor, other: LogDensity | None = None) -> Subject:
        """Build the subject from a density's score and its Gaussian factor, if it has one.

        Arguments:
            density: the density.
            moved: `(D,)`, True for coordinates that were drawn, False for given ones.
            other: the density given the next row's start, if the density depends on the start of a chain.
        """
        factor = density.factor()
        mean, std = (0.0, 1.0) if factor is None else factor
        free = moved.nonzero().squeeze(1)

        def elsewhere(u: Tensor) -> Tensor:
            mixed = u.roll(1, 0).index_copy(1, free, u[:, free])
            return (density if other is None else other).value_and_grad(mixed).grad

        given = other is not None or not bool(moved.all())
        return cls(lambda u: density.value_and_grad(u).grad, free, mean, std, elsewhere if given else None)


def expect_follows(what: str, u: Tensor, subject: Subject, fix: str) -> None:
    """Raise unless draws u `(n, D)` are finite and satisfy Stein's identity for every φ, within 5 standard errors."""
    bad = int((~u.isfinite().all(1)).sum())
    expect(
        bad == 0,
        f"{what} are finite",
        f"{bad} of {len(u)} draws are NaN or infinite",
        "use a smaller step size, or bound the tilt",
    )
    found = deviations(u, subject)
    seen = ", ".join(f"{value:.1f} for {kind}" for kind, value in found.items())
    expect(
        max(found.values()) <= BOUND,
        f"{what} follow the density: E[s·phi + div phi] = 0 within {BOUND:g} standard errors, where s = grad log p",
        f"standard errors of {len(u)} draws: {seen}",
        fix,
    )


def deviations(u: Tensor, subject: Subject) -> dict[str, float]:
    """Return the largest |mean| of s·φ + ∇·φ in standard errors, for each kind of φ.

    Arguments:
        u: independent draws `(n, D)`, in float64.
        subject: the density.
    """
    dim, free = u.shape[1], subject.free
    v = torch.zeros(DIRECTIONS, dim, dtype=u.dtype).index_copy(1, free, _unit("v", len(free)))
    w = torch.cat([v[: DIRECTIONS // 2], _unit("w", dim)[DIRECTIONS // 2 :]])
    x, score = (u - subject.mean) / subject.std, subject.score(u) * subject.std
    along, across, turn = score @ v.T, x @ w.T, (w * v).sum(1)
    terms = {
        "constant phi": along,
        "linear phi": across * along + turn,
        "sine phi": across.sin() * along + across.cos() * turn,
        "the tilt's gradient": _of_field(
            u, subject, lambda at: subject.score(at) + (at - subject.mean) / subject.std**2
        ),
    }
    if subject.elsewhere is not None:
        other = subject.elsewhere
        terms["the effect of given coordinates"] = _of_field(u, subject, lambda at: subject.score(at) - other(at))
    return {name: standard_errors(term) for name, term in terms.items()}


def _of_field(u: Tensor, subject: Subject, field: Score) -> Tensor:
    """Return s·g + ∇·g over the free coordinates, `(n, 1)`, with g = std² · field.

    A finite difference misses the jumps of a field, such as the gradient of a piecewise smooth net. So what it finds
    is confirmed with an average of the field, which takes about D times as long.
    """
    found = _by_difference(u, subject, field)
    return found if standard_errors(found) <= BOUND else _by_average(u, subject, field)


def _by_difference(u: Tensor, subject: Subject, field: Score) -> Tensor:
    """Return s·g + ∇·g, with an unbiased estimate of ∇·g: a difference along one random sign per coordinate."""
    free = subject.free
    probe = torch.zeros_like(u).index_copy(1, free, Noise(0, "probe", dtype=u.dtype).normal(len(u), len(free)).sign())
    ends = [field(u + sign * STEP * subject.std * probe) * subject.std for sign in (1, -1)]
    divergence = (probe * (ends[0] - ends[1])).sum(1) / (2 * STEP)
    product = (subject.score(u) * field(u) * subject.std**2)[:, free].sum(1)
    return (product + divergence).unsqueeze(1)


def _by_average(u: Tensor, subject: Subject, field: Score) -> Tensor:
    """Return Σ_i s_i g_i + ∂_i g_i, with g_i the mean of std² · field_i over u_i ± SPAN std.

    ∂_i g_i is a difference of two values of the field, whether or not it jumps between them. The mean in s_i g_i is
    estimated at one random point.
    """
    score, inside = subject.score(u), 2 * Noise(0, "inside", dtype=u.dtype).uniform(*u.shape) - 1
    terms = []
    for i in subject.free.tolist():
        along = torch.zeros_like(u).index_fill(1, torch.tensor([i]), SPAN) * subject.std
        at = [(field(u + where * along) * subject.std**2)[:, i] for where in (inside[:, i : i + 1], 1.0, -1.0)]
        terms.append(score[:, i] * at[0] + (at[1] - at[2]) / (2 * along[:, i]))
    return torch.stack(terms).sum(0).unsqueeze(1)


def _unit(name: str, dim: int) -> Tensor:
    return nn.functional.normalize(Noise(0, "stein", name, dtype=torch.float64).normal(DIRECTIONS, dim), dim=1)


def standard_errors(terms: Tensor, allowed: float = 0.0) -> float:
    """Return the largest |mean| of the columns of `(n, K)`, in standard errors; 0 for a column of zeros.

    Arguments:
        terms: the columns.
        allowed: subtracted from each |mean|, down to 0.
    """
    off, error = (terms.mean(0).abs() - allowed).clamp(min=0), terms.std(0) / len(terms) ** 0.5
    return float(torch.where(off == 0, 0.0, off / error).max().nan_to_num(torch.inf, posinf=torch.inf))
