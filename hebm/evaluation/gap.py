"""Gap closed: how much of the prior hole a prior fills.

    (FD Gaussian − FD prior) / (FD Gaussian − FD reconstructions)

on one backbone, one extractor, one N. 0 is the backbone's own prior, 1 is as good as latents of real images.
"""

from __future__ import annotations


def gap_closed(gaussian: float, prior: float, reconstruction: float) -> float | None:
    """Return the share of the gap that is closed; None where reconstructions are not better than the Gaussian prior.

    Arguments:
        gaussian: FD of the backbone's own prior.
        prior: FD of the prior in question.
        reconstruction: FD of reconstructions.
    """
    gap = gaussian - reconstruction
    return (gaussian - prior) / gap if gap > 0 else None
