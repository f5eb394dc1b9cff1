"""Describe in words where the prior hole is, and which energies can close it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs

from hebm.evaluation.metric import SHARE
from hebm.latents import LatentLayout
from hebm.report.numbers import percent, with_deviation
from hebm_plugins.analyses.mixed_draws import FITTED, INDEPENDENT, POSTERIOR, ROOT, SCALED, TEMPERATURE, TOP, Row

_FEW, _MOST = 0.25, 0.75
_NOTHING = 0.1
_LIMIT = "That is about the most that a sum of energies of one layer’s u each can close, whatever it learns."
_DEPENDENCE = "in how a layer depends on the layers above it"
IMAGE, FEATURES = ("image-conv",), ("feature-conv", "feature-mlp")
"""Energies that see the decoded image, and the decoder's features."""
ONE_LAYER = ("mlp", "conv")
"""Energies that see one layer each."""


@attrs.frozen(eq=False)
class Measured:
    """Measurements of a row.

    Arguments:
        row: the row, which draws u.
        fd: Fréchet distance to the data; None if an image is not finite.
        error: standard error of `fd` over N draws, for fixed data.
        gap: share of the gap that the row closes; None if it is not defined.
        gap_error: standard error of `gap` for fixed ends of the gap; None for the ends.
    """

    row: Row
    fd: float | None
    error: float | None = None
    gap: float | None = None
    gap_error: float | None = None


def verdict(measured: Sequence[Measured], layout: LatentLayout, last_alone: bool = False) -> tuple[str, ...]:
    """Return a paragraph on where the hole is, and one on the layers and Gaussians.

    Arguments:
        measured: all rows.
        layout: layout of the backbone.
        last_alone: whether the image depends on z of the last layer alone.
    """
    gaps = {found.row.name: found for found in measured if found.gap is not None}
    if POSTERIOR not in gaps:
        return (_undefined(measured),)
    where = (
        "This backbone has one layer: the whole hole is within it, and an energy of that layer can close it."
        if len(layout) == 1
        else _where(gaps.get(INDEPENDENT), layout, last_alone)
    )
    more = " ".join(filter(None, (_layers(measured, len(layout)), _gaussians(measured))))
    return tuple(filter(None, (where, more)))


def _undefined(measured: Sequence[Measured]) -> str:
    if any(found.fd is None for found in measured if found.row.name in (POSTERIOR, ROOT)):
        return "The gap is not defined: some reconstructions or draws are not finite."
    return (
        "The gap is not defined: reconstructions are not nearer to the data than draws with Gaussian u. Train the "
        "backbone longer, or raise hole.samples."
    )


def _where(independent: Measured | None, layout: LatentLayout, last_alone: bool) -> str:
    if independent is None or independent.gap is None:
        return f'Where the hole is was not measured: add "{INDEPENDENT}" to hole.rows.'
    closed = independent.gap
    amount = with_deviation(closed, independent.gap_error, SHARE)
    amount = f"{amount} of the gap is closed" if closed > 0 else f"nothing of the gap is closed ({amount})"
    found = f"with every layer from q, but each of another image, {amount}"
    where = "within the layers"
    advice = f"Such energies ({_listed(ONE_LAYER)}) therefore suffice for most of it."
    if closed < _MOST:
        where = f"partly {where}, partly {_DEPENDENCE}" if closed >= _FEW else _DEPENDENCE
        advice = f"{_beyond(last_alone)}{_seeing(layout)}."
    return f"The prior hole is {where}: {found}. {_LIMIT} {advice}"


def _beyond(last_alone: bool) -> str:
    """Explain what energies of z can see, and begin the sentence that `_seeing` completes."""
    if last_alone:
        return (
            "The image of this backbone depends on z of the last layer alone, so an energy of that z can close more. "
            'Use energies with coordinate = "z", or '
        )
    return "Energies of one layer’s z see of the layers above only its μ and σ. Use "


def _seeing(layout: LatentLayout) -> str:
    """Name the energies that see how layers depend on each other."""
    image = f"{_listed(IMAGE)} sees the decoded image"
    features = f", {_listed(FEATURES)} the decoder’s features" if layout.features else ""
    return f"an energy that sees what the decoder makes of all layers ({image}{features})"


def _layers(measured: Sequence[Measured], last: int) -> str:
    """Say which layers add most to the gap closed, from the top down; "" unless all rows of top layers have a gap."""
    cuts = [found for found in measured if found.row.kind == TOP]
    closed = {found.row.above: found.gap for found in cuts if found.gap is not None}
    if not closed or len(closed) < len(cuts):
        return ""
    points = {0: 0.0, **closed, last: 1.0}
    steps = {(a + 1, b): points[b] - points[a] for a, b in itertools.pairwise(points)}
    (first, end), most = max(steps.items(), key=lambda step: step[1])
    which = f"layer {first} adds" if first == end else f"layers {first} to {end} add"
    return (
        f"Going down from the top, {which} most: {100 * most:.1f} points of the gap, once the layers above come from q "
        "too."
    )


def _gaussians(measured: Sequence[Measured]) -> str:
    """Say how much of the gap the best Gaussian over u closes; "" without such rows."""
    tried = {
        found.row.title: found.gap
        for found in measured
        if found.row.kind in (FITTED, SCALED, TEMPERATURE) and found.gap is not None
    }
    if not tried:
        return ""
    best = max(tried, key=tried.__getitem__)
    if tried[best] < _NOTHING:
        amount = f"more than {percent(tried[best])}" if tried[best] > 0 else "any"
        return f"No Gaussian over u that was tried closes {amount} of the gap."
    return f"The best Gaussian over u that was tried ({best}) closes {percent(tried[best])}."


def _listed(names: Sequence[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)
