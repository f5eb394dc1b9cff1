"""Locate the prior hole: within the layers, or in the dependence of a layer on the layers above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.plots import Line, save_curves
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.frechet import Moments, frechet_distance, moments, standard_error
from hebm.evaluation.gap import gap_closed
from hebm.evaluation.kinds import DATA
from hebm.evaluation.metric import SHARE
from hebm.interfaces import Draw, InferringBackbone
from hebm.pixel_levels import to_pixels
from hebm.report.chain import evenly
from hebm.report.numbers import percent, significant, with_deviation
from hebm.trained import count_nonfinite
from hebm_plugins.analyses.inferred_u import LayerSignal, infer_u, layer_signals
from hebm_plugins.analyses.mixed_draws import (
    BOTTOM,
    FITTED,
    INDEPENDENT,
    KINDS,
    POSTERIOR,
    ROOT,
    TOP,
    MixedDraws,
    Row,
)
from hebm_plugins.analyses.verdicts import Measured, verdict


@recipe
class Hole(AnalysisRecipe):
    """Fréchet distance of draws whose u comes from q(z|x) for some layers and from N(0, I) for the others.

    Rows exchange u_i = (z_i − μ_i(z_above)) / σ_i(z_above) of inferred latents and combine it with other layers above.
    Gap closed is (FD Gaussian − FD) / (FD Gaussian − FD reconstructions) on these images. The analysis does not use the
    prior, so a run with a Gaussian prior is sufficient. With a context, every row uses contexts of the images,
    c ~ r(c|x), and the gap is that of u given c.

    A second table shows KL(q_i ‖ p_i), the active share and the effective number of dimensions of each layer. The
    active share is the part of the variance of u that depends on the image, Σ_d s_d / Σ_d Var(u_d) with
    s_d = Var_x(E_q[u_d|x]). The effective number of dimensions of that part is (Σ_d s_d)² / Σ_d s_d².
    """

    samples: int = option(
        2000, low=64, doc="N, number of inferred images and of draws of each row, at most the size of the split"
    )
    rows: tuple[str, ...] = option(
        KINDS,
        choices=KINDS,
        doc="rows to measure, besides both ends: each layer of another image; top or bottom layers from q; Gaussians "
        "with the full covariance of u, or with the mean and deviation of each coordinate; N(0, τ² I)",
    )
    cuts: int = option(
        8, low=1, doc="largest number of rows of top layers, and of bottom layers, evenly spaced over layers"
    )
    temperatures: tuple[float, ...] = option((0.8, 0.9), above=0, doc="temperatures τ of N(0, τ² I)")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason for a backbone without q(z|x), and for images that the extractor does not take."""
        if not isinstance(evaluation.model.backbone, InferringBackbone):
            return "its backbone has no inference model q(z|x)"
        return evaluation.unsuited

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Return a verdict, tables of rows and layers, and plots of both."""
        evaluation = evaluation.measured_on(self.samples)
        found = infer_u(evaluation)
        mixed = MixedDraws(evaluation, found.u)
        measured, words = self._distances(evaluation, mixed, found.context)
        return _section(evaluation, words, measured, layer_signals(found, mixed.layout), mixed, folder)

    def _distances(
        self, evaluation: Evaluation, mixed: MixedDraws, context: Tensor | None
    ) -> tuple[list[Measured], tuple[str, ...]]:
        """Measure all rows. Return the results and the verdict."""
        try:
            data = moments(evaluation.features(DATA))
        except ConfigError as error:
            return [], (f"No Fréchet distance: {error}.",)
        rows = mixed.rows(self.rows, self._cuts(len(mixed.layout)), self.temperatures)
        measured = _with_gaps([_measured(evaluation, row, context, data) for row in rows])
        return measured, verdict(measured, mixed.layout, mixed.last_layer_decides(context))

    def _cuts(self, layers: int) -> list[int]:
        return [1 + i for i in evenly(layers - 1, self.cuts)]


def _measured(evaluation: Evaluation, row: Row, context: Tensor | None, data: Moments) -> Measured:
    """Measure the FD from the images of a row to the data; None if an image is not finite."""
    model, extractor, n = evaluation.model, evaluation.extractor(), len(evaluation.references)
    features = []
    for start, rows in evaluation.batches(row.name, n):
        few = slice(start, start + rows)
        given = None if context is None else context[few].to(model.device, model.dtype)
        images = model.images(Draw(row.draw(few), given), evaluation.noise("hole", start))
        if count_nonfinite(images):
            return Measured(row, None)
        features.append(extractor(to_pixels(images))["features"].cpu())
    whole = torch.cat(features)
    return Measured(row, frechet_distance(moments(whole), data), standard_error(whole, data))


def _with_gaps(measured: Sequence[Measured]) -> list[Measured]:
    """Add the gap closed by each row, if both ends have a distance."""
    fd = {found.row.name: found.fd for found in measured}
    best, worst = fd[POSTERIOR], fd[ROOT]
    if best is None or worst is None:
        return list(measured)
    return [_with_gap(found, worst, best) for found in measured]


def _with_gap(found: Measured, worst: float, best: float) -> Measured:
    if found.fd is None or found.error is None or worst <= best:
        return found
    error = None if found.row.kind in (POSTERIOR, ROOT) else found.error / (worst - best)
    return attrs.evolve(found, gap=gap_closed(worst, found.fd, best), gap_error=error)


# ---------------------------------------------------------------- the section

_TEXT = (
    "Each row of the table draws u of some layers from q(z|x), inferred from images of the data, and of the others "
    "from N(0, I). u of a layer is standardised by the layers above it, z = μ(above) + σ(above) u, and is then put "
    "under other layers. The gap closed is 0 % if every layer is Gaussian and 100 % if all layers come from one image."
)
_CONTEXT = (
    "Every row uses the contexts of the images, c ~ r(c|x), so this is the gap of u given c. hebm analyse RUN context "
    "measures the effect of p(c)."
)
_SIGNAL = (
    "Layer 1 is the top. KL(q‖p) in nats per image. Active share: the part of the variance of u that depends on the "
    "image; the rest is noise of q. Effective dimensions: (Σ s)² / Σ s², with the variance s of that part in each "
    "coordinate."
)


def _section(
    evaluation: Evaluation,
    words: tuple[str, ...],
    measured: Sequence[Measured],
    layers: Sequence[LayerSignal],
    mixed: MixedDraws,
    folder: Path,
) -> Section:
    fields = ("size", "kl", "share", "dimensions")
    each = [(i, *(getattr(layer, name) for name in fields)) for i, layer in enumerate(layers, 1)]
    write_csv(folder / "layers.csv", ("layer", *fields), each)
    write_csv(
        folder / "rows.csv",
        ("row", "fd", "error", "gap_closed"),
        [(m.row.name, m.fd, m.error, m.gap) for m in measured],
    )
    numbers = {
        "n": len(mixed.u),
        "fd": {m.row.name: m.fd for m in measured},
        "fd_error": {m.row.name: m.error for m in measured},
        "gap_closed": {m.row.name: m.gap for m in measured},
        "layers": [attrs.asdict(layer) for layer in layers],
    }
    text = (*words, _TEXT, *([] if mixed.layout.context is None else [_CONTEXT]))
    tables = (*([_gap_table(evaluation, measured, mixed)] if measured else []), _layer_table(layers))
    pictures = (*_gap_curves(measured, len(layers), folder), _layer_curves(layers, folder))
    return Section("The prior hole", text, pictures, tables, numbers)


def _gap_table(evaluation: Evaluation, measured: Sequence[Measured], mixed: MixedDraws) -> Table:
    rows = tuple(
        (m.row.title, with_deviation(m.fd, m.error, ""), with_deviation(m.gap, m.gap_error, SHARE)) for m in measured
    )
    caption = (
        f"N = {len(mixed.u)}, {evaluation.settings.extractor_names[0]}; layer 1 is the top of {len(mixed.layout)}. "
        "±: standard error over N draws, for fixed data and fixed ends of the gap."
    )
    if any(m.row.kind == FITTED for m in measured):
        caption += f" Full covariance: shrunk towards a multiple of I, weight {mixed.fit.shrinkage:.2f} (Ledoit, Wolf)."
    if any(m.fd is None for m in measured):
        caption += " –: some images are not finite."
    return Table("Gap closed by draws", ("u drawn from", "FD", "gap closed"), rows, caption)


def _layer_table(layers: Sequence[LayerSignal]) -> Table:
    header = ("layer", "dimensions", "KL, nats", "active share", "effective dimensions")
    rows = tuple(
        (str(i), str(layer.size), significant(layer.kl), percent(layer.share), significant(layer.dimensions))
        for i, layer in enumerate(layers, 1)
    )
    total = None if any(layer.kl is None for layer in layers) else sum(layer.kl or 0.0 for layer in layers)
    last = ("all", str(sum(layer.size for layer in layers)), significant(total), "", "")
    return Table("Information that q stores in each layer", header, (*rows, last), _SIGNAL)


def _gap_curves(measured: Sequence[Measured], last: int, folder: Path) -> tuple[Picture, ...]:
    """Plot the gap closed over the number of layers above the cut, if there are such rows."""
    gaps = {m.row.name: 100 * m.gap for m in measured if m.gap is not None}
    lines: dict[str, Line] = {}
    for kind, label, ends in (
        (TOP, "layers above the cut from q", (ROOT, POSTERIOR)),
        (BOTTOM, "layers below the cut from q", (POSTERIOR, ROOT)),
    ):
        cuts = {m.row.above: gaps[m.row.name] for m in measured if m.row.kind == kind and m.row.name in gaps}
        if cuts:
            points: Mapping[int, float] = {0: gaps[ends[0]], **cuts, last: gaps[ends[1]]}
            lines[label] = Line(list(points), list(points.values()))
    if not lines:
        return ()
    if INDEPENDENT in gaps:
        lines["every layer from q, each of another image"] = Line([0, last], [gaps[INDEPENDENT]] * 2)
    save_curves(folder / "gap.png", {"Gap closed, %": lines}, "layers above the cut")
    return (Picture("gap.png", "Gap closed by the layers that come from q", "The other layers are Gaussian."),)


def _layer_curves(layers: Sequence[LayerSignal], folder: Path) -> Picture:
    at = list(range(1, len(layers) + 1))
    panels = {"Active share of u, %": {"": Line(at, [100 * layer.share for layer in layers])}}
    kl = [layer.kl for layer in layers if layer.kl is not None]
    if len(kl) == len(layers):
        panels = {"KL(q‖p), nats": {"": Line(at, kl)}, **panels}
    save_curves(folder / "layers.png", panels, "layer, 1 = top")
    return Picture("layers.png", "Information that q stores in each layer")
