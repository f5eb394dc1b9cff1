"""Write a first configuration for a user's images that takes a given time, by inspecting the images and a trial.

The time of training is proportional to its steps, so a trial of a few steps shows how many fit:

    steps = share · (seconds in all − seconds of evaluation) · steps of the trial / its estimated seconds

with 65 % for the backbone and 35 % for the prior. The result is tried again, since the prior's phase also infers its
images once, whatever its number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from textwrap import wrap
from typing import Any

import attrs

from hebm.checking import Check, check
from hebm.config.experiment import Experiment
from hebm.config.writing import inline
from hebm.data.looks import Looks, look
from hebm.errors import ConfigError, DataError
from hebm.estimates import BACKBONE, duration

SIDES = (32, 64, 128)
"""Allowed sides of images in a first run, in pixels."""
_BATCH = 50
_FINEST = 16
"""The side of the finest latents."""
_BACKBONE_SHARE = 0.65
"""The backbone's share of training time."""
_EVALUATION = 0.25
"""The evaluation's share of the total time."""
_FEWEST_STEPS, _FEWEST_SAMPLES, _MOST_SAMPLES = 100, 500, 10_000
_ENOUGH_STEPS = 4000
"""Number of backbone steps from which larger images help more than further steps."""
_TRIALS = 3
_COMMENT: dict[str, Any] = {"initial_indent": "# ", "subsequent_indent": "#   "}
_FEW_IMAGES = 2000
"""Number of images in the first trial, so that it need not decode all of them."""


@attrs.frozen
class Sizes:
    """The sizes that depend on the available time.

    Arguments:
        side: side of an image, in pixels.
        backbone_steps: number of steps of phase 1.
        prior_steps: number of steps of phase 2.
        samples: number of samples to measure.
    """

    side: int
    backbone_steps: int = 1000
    prior_steps: int = 1000
    samples: int = 1000

    def __str__(self) -> str:
        steps = f"{self.backbone_steps:,} steps of the backbone, {self.prior_steps:,} of the prior"
        return f"{self.side}×{self.side} pixels, {steps}, {self.samples:,} samples"


@attrs.frozen
class Starter:
    """A first configuration.

    Arguments:
        text: the text of the file.
        looks: the properties of the images.
        check: the result of a trial.
    """

    text: str
    looks: Looks
    check: Check


def first_configuration(
    root: Path,
    minutes: float,
    file: str,
    name: str,
    settings: Mapping[str, Any],
    say: Callable[[str], None] = lambda line: None,
) -> Starter:
    """Write a configuration for a folder or archive of images that takes about `minutes` on this machine.

    Arguments:
        root: the folder or archive.
        minutes: time for training and evaluation.
        file: the name of the file.
        name: the name of the run.
        settings: further keys of the table `data`.
        say: called with messages about the images and the trials.

    Raises the errors of `hebm.check`, `DataError` if the folder has no images or they are too small, and `ConfigError`
    if even the smallest run takes far longer.
    """
    looks = look(root)
    say(str(looks))
    if looks.side < min(SIDES) // 2:
        raise DataError(
            f"{root}: the images have a side of {looks.side} pixels, but --data needs at least {min(SIDES) // 2}; give "
            "larger images, or write a configuration for small ones with hebm init FILE --from quickstart and set its "
            "data.type, data.root and data.size"
        )
    draft = _Draft(root, looks, file, name, settings)
    seconds = 60 * minutes
    sizes, found = _fitted(draft, seconds, say)
    if found.estimate.seconds > 2 * seconds:
        raise ConfigError(
            f"--minutes {minutes:g}: the smallest run of these images takes about {duration(found.estimate.seconds)} "
            "on this machine; give more time, or use fewer images by --set data.limit=N"
        )
    return Starter(draft.text(sizes, found), looks, found)


def _fitted(draft: _Draft, seconds: float, say: Callable[[str], None]) -> tuple[Sizes, Check]:
    """Return the sizes that fit into the time, and the check of the last trial."""
    sizes = Sizes(draft.sides[0])
    say(f"trying a few steps on images of {sizes.side}×{sizes.side}")
    following = _resized(sizes, draft.tried(sizes, few=True), seconds, draft.sides)
    for _ in range(_TRIALS):
        sizes = following
        say(f"trying {sizes}")
        found = draft.tried(sizes)
        following = _resized(sizes, found, seconds, draft.sides)
        if sizes.side == following.side and 0.8 * seconds <= found.estimate.seconds <= 1.1 * seconds:
            break
    return sizes, found


