"""Show the same draws at several temperatures: u is scaled by τ, towards the mode of the latents or away from it."""

from __future__ import annotations

from pathlib import Path

import torch

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.section import Picture, Section
from hebm.config.recipes import option, recipe
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import GAUSSIAN, PRIOR
from hebm.interfaces import Draw
from hebm.report.grids import save_grid


@recipe
class Temperature(AnalysisRecipe):
    """z_i = μ_i(z_above) + τ σ_i(z_above) u_i with u drawn by the prior: one row per τ, one column per draw.

    The context of a draw is the same at every τ. The temperature of DVP-VAE multiplies variances and equals τ².
    """

    temperatures: tuple[float, ...] = option(
        (0.5, 0.7, 0.85, 1.0, 1.15, 1.3), low=0, doc="temperatures τ, one row of images each"
    )
    columns: int = option(12, low=1, doc="number of draws, one per column")

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Draw a grid of the prior's draws, and one of the backbone's own prior."""
        kinds = {
            PRIOR: "learned prior",
            GAUSSIAN: "backbone's own prior",
        }
        if evaluation.model.prior.root is None:
            del kinds[PRIOR]
        pictures = []
        for kind, title in kinds.items():
            draw, times = evaluation.draw(kind, 0, self.columns), len(self.temperatures)
            context = None if draw.context is None else draw.context.repeat(times, *[1] * (draw.context.ndim - 1))
            scaled = Draw(torch.cat([tau * draw.u for tau in self.temperatures]), context)
            save_grid(evaluation.model.images(scaled), folder / f"{kind}.png", self.columns)
            rows = ", ".join(f"{tau:g}" for tau in self.temperatures)
            pictures.append(Picture(f"{kind}.png", f"Draws of the {title}", f"Rows, from the top: τ = {rows}.", True))
        return Section("Temperature", (_TEXT,), tuple(pictures), numbers={"temperatures": list(self.temperatures)})


_TEXT = (
    "Each column is one draw, whose u is scaled by τ before decoding. Below 1, images become more typical and less "
    "varied. Metrics are always measured at τ = 1."
)
