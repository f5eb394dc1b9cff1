"""The prior's chains at their trained length and ten times as long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.plots import Line, save_curves
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.evaluation.chain_diagnostics import FEWEST, Mixing, mixing
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.frechet import frechet_distance, moments
from hebm.evaluation.kinds import DATA
from hebm.interfaces import Draw
from hebm.noise import BLOCK
from hebm.report.chain import band, evenly
from hebm.report.grids import save_strip
from hebm.report.numbers import significant
from hebm_plugins.analyses.chain_recording import Recorded, features_along, record

_POINTS = 200


@recipe
class Chains(AnalysisRecipe):
    """Images, log densities, gradient norms, Fréchet distance, R̂ and ESS of short-run and long-run chains.

    The model's draws are those of its short-run chain. The long run shows whether the density agrees with them. If it
    does not, images over-saturate or lose variety, and their distance to the data rises.

    Example:
        >>> Chains(factor=5, images=0).factor
        5
    """

    factor: int = option(10, low=2, doc="length of the long run in units of the short run")
    rows: int = option(6, low=1, doc="chains in a picture, one per row")
    chains: int = option(BLOCK, low=2, doc="chains over which numbers and curves are computed")
    images: int = option(512, low=0, doc="images for each Fréchet distance; 0 for no distance")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason if the prior has no chain, or weights and resamples its particles."""
        if evaluation.model.prior.population.count > 1:
            return "its draws are chosen by weight among particles: no chain is the draw's own"
        if not evaluation.model.chain_lengths:
            return "its prior runs no chain: its draws are exact"
        return None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Return strips, curves and a table for both lengths."""
        lengths = evaluation.model.chain_lengths
        names, steps = list(lengths), next(iter(lengths.values()))
        runs = {name: self._record(evaluation, factor) for name, factor in (("short", 1), ("long", self.factor))}
        pictures = [picture for name, chains in runs.items() for picture in _shown(evaluation, folder, name, chains)]
        distances, remark = self._distances(evaluation)
        if distances:
            pictures.append(_distance_curve(folder, distances, lengths[names[-1]]))
        found = _mixing(runs["long"])
        write_csv(folder / "mixing.csv", ("of", "rhat", "ess_per_chain"), [(k, *v) for k, v in found.items()])
        write_csv(folder / "distances.csv", ("step", "fd"), list(distances.items()))
        text = (_TEXT.format(chains=_in_words(names), steps=steps, long=self.factor * steps), remark)
        numbers = {
            "steps": lengths,
            "factor": self.factor,
            "fd": {str(k): value for k, value in distances.items()},
            "mixing": {name: value._asdict() for name, value in found.items()},
        }
        return Section("Chains", text, tuple(pictures), (_table(found, runs["long"]),), numbers)

    def _record(self, evaluation: Evaluation, factor: int) -> list[Recorded]:
        model = evaluation.model
        every = max(1, next(iter(model.chain_lengths.values())) // 10)
        return record(model, self.chains, factor, every, self.rows)

    def _distances(self, evaluation: Evaluation) -> tuple[dict[int, float], str]:
        """Return FD by steps done in the last chain, and what to say of it."""
        if not self.images:
            return {}, "No Fréchet distance was measured (chains.images = 0)."
        try:
            data = moments(evaluation.features(DATA))
        except ConfigError as error:
            return {}, f"No Fréchet distance: {error}."
        short = evaluation.model.chain_lengths[next(reversed(evaluation.model.chain_lengths))]
        along = features_along(evaluation, self.images, self.factor, short)
        found = {
            step: math.nan if known is None else frechet_distance(moments(known), data) for step, known in along.items()
        }
        return found, _remark(found, short, self.images)


_TEXT = (
    "{chains} The model is what chains of {steps} steps draw (short run). The long run is of {long} steps: if the "
    "density that the chain climbs agrees with what the short run draws, images keep their look along it."
)


def _in_words(names: Sequence[str]) -> str:
    if len(names) == 1:
        return "A draw is the end of one chain."
    return (
        f"A draw passes through {len(names)} chains ({', '.join(names)}), and each of them is lengthened by the same "
        "factor."
    )


def _remark(distances: dict[int, float], short: int, n: int) -> str:
    first, last = distances[short], list(distances.values())[-1]
    if not (math.isfinite(first) and math.isfinite(last)):
        return "Some states of the long run are not finite: its chains diverge. Lower the sampler's step size."
    change = "falls" if last < first else "rises"
    return (
        f"The Fréchet distance to the data {change} from {significant(first)} after {short} steps of the last chain to "
        f"{significant(last)} after {list(distances)[-1]} (N = {n}: not to be compared with those of other N)."
    )


# ---------------------------------------------------------------- pictures


def _shown(evaluation: Evaluation, folder: Path, name: str, chains: Sequence[Recorded]) -> list[Picture]:
    return [*_strips(evaluation, folder, name, chains), _curves(folder, name, chains)]


def _strips(evaluation: Evaluation, folder: Path, name: str, chains: Sequence[Recorded]) -> list[Picture]:
    found = []
    for i, chain in enumerate(chains):
        file = f"{name}-{i}.png"
        save_strip([evaluation.model.images(Draw(u, chain.context)) for _, u in chain.states], folder / file)
        steps = ", ".join(str(step) for step, _ in chain.states)
        title = f"{name.capitalize()} run, {chain.name}"
        found.append(Picture(file, title, f"A row is a chain; columns: steps {steps}.", True))
    return found


def _curves(folder: Path, name: str, chains: Sequence[Recorded]) -> Picture:
    panels = {}
    for quantity, label in (("values", "log density"), ("grad_norms", "gradient norm")):
        for chain in chains:
            values: Tensor | None = getattr(chain, quantity)
            if values is not None:
                panels[f"{label}, {chain.name}"] = {"mean": _line(values)}
    save_curves(folder / f"{name}.png", panels, "step of the chain")
    title = f"{name.capitalize()} run: log density (up to a constant)"
    title += " and norm of its gradient" if any(chain.grad_norms is not None for chain in chains) else ""
    return Picture(f"{name}.png", title, "Mean, and the band of 10 to 90 % of the chains.")


def _line(values: Tensor) -> Line:
    points = evenly(len(values), _POINTS)
    found = band(points, [values[i] for i in points])
    low, mean, high = ([math.nan if v is None else v for v in part] for part in (found.low, found.mean, found.high))
    return Line([point + 1 for point in points], mean, low, high)


def _distance_curve(folder: Path, distances: dict[int, float], short: int) -> Picture:
    line = Line(list(distances), list(distances.values()))
    save_curves(folder / "distance.png", {"Fréchet distance to the data": {"FD": line}}, "step", marks=[short])
    caption = f"Along the long run's last chain; the dashes are at the short run's {short} steps."
    return Picture("distance.png", "Fréchet distance along the long run", caption)


# ---------------------------------------------------------------- mixing


def _mixing(chains: Sequence[Recorded]) -> dict[str, Mixing]:
    """Return R̂ and ESS per chain over the second half of a run, for the log density and two directions of u."""
    found = {}
    for chain in chains:
        half = len(chain.values) // 2
        if half < FEWEST:
            return {}
        alone = len(chains) > 1
        found[f"{chain.name}: log density"] = _of(chain.values[-half:].T, alone)
        directions = [_of(chain.projections[-half:, :, q].T, alone) for q in range(chain.projections.shape[2])]
        directions.sort(key=lambda m: m.ess)
        found[f"{chain.name}: u along a random direction, median"] = directions[len(directions) // 2]
        found[f"{chain.name}: u along a random direction, worst"] = directions[0]
    return found


def _of(chains: Tensor, alone: bool) -> Mixing:
    """Return the mixing of chains `(M, N)`: of all together with ESS / M, or the mean over chains if `alone`."""
    if not alone:
        together = mixing(chains)
        return Mixing(together.rhat, together.ess / len(chains))
    each = [mixing(chain.unsqueeze(0)) for chain in chains]
    return Mixing(*(math.fsum(values) / len(each) for values in zip(*each, strict=True)))


def _table(found: dict[str, Mixing], long: Sequence[Recorded]) -> Table:
    rows = tuple((name, significant(m.rhat), significant(m.ess)) for name, m in found.items())
    kept = len(long[-1].values) // 2
    caption = f"Over the last {kept} steps of the long run. R̂ is near 1 (below 1.01, say) for chains that have mixed; "
    if len(long) == 1:
        caption += f"ESS is of {kept} steps of a chain, all chains taken together."
    else:
        caption += (
            "every chain has a target of its own given where it starts, so R̂ compares the two halves of each chain, "
            f"and ESS is of its {kept} steps; both are means over chains."
        )
    return Table("Mixing", ("", "R̂", "ESS per chain"), rows, caption)
