"""The `[evaluate]` table."""

from __future__ import annotations

from hebm.config.recipe import option, recipe
from hebm.evaluate.metric import MetricRecipe
from hebm.noise import BLOCK


def default_metrics() -> tuple[MetricRecipe, ...]:
    """The metrics `fd` and `gap-closed` as registered, with their defaults."""
    from hebm.registry import find  # only when asked: this module is read before plugins are

    return tuple(find("hebm_metrics", name)() for name in ("fd", "gap-closed"))


@recipe
class EvaluateSettings:
    """What is measured of a trained model, and how.

    Two results can be compared only if extractor, samples, split and decode agree: all of them stand in the result.
    """

    samples: int = option(10000, low=2, doc="images drawn from each prior; references use as many if the split has")
    split: str = option("train", choices=("train", "test"), doc="images that distances are measured to")
    extractor: str = option(
        "classifier", choices=("classifier", "inception"), doc="features of fd and gap-closed: a CNN trained on labels"
    )
    extractor_weights: str | None = option(
        None, doc="file of Inception weights; None finds or downloads the standard one", path=True
    )
    extractor_sha256: str | None = option(None, doc="sha256 of extractor_weights where it is not the standard file")
    metrics: tuple[MetricRecipe, ...] = option(factory=default_metrics, doc="what to compute")
    chain_steps: int | None = option(
        None, low=1, doc="length of each of the prior's chains in evaluation, instead of the one it was trained with"
    )
    milestone: str | None = option(
        None, doc="what is measured in the prior's place: the prior after one of its stages, such as 'stage 1'"
    )
    decode: str = option("mean", choices=("mean", "sample"), doc="image of a latent: E[x|z], or a draw from p(x|z)")
    batch_size: int = option(512, low=BLOCK, doc="images at a time, rounded down to whole noise blocks of 64")
    temperatures: tuple[float, ...] = option(
        (0.8, 0.9, 1.1, 1.25, 1.5),
        above=0,
        doc="scales of u tried for the control, in which nothing is learned; further ones if the best is at an end",
    )
    cache: str = option("~/.cache/hebm", doc="folder where trained classifier extractors are kept")

    @property
    def rows(self) -> int:
        """Images in a batch: a multiple of the noise block, so that a batch is made of whole blocks."""
        return self.batch_size // BLOCK * BLOCK
