"""The `[evaluate]` table."""

from __future__ import annotations

from hebm import defaults, registry
from hebm.config.recipe import option, recipe
from hebm.evaluate.extractors import ExtractorRecipe
from hebm.evaluate.metric import MetricRecipe
from hebm.noise import BLOCK, whole_blocks


@recipe
class EvaluateSettings:
    """What is measured of a trained model, and how.

    Two results can be compared only if extractor, samples, split and decode agree; the result has all of them.
    """

    samples: int = option(10000, low=2, doc="images drawn from each prior; references use as many if the split has")
    split: str = option("train", choices=("train", "test"), doc="images that distances are measured to")
    extractor: ExtractorRecipe = option(
        factory=defaults.EXTRACTOR,
        doc="the network whose features fd and gap-closed compare",
        renamed_from=("extractor_weights", "extractor_sha256"),
    )
    metrics: tuple[MetricRecipe, ...] = option(factory=defaults.metrics, doc="what to compute")
    chain_steps: int | None = option(
        None, low=1, doc="length of each of the prior's chains in evaluation, instead of the one it was trained with"
    )
    after: str | None = option(
        None,
        doc="measure draws after this transition instead of the prior's, such as 'stage 1' or 'level 2'",
        renamed_from="milestone",
    )
    decode: str = option("mean", choices=("mean", "sample"), doc="image of a latent: E[x|z], or a draw from p(x|z)")
    batch_size: int = option(512, low=BLOCK, doc="images at a time, rounded down to whole noise blocks of 64")
    temperatures: tuple[float, ...] = option(
        (0.8, 0.9, 1.1, 1.25, 1.5),
        above=0,
        doc="scales of u tried for the control, in which nothing is learned; further ones if the best is at an end",
    )

    @property
    def extractor_name(self) -> str:
        """The name under which the extractor is registered."""
        return registry.name_of(self.extractor)

    def extractor_called(self, name: str) -> ExtractorRecipe:
        """Return the extractor of these settings if it has this name, else the registered one with its defaults."""
        if name == self.extractor_name:
            return self.extractor
        made: ExtractorRecipe = registry.find(ExtractorRecipe.group, name)()
        return made

    @property
    def rows(self) -> int:
        """Images in a batch: a multiple of the noise block, so that a batch is made of whole blocks."""
        return whole_blocks(self.batch_size)
