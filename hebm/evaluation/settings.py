"""Settings of evaluation, the table `[evaluate]`."""

from __future__ import annotations

import attrs

from hebm import defaults, registry
from hebm.config.recipes import option, recipe
from hebm.data.images import Images
from hebm.draws import Request
from hebm.errors import ConfigError
from hebm.evaluation.extractors import ExtractorRecipe, default_extractor
from hebm.evaluation.metric import MetricRecipe
from hebm.noise import BLOCK, whole_blocks


@recipe
class EvaluateSettings:
    """What is measured of a trained model, and how.

    Two numbers can be compared only if their extractor, samples, split and decode agree; the result has all of them.
    """

    samples: int = option(
        10000,
        low=2,
        doc="N, the number of images drawn from each prior, and of reference images if the split has as many",
    )
    split: str = option("train", choices=("train", "test"), doc="split whose images are the reference")
    extractors: tuple[ExtractorRecipe, ...] = option(
        (),
        doc="the networks whose features fd and gap-closed compare, each on its own; the first decides the control's "
        "temperature and is the one of analyses; left out: one that suits the images, by whether they have labels",
        renamed_from=("extractor", "extractor_weights", "extractor_sha256"),
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
    temperature_samples: int = option(
        2000,
        low=2,
        doc="images on which temperatures are compared, `samples` at most; the best is measured on `samples`",
    )

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` for two extractors of one name: results could not tell them apart."""
        names = self.extractor_names
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f'evaluate.extractors: "{name}" is named {names.count(name)} times; name it once')

    @property
    def request(self) -> Request:
        """Return what the measured draws are like."""
        return Request(steps=self.chain_steps, after=self.after, start_proposals=self.start_proposals)

    @property
    def extractor_names(self) -> tuple[str, ...]:
        """Return the names under which the extractors are registered, in their order."""
        return tuple(registry.name_of(extractor) for extractor in self.extractors)

    def suited_to(self, images: Images) -> EvaluateSettings:
        """Return these settings, with the extractor that is the default for such images if they name none."""
        return self if self.extractors else attrs.evolve(self, extractors=(default_extractor(images),))  # type: ignore[misc]

    def extractor_called(self, name: str) -> ExtractorRecipe:
        """Return the extractor of these settings that has this name, else the registered one with its defaults."""
        own = dict(zip(self.extractor_names, self.extractors, strict=True))
        return own[name] if name in own else _registered(name)

    @property
    def rows(self) -> int:
        """Return the images in a batch, rounded down to whole blocks of noise."""
        return whole_blocks(self.batch_size)


def _registered(name: str) -> ExtractorRecipe:
    made: ExtractorRecipe = registry.find(ExtractorRecipe.group, name)()
    return made
