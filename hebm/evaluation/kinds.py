"""The kinds of draws that metrics measure and reports show, in one table of names, titles and colours.

The name of a kind is a plain string, which is also part of the path from which its noise is derived.
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
"""Given images, which are not from a run (`hebm measure`)."""


@attrs.frozen
class Kind:
    """Presentation of a kind of draws.

    Arguments:
        name: name in measurements, files and plots.
        title: title in tables and legends.
        colour: colour in every plot.
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
"""All kinds, in the order in which tables, grids and plots show them."""
