"""The settings of evaluation: the table `[evaluate]`."""

from __future__ import annotations

import attrs

from hebm import defaults, registry
from hebm.config.recipes import option, recipe
from hebm.data.images import Images
from hebm.draws import Request
from hebm.errors import ConfigError
from hebm.evaluation.extractors import ExtractorRecipe, default_extractor
from hebm.evaluation.metric import MetricRecipe
from hebm.noise import BLOCK


@recipe
class EvaluateSettings:
    """Sets what is measured of a trained model, and how.

    Two numbers are comparable only if their extractor, samples, split and decode agree. Results store all of them.
    """

    samples: int = option(
        10000,
        low=2,
        doc="N, the number of images drawn from each prior, and the largest number of reference images",
    )
    split: str = option("train", choices=("train", "test"), doc="split whose images are the reference")
    extractors: tuple[ExtractorRecipe, ...] = option(
        (),
        doc="networks in whose features fd and gap-closed are measured, each separately; the first one selects the "
        "control's temperature and is used by analyses; left out: chosen by whether the images have labels",
        renamed_from=("extractor", "extractor_weights", "extractor_sha256"),
    )
    metrics: tuple[MetricRecipe, ...] = option(factory=defaults.metrics, doc="metrics to compute")
    chain_steps: int | None = option(
        None,
        low=0,
        doc="length of each of the prior's chains in evaluation, in place of the prior's setting; 0 measures the "
        "starts of chains",
    )
    start_proposals: int | None = option(
        None,
        low=1,
        doc="P, the number of proposals from which each chain's start is chosen, in place of the prior's setting; 1 "
        "starts at a draw of the root",
    )
    after: str | None = option(
        None,
        doc="measure draws after this transition instead of the last one, such as 'stage 1' or 'level 2'",
        renamed_from="milestone",
    )
    decode: str = option(
        "mean",
        choices=("mean", "sample"),
        doc="how latents are decoded: to the mean E[x|z], or to a draw from p(x|z)",
    )
    batch_size: int | None = option(
        None,
        low=BLOCK,
        doc="images per batch, rounded down to a multiple of 64 (the block of the noise); left out: chosen by the "
        "memory that the gradients of an image need, at most 512 on a CPU and 2,048 on a GPU",
    )
    temperatures: tuple[float, ...] = option(
        (0.8, 0.9, 1.1, 1.25, 1.5),
        above=0,
        doc="temperatures τ to try for the control, the Gaussian prior at its best τ; more are tried if the first or "
        "last is best",
    )
    temperature_samples: int = option(
        1024,
        low=2,
        doc="images per tried temperature, at most `samples`; the best temperature is then measured on `samples`, and "
        "so are its neighbours if these images do not tell them apart",
    )

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` for two extractors of one name, because results refer to extractors by name."""
        names = self.extractor_names
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f'evaluate.extractors: "{name}" is named {names.count(name)} times; name it once')

    @property
    def request(self) -> Request:
        """Return the request for the draws to measure."""
        return Request(steps=self.chain_steps, after=self.after, start_proposals=self.start_proposals)

    @property
    def extractor_names(self) -> tuple[str, ...]:
        """Return the registered names of the extractors, in order."""
        return tuple(registry.name_of(extractor) for extractor in self.extractors)

    def suited_to(self, images: Images) -> EvaluateSettings:
        """Return these settings; if they name no extractor, add the default one for these images."""
        return self if self.extractors else attrs.evolve(self, extractors=(default_extractor(images),))  # type: ignore[misc]

    def extractor_called(self, name: str) -> ExtractorRecipe:
        """Return the extractor of this name: from these settings, or else the registered one with its defaults."""
        own = dict(zip(self.extractor_names, self.extractors, strict=True))
        return own[name] if name in own else _registered(name)


def _registered(name: str) -> ExtractorRecipe:
    made: ExtractorRecipe = registry.find(ExtractorRecipe.group, name)()
    return made
