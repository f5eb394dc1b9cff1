"""Context: separate the quality of draws given a context from the quality of drawn contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.evaluation.auroc import auroc
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.frechet import frechet_distance, moments
from hebm.evaluation.kinds import DATA
from hebm.evaluation.references import EvenSubset
from hebm.evaluation.scores import Scorer, scan
from hebm.interfaces import Draw, context_of
from hebm.latents import Latents
from hebm.pixel_levels import to_pixels
from hebm.report.grids import save_grid
from hebm.report.numbers import significant
from hebm.trained import finite
from hebm.transitions import ROOT
from hebm_plugins.analyses.drawing import contexts_of, tilts

OF_DATA, DRAWN = "of data", "drawn"
NAME = "inside"


class Measured(NamedTuple):
    """Measurements of draws, by prior and kind of context.

    Arguments:
        drawn: draws of u and c.
        distance: FD to the data; empty without an extractor.
        remark: a remark about the distances.
        apart: AUROC of a new classifier in contexts of data, by prior.
        tilted: AUROC of the prior's log tilt in contexts of data, by prior.
    """

    drawn: Mapping[tuple[str, str], Draw]
    distance: Mapping[tuple[str, str], float]
    remark: str
    apart: Mapping[str, float]
    tilted: Mapping[str, float]


@recipe
class Context(AnalysisRecipe):
    """Compare draws in contexts of data, c ~ r(c|x), with draws in contexts of the root, c ~ p(c).

    A learned prior tilts u given c and cannot fix a poor p(c). The difference between the two rows of a prior is the
    loss by p(c). The difference between root and prior in contexts of data is the gain by the tilt.

    A new classifier on (z, c) measures how well posterior latents and draws at the same context can be separated. It is
    trained on half of the pairs and evaluated on the others. Its AUROC is a lower bound and needs many pairs (on MNIST
    it still rises at 60,000). The AUROC of the prior's log tilt, which was learned on far more pairs, is given too; on
    the prior's own draws it shows how well chains follow the tilt.

    Example:
        >>> Context(images=1000).width
        128
    """

    images: int = option(10_000, low=64, doc="training images that give contexts, and draws of each kind")
    columns: int = option(10, low=1, doc="images per row of the picture")
    width: int = option(128, low=1, doc="hidden units of the classifier")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason for a prior without a context."""
        return "its prior draws no context" if context_of(evaluation.model.prior) is None else None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Return a table of distances and AUROCs, and a grid of data and of draws of each kind."""
        images, scorer = EvenSubset(evaluation.splits["train"], self.images), Scorer(evaluation.model)
        contexts = contexts_of(evaluation, images, scorer, NAME)
        u = scan(evaluation, images, lambda batch, noise: scorer.inferred(batch, noise.derive(0)).u, NAME)
        found = self._measured(evaluation, Draw(u.to(evaluation.model.device, evaluation.model.dtype), contexts))
        self._show(evaluation, images, found.drawn, folder)
        return _section(evaluation, found, len(images), folder)

    def _measured(self, evaluation: Evaluation, posterior: Draw) -> Measured:
        learned = evaluation.model.prior.root is not None
        names = (ROOT, "prior") if learned else (ROOT,)
        drawn = self._draws(evaluation, names, posterior.context, len(posterior.u))
        at_once = {name: drawn[name, OF_DATA] for name in names}
        apart = {name: self._told_apart(evaluation, posterior, draw) for name, draw in at_once.items()}
        tilted = {name: _by_tilt(evaluation, posterior, draw) for name, draw in at_once.items() if learned}
        return Measured(drawn, *_distances(evaluation, drawn), apart, tilted)

    def _draws(
        self, evaluation: Evaluation, names: Sequence[str], contexts: Tensor | None, n: int
    ) -> dict[tuple[str, str], Draw]:
        """Return draws by prior, the root or the model's own, and kind of context."""
        request = evaluation.model.request
        given = {OF_DATA: attrs.evolve(request, context=contexts), DRAWN: request}
        after = {ROOT: ROOT, "prior": request.after}
        return {
            (name, kind): evaluation.model.draw(n, evaluation.noise("context"), attrs.evolve(wanted, after=after[name]))
            for name in names
            for kind, wanted in given.items()
        }

    def _told_apart(self, evaluation: Evaluation, posterior: Draw, draw: Draw) -> float:
        """Return the AUROC of a classifier trained on the first half of the pairs, on the second half."""
        from sklearn.neural_network import MLPClassifier

        inside, outside = (_pairs(evaluation, each) for each in (posterior, draw))
        half = len(inside) // 2
        learned = torch.cat([inside[:half], outside[:half]])
        mean, std = learned.mean(0), learned.std(0).clamp(min=1e-6)
        net = MLPClassifier((self.width,), early_stopping=True, random_state=evaluation.model.seed, max_iter=100)
        net.fit(((learned - mean) / std).numpy(), [1] * half + [0] * half)
        tried = [((part[half:] - mean) / std).numpy() for part in (inside, outside)]
        return auroc(*(torch.from_numpy(net.predict_proba(part)[:, 1]) for part in tried))

    def _show(
        self, evaluation: Evaluation, images: EvenSubset, drawn: Mapping[tuple[str, str], Draw], folder: Path
    ) -> None:
        n = min(self.columns, len(images))
        rows = [evaluation.batch(images, 0, n).x]
        for draw in drawn.values():
            rows.append(evaluation.model.images(draw.rows(slice(n))))
        save_grid(torch.cat(rows), folder / "contexts.png", n)


