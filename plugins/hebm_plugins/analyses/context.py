"""Context: what a prior does in a given context, and what the contexts' own prior does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hebm.analyse.section import Picture, Section, Table, write_csv
from hebm.config.recipe import option, recipe
from hebm.errors import ConfigError
from hebm.evaluate.auroc import auroc
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.frechet import frechet_distance, moments
from hebm.evaluate.references import Spread, to_pixels
from hebm.evaluate.scores import Scorer, scan
from hebm.interfaces import AnalysisRecipe, Draw, PriorLearner, Request
from hebm.report.grids import save_grid
from hebm.report.numbers import significant
from hebm_plugins.analyses.drawing import contexts_of, draws, images_of

OF_DATA, DRAWN = "of data", "drawn"
NAME = "inside"


@recipe
class Context(AnalysisRecipe):
    """Draws in contexts of data, c ~ r(c|x), and in contexts that the root draws, c ~ p(c).

    A learned prior tilts u given c and cannot repair p(c): between the two rows of a prior lies what p(c) loses,
    between root and prior in contexts of data what the tilt gains. Whether posterior latents and draws *at one context*
    can be told apart is asked of a fresh classifier on (u, c), trained on half of the pairs and tried on the others.
    """

    images: int = option(2000, low=4, doc="training images whose contexts are taken, and draws of each kind")
    columns: int = option(10, low=1, doc="images of each row that is shown")
    width: int = option(128, low=1, doc="hidden units of the classifier")

    def refusal(self, evaluation: Evaluation) -> str | None:
        """A prior without a context."""
        return "its prior draws no context" if evaluation.prior.context is None else None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """A table of distances and AUROCs, and a grid: data, then draws of each kind."""
        images, scorer = Spread(evaluation.images["train"], self.images), Scorer.of(evaluation)
        contexts = contexts_of(evaluation, images, scorer, NAME)
        posterior = scan(evaluation, images, lambda batch, noise: scorer.inferred(batch, noise.derive(0)).u, NAME)
        priors = {"root": evaluation.root, "prior": evaluation.prior}
        if evaluation.prior.base is None:
            del priors["prior"]
        drawn = self._draws(evaluation, priors, contexts, len(images))
        distances, remark = _distances(evaluation, drawn)
        apart = {name: _told_apart(posterior, drawn[name, OF_DATA], self.width, evaluation.seed) for name in priors}
        self._show(evaluation, images, drawn, folder)
        rows = tuple(
            (name, kind, significant(distances.get((name, kind))), significant(apart[name]) if kind == OF_DATA else "")
            for name, kind in drawn
        )
        header = ("draws of", "contexts", "FD", "AUROC at one context")
        write_csv(folder / "contexts.csv", header, rows)
        numbers = {
            "fd": {f"{name}, {kind}": value for (name, kind), value in distances.items()},
            "auroc": apart,
            "n": len(images),
        }
        caption = f"N = {len(images)}, {evaluation.settings.extractor}; 0.5: the classifier cannot tell them apart."
        order = ", ".join(f"{name} with contexts {kind}" for name, kind in drawn)
        picture = Picture("contexts.png", "Draws by context", f"Rows: images of the data, {order}.", pixels=True)
        table = Table("Contexts of data, and drawn", header, rows, caption)
        return Section("Context", (_TEXT, remark), (picture,), (table,), numbers)

    def _draws(
        self, evaluation: Evaluation, priors: Mapping[str, PriorLearner], contexts: Tensor | None, n: int
    ) -> dict[tuple[str, str], Draw]:
        """By prior and kind of context."""
        given = {OF_DATA: Request(context=contexts), DRAWN: Request()}
        return {
            (name, kind): draws(evaluation, n, evaluation.noise("context"), request, prior)
            for name, prior in priors.items()
            for kind, request in given.items()
        }

    def _show(
        self, evaluation: Evaluation, images: Spread, drawn: Mapping[tuple[str, str], Draw], folder: Path
    ) -> None:
        n = min(self.columns, len(images))
        rows = [evaluation.batch(images, 0, n).x]
        for draw in drawn.values():
            rows.append(images_of(evaluation, Draw(draw.u[:n], None if draw.context is None else draw.context[:n])))
        save_grid(torch.cat(rows), folder / "contexts.png", n)


_TEXT = (
    "A context is drawn before the latents. In contexts of data a prior of the latents stands alone; with contexts "
    "that the root draws, its own prior p(c) counts, too, which no tilt of u can repair."
)


def _distances(
    evaluation: Evaluation, drawn: Mapping[tuple[str, str], Draw]
) -> tuple[dict[tuple[str, str], float], str]:
    """FD of each kind of draws to the data, and what to say of it."""
    try:
        data, extractor = moments(evaluation.features("data")), evaluation.extractor()
    except ConfigError as error:
        return {}, f"No Fréchet distance: {error}."
    found = {}
    for key, draw in drawn.items():
        parts = to_pixels(images_of(evaluation, draw)).split(evaluation.settings.rows)
        features = torch.cat([extractor(part)["features"].cpu() for part in parts])
        found[key] = frechet_distance(moments(features), data)
    return found, "Distances are those of an evaluation, of fewer images."


def _told_apart(posterior: Tensor, draw: Draw, width: int, seed: int) -> float:
    """AUROC of a classifier on (u, c) between posterior latents and draws in the same contexts, on the second half."""
    from sklearn.neural_network import MLPClassifier

    u = draw.u.double().cpu()
    c = u.new_zeros(len(u), 0) if draw.context is None else draw.context.double().cpu().flatten(1)
    inside, outside = (torch.cat([part, c], dim=1).numpy() for part in (posterior, u))
    half = len(u) // 2
    labels = [1] * half + [0] * half
    net = MLPClassifier((width,), early_stopping=True, random_state=seed, max_iter=100)
    net.fit([*inside[:half], *outside[:half]], labels)
    scores = [torch.from_numpy(net.predict_proba(part[half:])[:, 1]) for part in (inside, outside)]
    return auroc(scores[0], scores[1])
