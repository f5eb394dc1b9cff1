"""Compute the gap closed, the share of the prior hole that a prior fills:

    (FD Gaussian − FD prior) / (FD Gaussian − FD reconstructions)

on one backbone, one extractor and one N. 0 is the backbone's own prior; 1 is as good as latents of real images.
"""

from __future__ import annotations

from typing import NamedTuple

from hebm.evaluation.jackknife import Estimate, combined


def gap_closed(gaussian: float, prior: float, reconstruction: float) -> float | None:
    """Return the share of the gap that a prior closes; None if reconstructions are not better than the Gaussian prior.

    Arguments:
        gaussian: FD of the backbone's own prior.
        prior: FD of the learned prior.
        reconstruction: FD of reconstructions.
    """
    gap = gaussian - reconstruction
    return (gaussian - prior) / gap if gap > 0 else None


class Gap(NamedTuple):
    """The gap between the Gaussian prior and reconstructions, and the shares that a prior and its control close.

    Arguments:
        size: FD Gaussian − FD reconstruction.
        prior: the share that the prior closes; None if the size is not significantly positive.
        control: the share that the control closes; None likewise.
        beyond: prior − control; None likewise.
    """

    size: Estimate
    prior: Estimate | None
    control: Estimate | None
    beyond: Estimate | None


def estimated_gap(gaussian: Estimate, prior: Estimate, control: Estimate, reconstruction: Estimate) -> Gap:
    """Return the shares of the gap with errors that account for the images that the distances share.

    The jackknife removes each group of images from all four distances at once (`hebm.evaluation.jackknife`).
    """
    size = combined(lambda g, r: g - r, gaussian, reconstruction)
    if size.is_noise:
        return Gap(size, None, None, None)
    closed, by_control = (
        combined(lambda g, p, r: (g - p) / (g - r), gaussian, kind, reconstruction) for kind in (prior, control)
    )
    return Gap(size, closed, by_control, combined(lambda p, c: p - c, closed, by_control))