_TEXT = (
    "A context is drawn before the latents. In contexts of data a prior of the latents stands alone; with contexts "
    "that the root draws, its own prior p(c) counts, too, which no tilt of u can repair."
)


def _distances(
    evaluation: Evaluation, drawn: Mapping[tuple[str, str], Draw]
) -> tuple[dict[tuple[str, str], float], str]:
    """Return the FD of each kind of draws to the data, and a remark about it."""
    try:
        data, extractor = moments(evaluation.features(DATA)), evaluation.extractor()
    except ConfigError as error:
        return {}, f"No Fréchet distance: {error}."
    found = {}
    for key, draw in drawn.items():
        images = finite(evaluation.model.images(draw))
        parts = torch.split(to_pixels(images), evaluation.rows)
        features = torch.cat([extractor(part)["features"].cpu() for part in parts])
        found[key] = frechet_distance(moments(features), data)
    return found, f"Distances are to the {evaluation.count('data')} images that an evaluation compares with."


def _section(evaluation: Evaluation, found: Measured, n: int, folder: Path) -> Section:
    header = ("draws of", "contexts", "FD", "AUROC at one context", "AUROC of the prior's tilt")
    rows = tuple(
        (
            name,
            kind,
            significant(found.distance.get((name, kind))),
            *(_cell(kind, figures.get(name)) for figures in (found.apart, found.tilted)),
        )
        for name, kind in found.drawn
    )
    write_csv(folder / "contexts.csv", header, rows)
    distances = {f"{name}, {kind}": value for (name, kind), value in found.distance.items()}
    numbers = {"fd": distances, "auroc": dict(found.apart), "auroc_of_tilt": dict(found.tilted), "n": n}
    apart = "AUROC: posterior latents against draws, 0.5: not told apart"
    table = Table(
        "Contexts of data, and drawn", header, rows, f"N = {n}, {evaluation.settings.extractor_names[0]}; {apart}."
    )
    order = ", ".join(f"{name} with contexts {kind}" for name, kind in found.drawn)
    picture = Picture("contexts.png", "Draws by context", f"Rows: images of the data, {order}.", pixels=True)
    return Section("Context", (_TEXT, found.remark), (picture,), (table,), numbers)


def _by_tilt(evaluation: Evaluation, posterior: Draw, draw: Draw) -> float:
    """Return the AUROC of the prior's log tilt; 0.5 without one."""
    tilt = evaluation.model.tilt
    if tilt is None:
        return 0.5
    return auroc(*(tilts(evaluation.model, tilt, each).sum(1) for each in (posterior, draw)))


def _pairs(evaluation: Evaluation, draw: Draw) -> Tensor:
    """Return [z, c], flattened, float64 `(n, D + d_c)` on the CPU."""

    def flat(latents: Latents) -> Tensor:
        c = latents.u[:, :0] if latents.context is None else latents.context.flatten(1)
        return torch.cat([latents.flat_z, c], dim=1)

    return evaluation.model.of_latents(draw, flat).double().cpu()


def _cell(kind: str, value: float | None) -> str:
    return "" if kind == DRAWN or value is None else significant(value)
