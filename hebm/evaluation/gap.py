"""Gap closed: how much of the prior hole a prior fills.

    (FD Gaussian − FD prior) / (FD Gaussian − FD reconstructions)

on one backbone, one extractor, one N. 0 is the backbone's own prior, 1 is as good as latents of real images.
"""

from __future__ import annotations

from typing import NamedTuple

from hebm.evaluation.jackknife import Estimate, combined


def gap_closed(gaussian: float, prior: float, reconstruction: float) -> float | None:
    """Return the share of the gap that is closed; None where reconstructions are not better than the Gaussian prior.

    Arguments:
        gaussian: FD of the backbone's own prior.
        prior: FD of the prior in question.
        reconstruction: FD of reconstructions.
    """
    gap = gaussian - reconstruction
    return (gaussian - prior) / gap if gap > 0 else None


class Gap(NamedTuple):
    """The gap between the Gaussian prior and reconstructions, and the shares of it that a prior and its control close.

    Arguments:
        size: FD Gaussian − FD reconstruction.
        prior: the share that the prior closes; None where the size is not positive by more than its noise.
        control: the share that the control closes; None likewise.
        beyond: prior − control; None likewise.
    """

    size: Estimate
    prior: Estimate | None
    control: Estimate | None
    beyond: Estimate | None


def estimated_gap(gaussian: Estimate, prior: Estimate, control: Estimate, reconstruction: Estimate) -> Gap:
    """Return the shares of the gap with their errors, which count that the distances share images of the data.

    Each group of images leaves all four distances at once (`hebm.evaluation.jackknife`).
    """
    size = combined(lambda g, r: g - r, gaussian, reconstruction)
    if size.is_noise:
        return Gap(size, None, None, None)
    closed, by_control = (
        combined(lambda g, p, r: (g - p) / (g - r), gaussian, kind, reconstruction) for kind in (prior, control)
    )
    return Gap(size, closed, by_control, combined(lambda p, c: p - c, closed, by_control))
