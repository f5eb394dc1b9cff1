"""The prior's chains, as long as they were trained and ten times as long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import attrs
from torch import Tensor

from hebm.analyse.plots import Line, save_curves
from hebm.analyse.recipe import AnalysisRecipe
from hebm.analyse.section import Picture, Section, Table, write_csv
from hebm.config.recipe import option, recipe
from hebm.errors import ConfigError
from hebm.evaluate.chain_diagnostics import FEWEST, Mixing, mixing
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.frechet import frechet_distance, moments
from hebm.interfaces import Draw
from hebm.noise import BLOCK
from hebm.report.chain import band, evenly
from hebm.report.grids import save_strip
from hebm.report.numbers import significant
from hebm_plugins.analyses.chain_recording import Lengths, Level, chooses, features_along, lengths, record
from hebm_plugins.analyses.drawing import images_of

_POINTS = 200


@recipe
class Chains(AnalysisRecipe):
    """Short-run and long-run chains: images, log densities, gradient norms, Fréchet distance, R̂ and ESS.

    A model is what its short-run chain draws; a long run shows whether its density agrees with that: where it does
    not, images over-saturate or lose variety, and their distance to the data rises.
    """

    factor: int = option(10, low=2, doc="length of the long run in those of the short run")
    rows: int = option(6, low=1, doc="chains in a strip")
    chains: int = option(BLOCK, low=2, doc="chains that figures are taken over")
    images: int = option(512, low=0, doc="images of each Fréchet distance; 0 leaves it out")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """A prior that runs no chain."""
        if chooses(evaluation):
            return "its draws are chosen by weight among particles: no chain is the draw's own"
        if not lengths(evaluation).levels:
            return "its prior runs no chain: its draws are exact"
        return None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Strips, curves and a table for both lengths."""
        short = lengths(evaluation)
        long = attrs.evolve(short, steps=self.factor * short.steps)
        runs = {name: self._record(evaluation, shape) for name, shape in (("short", short), ("long", long))}
        names = _names(evaluation, short)
        pictures = [
            picture for name, levels in runs.items() for picture in _shown(evaluation, folder, name, names, levels)
        ]
        distances, remark = self._distances(evaluation, long, short.steps)
        if distances:
            pictures.append(_distance_curve(folder, distances, short.steps))
        found = _mixing(runs["long"], names)
        write_csv(folder / "mixing.csv", ("of", "rhat", "ess_per_chain"), [(k, *v) for k, v in found.items()])
        write_csv(folder / "distances.csv", ("step", "fd"), list(distances.items()))
        text = (_TEXT.format(levels=_levels(names), steps=short.steps, long=long.steps), remark)
        numbers = {
            **attrs.asdict(short),
            "fd": {str(k): value for k, value in distances.items()},
            "mixing": {name: value._asdict() for name, value in found.items()},
        }
        return Section("Chains", text, tuple(pictures), (_table(found, long),), numbers)

    def _record(self, evaluation: Evaluation, shape: Lengths) -> list[Level]:
        return record(evaluation, shape, self.chains, max(1, shape.steps // 10), self.rows)

    def _distances(self, evaluation: Evaluation, long: Lengths, short: int) -> tuple[dict[int, float], str]:
        """FD by steps done in the last level, and what to say of it."""
        if not self.images:
            return {}, "No Fréchet distance was asked for."
        try:
            data = moments(evaluation.features("data"))
        except ConfigError as error:
            return {}, f"No Fréchet distance: {error}."
        along = features_along(evaluation, long, self.images, short)
        found = {
            step: math.nan if known is None else frechet_distance(moments(known), data) for step, known in along.items()
        }
        return found, _remark(found, short, self.images)


_TEXT = (
    "{levels} The model is what chains of {steps} steps draw (short run). The long run is of {long} steps: if the "
    "density that the chain climbs agrees with what the short run draws, images keep their look along it."
)


def _names(evaluation: Evaluation, shape: Lengths) -> list[str]:
    """What each chain of a draw is called: after what it leads to, nothing if there is one."""
    if shape.levels == 1:
        return [""]
    milestones = list(evaluation.prior.milestones())
    return milestones if len(milestones) == shape.levels else [f"chain {i + 1}" for i in range(shape.levels)]


def _levels(names: Sequence[str]) -> str:
    if len(names) == 1:
        return "A draw is the end of one chain."
    return (
        f"A draw passes through {len(names)} chains ({', '.join(names)}); each starts where the one before it ended, "
        "and is lengthened alike."
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


def _shown(
    evaluation: Evaluation, folder: Path, name: str, chains: Sequence[str], levels: Sequence[Level]
) -> list[Picture]:
    return [*_strips(evaluation, folder, name, chains, levels), _curves(folder, name, chains, levels)]


def _strips(
    evaluation: Evaluation, folder: Path, name: str, chains: Sequence[str], levels: Sequence[Level]
) -> list[Picture]:
    found = []
    for i, (chain, level) in enumerate(zip(chains, levels, strict=True)):
        file = f"{name}-{i}.png"
        save_strip([images_of(evaluation, Draw(u, level.context)) for _, u in level.states], folder / file)
        where = f", {chain}" if chain else ""
        steps = ", ".join(str(step) for step, _ in level.states)
        found.append(
            Picture(file, f"{name.capitalize()} run{where}", f"A row is a chain; columns: steps {steps}.", True)
        )
    return found


def _curves(folder: Path, name: str, chains: Sequence[str], levels: Sequence[Level]) -> Picture:
    panels = {}
    for quantity, label in (("values", "log density"), ("grad_norms", "gradient norm")):
        for chain, level in zip(chains, levels, strict=True):
            where = f", {chain}" if chain else ""
            panels[f"{label}{where}"] = {"mean": _line(getattr(level, quantity))}
    save_curves(folder / f"{name}.png", panels, "step of the chain")
    title = f"{name.capitalize()} run: log density (up to a constant) and norm of its gradient"
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


def _mixing(levels: Sequence[Level], chains: Sequence[str]) -> dict[str, Mixing]:
    """R̂ and ESS per chain over the second half of a run: of the log density and of the worst and median direction."""
    found = {}
    for chain, level in zip(chains, levels, strict=True):
        half = len(level.values) // 2
        if half < FEWEST:
            return {}
        where = f"{chain}: " if chain else ""
        alone = len(levels) > 1
        found[f"{where}log density"] = _of(level.values[-half:].T, alone)
        directions = [_of(level.projections[-half:, :, q].T, alone) for q in range(level.projections.shape[2])]
        directions.sort(key=lambda m: m.ess)
        found[f"{where}u along a random direction, median"] = directions[len(directions) // 2]
        found[f"{where}u along a random direction, worst"] = directions[0]
    return found


def _of(chains: Tensor, alone: bool) -> Mixing:
    """Of chains `(M, N)` together, ESS divided by M; or the mean over chains of each by itself."""
    if not alone:
        together = mixing(chains)
        return Mixing(together.rhat, together.ess / len(chains))
    each = [mixing(chain.unsqueeze(0)) for chain in chains]
    return Mixing(*(math.fsum(values) / len(each) for values in zip(*each, strict=True)))


def _table(found: dict[str, Mixing], long: Lengths) -> Table:
    rows = tuple((name, significant(m.rhat), significant(m.ess)) for name, m in found.items())
    kept = long.steps // 2
    caption = f"Over the last {kept} steps of the long run. R̂ is near 1 (below 1.01, say) for chains that have mixed; "
    if long.levels == 1:
        caption += f"ESS is of {kept} steps of a chain, all chains taken together."
    else:
        caption += (
            "every chain has a target of its own given the level above, so R̂ compares the two halves of each chain, "
            f"and ESS is of its {kept} steps; both are means over chains."
        )
    return Table("Mixing", ("", "R̂", "ESS per chain"), rows, caption)
