"""Settings of evaluation, the table `[evaluate]`."""

from __future__ import annotations

from hebm import defaults, registry
from hebm.config.recipes import option, recipe
from hebm.draws import Request
from hebm.evaluation.extractors import ExtractorRecipe
from hebm.evaluation.metric import MetricRecipe
from hebm.noise import BLOCK, whole_blocks


@recipe
class EvaluateSettings:
    """What is measured of a trained model, and how.

    Two results can be compared only if extractor, samples, split and decode agree; the result has all of them.
    """

    samples: int = option(
        10000,
        low=2,
        doc="N, the number of images drawn from each prior, and of reference images if the split has as many",
    )
    split: str = option("train", choices=("train", "test"), doc="split whose images are the reference")
    extractor: ExtractorRecipe = option(
        factory=defaults.EXTRACTOR,
        doc="the network whose features fd and gap-closed compare",
        renamed_from=("extractor_weights", "extractor_sha256"),
    )
    metrics: tuple[MetricRecipe, ...] = option(factory=defaults.metrics, doc="what to compute")
    chain_steps: int | None = option(
        None,
        low=0,
        doc="length of each of the prior's chains in evaluation, instead of the one it was trained with; 0 measures "
        "where chains start",
    )
    start_proposals: int | None = option(
        None,
        low=1,
        doc="P, the draws that each chain's start is chosen among, instead of the prior's own; 1 starts at a draw of "
        "the root",
    )
    after: str | None = option(
        None,
        doc="measure draws after this transition instead of the prior's, such as 'stage 1' or 'level 2'",
        renamed_from="milestone",
    )
    decode: str = option(
        "mean",
        choices=("mean", "sample"),
        doc="how latents become images: by the mean E[x|z], or by a draw from p(x|z)",
    )
    batch_size: int = option(
        512, low=BLOCK, doc="images per batch, rounded down to a multiple of 64 (the blocks of the noise)"
    )
    temperatures: tuple[float, ...] = option(
        (0.8, 0.9, 1.1, 1.25, 1.5),
        above=0,
        doc="temperatures τ to try for the Gaussian prior at its best τ; further ones if the first or last is best",
    )

    @property
    def request(self) -> Request:
        """Return what the measured draws are like."""
        return Request(steps=self.chain_steps, after=self.after, start_proposals=self.start_proposals)

    @property
    def extractor_name(self) -> str:
        """Return the name under which the extractor is registered."""
        return registry.name_of(self.extractor)

    def extractor_called(self, name: str) -> ExtractorRecipe:
        """Return the extractor of these settings if it has this name, else the registered one with its defaults."""
        if name == self.extractor_name:
            return self.extractor
        made: ExtractorRecipe = registry.find(ExtractorRecipe.group, name)()
        return made

    @property
    def rows(self) -> int:
        """Return the images in a batch, rounded down to whole blocks of noise."""
        return whole_blocks(self.batch_size)