def _resized(sizes: Sizes, found: Check, seconds: float, sides: Sequence[int]) -> Sizes:
    """Return sizes that should take this many seconds, extrapolated from a trial of other sizes."""
    estimate = found.estimate
    samples = _within(sizes.samples * _EVALUATION * seconds / max(estimate.evaluation, 1e-3), _FEWEST_SAMPLES)
    samples = min(samples, _MOST_SAMPLES)
    left = seconds - estimate.evaluation * samples / sizes.samples
    backbone = estimate.phases[BACKBONE]
    prior = sum(estimate.phases.values()) - backbone
    steps = _within(sizes.backbone_steps * _BACKBONE_SHARE * left / backbone, _FEWEST_STEPS)
    larger = [side for side in sides if side > sizes.side and steps * (sizes.side / side) ** 2 > _ENOUGH_STEPS]
    if larger:
        return attrs.evolve(sizes, side=larger[-1])
    prior_steps = _within(sizes.prior_steps * (1 - _BACKBONE_SHARE) * left / prior, _FEWEST_STEPS)
    return Sizes(sizes.side, steps, prior_steps, samples)


def _within(value: float, low: int) -> int:
    """Return the value rounded to two digits, but at least `low`."""
    return max(low, int(float(f"{max(value, 1):.1e}")))


@attrs.frozen
class _Draft:
    """A configuration without sizes.

    Arguments:
        root: the folder or archive.
        looks: the properties of the images.
        file: the name of the file.
        name: the name of the run.
        settings: further keys of the table `data`.
    """

    root: Path
    looks: Looks
    file: str
    name: str
    settings: Mapping[str, Any]

    @property
    def sides(self) -> tuple[int, ...]:
        """The possible sides of images: those up to their own side, or the requested one."""
        asked = self.settings.get("size")
        if asked is None:
            return tuple(side for side in SIDES if side <= max(self.looks.side, SIDES[0]))
        if asked not in SIDES:
            raise ConfigError(
                f"data.size = {asked!r}: --data allows {', '.join(map(str, SIDES))}; edit the file for other sizes"
            )
        return (asked,)

    def tried(self, sizes: Sizes, few: bool = False) -> Check:
        """Return the check of the configuration with these sizes, on few images if `few`."""
        limit = {} if "limit" in self.settings or not few else {"data.limit": _FEW_IMAGES}
        return check(Experiment.from_toml(self.text(sizes), self.file, limit))

    def text(self, sizes: Sizes, found: Check | None = None) -> str:
        """Return the text of the file, with the estimated time of a trial."""
        template = Template((resources.files("hebm.cli") / "skeleton" / "images.toml").read_text(encoding="utf-8"))
        blocks = (sizes.side // _FINEST).bit_length() - 1
        seen = [str(self.looks)] if found is None else [str(self.looks), found.images, f"time: {found.estimate}"]
        words = attrs.asdict(sizes) | {
            "file": self.file,
            "name": self.name,
            "seen": "\n".join(line for text in seen for line in wrap(text, 118, **_COMMENT)),
            "data": "\n".join(self._data(sizes)),
            "blocks": blocks,
            "finest": _FINEST,
            "latent_channels": 8 if self.looks.channels == 3 else 4,
            "warmup": min(200, max(1, sizes.backbone_steps // 10)),
        }
        return template.substitute(words)

    def _data(self, sizes: Sizes) -> list[str]:
        """Return the lines of the table `data`."""
        batch = min(_BATCH, max(1, self.looks.files // 2))
        written: dict[str, Any] = {"root": str(self.root), "batch_size": batch}
        written |= {"size": sizes.side, "channels": self.looks.channels}
        if self.looks.two_tone:
            written["binarize"] = "both"
        comments = {
            "size": "           # the shorter side is resized to this, and the centre square cut",
            "channels": f"        # every image is converted to {'colour' if self.looks.channels == 3 else 'grey'}",
            "binarize": '   # each pixel is drawn as black or white; "off" keeps greys',
        }
        return [
            f"{key} = {inline(value)}{comments.get(key, '')}" for key, value in {**written, **self.settings}.items()
        ]
