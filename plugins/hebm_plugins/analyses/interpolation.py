"""Interpolate between images in the space of latents.

References:
    Sampling Generative Networks, arXiv 1609.04468 (spherical interpolation of Gaussian latents).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.section import Picture, Section
from hebm.config.recipes import option, recipe
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import PRIOR
from hebm.evaluation.references import EvenSubset
from hebm.interfaces import Draw
from hebm.report.grids import save_grid

_PARALLEL = 1e-4


@recipe
class Interpolation(AnalysisRecipe):
    """u(s) = sin((1−s)Ω)/sin Ω u_a + sin(sΩ)/sin Ω u_b, with the angle Ω between u_a and u_b (arXiv 1609.04468)."""

    ends: str = option(
        "posterior",
        choices=("posterior", "prior"),
        doc="interpolate between latents of test images, or between draws of the prior",
    )
    rows: int = option(8, low=1, doc="number of pairs, one per row")
    columns: int = option(9, low=3, doc="images per row, both ends included")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason if there are too few test images for two rows."""
        if self.ends == "posterior" and len(evaluation.splits["test"]) < 2 * self.rows:
            fix = 'lower interpolation.rows, or set interpolation.ends = "prior"'
            return f"there are fewer than {2 * self.rows} test images; {fix}"
        return None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Draw one grid with a row for each pair."""
        images, ends = self._ends(evaluation)
        s = torch.linspace(0, 1, self.columns).to(ends.u)
        ways_x = torch.unflatten(evaluation.model.images(self._ways(ends, s)), 0, (self.rows, -1))
        if images is not None:
            first, last = images[: self.rows, None], images[self.rows :, None]
            ways_x = torch.cat([first, ways_x, last], dim=1)
        save_grid(ways_x.flatten(0, 1), folder / "ways.png", ways_x.shape[1])
        what = "two draws of the prior" if images is None else "the latents of two test images"
        note = "" if images is None else "The outermost columns are the images, next to their reconstructions."
        text = (
            f"Each row interpolates between {what} along a great circle of u, so all points are about as far from the "
        )
        text += "origin as the ends. No chain is run, so the images depend on the decoder and the latents alone."
        text += "" if ends.context is None else " The context is interpolated linearly."
        picture = Picture("ways.png", f"Between {what}", note, pixels=True)
        return Section("Interpolation", (text,), (picture,), numbers={"points": s.tolist()})

    def _ways(self, ends: Draw, s: Tensor) -> Draw:
        """Return points between the ends i and i + `rows`, ordered by row, then by s."""
        u = torch.stack([slerp(ends.u[: self.rows], ends.u[self.rows :], float(at)) for at in s], dim=1)
        if ends.context is None:
            return Draw(u.flatten(0, 1))
        c, d = ends.context[: self.rows], ends.context[self.rows :]
        return Draw(u.flatten(0, 1), torch.stack([torch.lerp(c, d, float(at)) for at in s], dim=1).flatten(0, 1))

    def _ends(self, evaluation: Evaluation) -> tuple[Tensor | None, Draw]:
        """Return `2 rows` end points, and their images `(2 rows, C, H, W)` or None for draws of the prior."""
        n = 2 * self.rows
        if self.ends == "prior":
            return None, evaluation.model.draw(n, evaluation.noise(PRIOR))
        batch = evaluation.batch(EvenSubset(evaluation.splits["test"], n), 0, n)
        latents = evaluation.model.infer(batch, evaluation.noise("interpolation")).latents
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).to(latents.u.device)
        context = None if latents.context is None else latents.context[order]
        return batch.x[order], Draw(latents.u[order], context)  # the shuffle avoids pairs of one class


def slerp(a: Tensor, b: Tensor, s: float) -> Tensor:
    """Interpolate from a to b at s ∈ [0, 1] along a great circle, or linearly if they are parallel; `(B, D)`."""
    norms = torch.linalg.vector_norm(a, dim=1, keepdim=True), torch.linalg.vector_norm(b, dim=1, keepdim=True)
    cosine = ((a * b).sum(1, keepdim=True) / (norms[0] * norms[1]).clamp(min=1e-30)).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    arc = (torch.sin((1 - s) * angle) * a + torch.sin(s * angle) * b) / sine.clamp(min=_PARALLEL)
    return torch.where(sine < _PARALLEL, (1 - s) * a + s * b, arc)
