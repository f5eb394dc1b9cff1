"""Stein's identity: a test that draws follow a density, from its score alone.

    E_p[s(u)·φ(u) + ∇·φ(u)] = 0,      s = ∇ log p,

for every smooth φ that does not grow too fast. It holds for some coordinates given the others, too, if φ is 0 in the
others. With x = (u − m) / std, where m and std are those of the density's Gaussian factor, the kit takes

    v,    (w·x) v,    sin(w·x) v        for unit vectors v, w
    s(u) − s₀(u)                        s₀ = −x / std: draws that leave the tilt out, or have its sign wrong
    s(u) − s(u')                        u' has the given coordinates of another row: draws that ignore what is given

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
from hebm.testing.promises import promise

BOUND = 5.0
"""Standard errors within which a mean that should be 0 has to lie."""
DIRECTIONS = 16
STEP = 1e-4
"""Of finite differences in float64, in units of std."""

Score = Callable[[Tensor], Tensor]
"""u `(n, D)` → ∇ log p(u) `(n, D)`."""


@attrs.frozen(eq=False)
class Subject:
    """The density that draws are compared with.

    Arguments:
        score: s.
        free: positions of the coordinates that were drawn; the others were given.
        mean, std: m and std, which broadcast with `(n, D)`.
        elsewhere: the score given what belongs to another row, or None if nothing is given.
    """

    score: Score
    free: Tensor
    mean: Tensor | float = 0.0
    std: Tensor | float = 1.0
    elsewhere: Score | None = None

    @classmethod
    def of(cls, density: LogDensity, moved: Tensor, other: LogDensity | None = None) -> Subject:
        """Take the score of a density and its Gaussian factor, if it has one.

        Arguments:
            density: the density.
            moved: whether a coordinate was drawn, `(D,)`; the others were given.
            other: the same density given the next row's start, for a density that depends on where a chain starts.
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
    """Raise unless draws u `(n, D)` are finite and Stein's identity holds for every φ, within 5 standard errors."""
    bad = int((~u.isfinite().all(1)).sum())
    promise(bad == 0, f"{what} are finite", f"{bad} of {len(u)} are not", "take smaller steps, or bound the tilt")
    found = deviations(u, subject)
    seen = ", ".join(f"{value:.1f} for {kind}" for kind, value in found.items())
    promise(
        max(found.values()) <= BOUND,
        f"{what} follow the density: E[s·phi + div phi] = 0 within {BOUND:g} standard errors",
        f"{seen} ({len(u)} draws)",
        fix,
    )


def deviations(u: Tensor, subject: Subject) -> dict[str, float]:
    """Return how many standard errors the mean of s·φ + ∇·φ is away from 0: the largest of each kind of φ.

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
        terms["the effect of what is given"] = _of_field(u, subject, lambda at: subject.score(at) - other(at))
    return {name: standard_errors(term) for name, term in terms.items()}


def _of_field(u: Tensor, subject: Subject, field: Score) -> Tensor:
    """Return s·g + ∇·g over the free coordinates, `(n, 1)`, with g = std² · field.

    The divergence is a finite difference along one random sign per coordinate, which has the right mean.
    """
    free = subject.free
    probe = torch.zeros_like(u).index_copy(1, free, Noise(0, "probe", dtype=u.dtype).normal(len(u), len(free)).sign())
    ends = [field(u + sign * STEP * subject.std * probe) * subject.std for sign in (1, -1)]
    divergence = (probe * (ends[0] - ends[1])).sum(1) / (2 * STEP)
    product = (subject.score(u) * field(u) * subject.std**2)[:, free].sum(1)
    return (product + divergence).unsqueeze(1)


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
