"""The kinds of draws that metrics measure and that pages, tables and plots show: one table of names, titles, colours.

A kind is named by a plain string, which is also part of the path that its noise is derived from.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

DATA = "data"
RECONSTRUCTION = "reconstruction"
POSTERIOR = "posterior"
GAUSSIAN = "gaussian"
SCALED_GAUSSIAN = "scaled-gaussian"
PRIOR = "prior"
SAMPLES = "samples"
"""Images that no run made."""


@attrs.frozen
class Kind:
    """How a kind of draws is presented.

    Arguments:
        name: as measurements, files and plots refer to it.
        title: in tables and legends.
        colour: in every plot.
    """

    name: str
    title: str
    colour: str


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(DATA, "data", "#222222"),
        Kind(RECONSTRUCTION, "reconstruction", "#0072b2"),
        Kind(POSTERIOR, "posterior", "#0072b2"),
        Kind(GAUSSIAN, "Gaussian prior", "#8c8c8c"),
        Kind(SCALED_GAUSSIAN, "Gaussian prior at its best temperature", "#bdbdbd"),
        Kind(PRIOR, "learned prior", "#d55e00"),
        Kind(SAMPLES, "images measured", "#d55e00"),
    )
}
"""Every kind, in the order in which tables, grids and plots show them."""
