"""Checks of `Stage.contrasted`, which validates a prior that learns by contrast.

Every check is called with a recipe and a live backbone, and passes for stages without `contrasted`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hebm.contrasts import Contrasted, bce
from hebm.interfaces import Backbone, Latents, PriorLearner, PriorRecipe, Progress, Stage, seen_by
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.testing.model_states import unchanged
from hebm.testing.prior_learning import shifted
from hebm.testing.prior_subjects import BLOCK, ROWS, built, latents_at, posterior_of
from hebm.testing.promises import expect, expect_close, expect_equal, expect_finite, no_global_randomness
from hebm.testing.subjects import points
from hebm.trained import evaluating

MANY = 4 * BLOCK
"""Rows on which the held-out loss is measured before and after a step."""
STEP = 1e-4
"""Length of the step in the parameters."""


def _contrasted(recipe: PriorRecipe, backbone: Backbone) -> Iterator[tuple[Callable[[], Made], Made]]:
    """Yield each stage that learns by contrast, after its start, and a function that makes an equal one; in float64."""
    for k in range(len(built(recipe, backbone, started=0)[0].stages())):
        make = functools.partial(_made, recipe, backbone, k)
        made = make()
        if made.stage.contrasted is not None:
            yield make, made


class Made(NamedTuple):
    """A prior with one of its stages, and a backbone."""

    prior: PriorLearner
    backbone: Backbone
    stage: Stage

    def contrast(self, latents: Latents, key: str = "contrast", first: int = 0) -> Contrasted:
        """Return the stage's result of `contrasted`."""
        contrasted = self.stage.contrasted
        assert contrasted is not None
        with torch.no_grad():
            return contrasted(self.backbone, latents, Noise(0, key, start=first, dtype=torch.float64))

    def loss(self, latents: Latents) -> Tensor:
        """Return the stage's loss on posterior draws."""
        noise = Noise(0, "objective", dtype=torch.float64)
        return self.stage.objective(self.backbone, Posterior(latents), noise, Progress(9, 10)).total


def _made(recipe: PriorRecipe, backbone: Backbone, k: int) -> Made:
    prior, twin = built(recipe, backbone, torch.float64, started=k + 1)
    return Made(prior, twin, prior.stages()[k])


def check_contrast(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that `contrasted` returns the given draws, one negative for each, and a finite log ratio.

    It must change neither the modules nor the next loss.
    """
    for make, made in _contrasted(recipe, backbone):
        given = posterior_of(made.backbone, made.stage.module, torch.float64).latents
        with unchanged("contrasted", prior=made.prior, backbone=made.backbone), evaluating(made.prior, made.backbone):
            shown = made.contrast(given)
            log_ratios = {"positives": shown.log_ratio(shown.positive), "negatives": shown.log_ratio(shown.negative)}
        fix = "return Contrasted(latents, negatives, log_ratio) with one negative per given draw"
        expect_equal("the positives are the given draws", shown.positive.flat_z, given.flat_z, fix)
        expect(len(shown.negative) == ROWS, f"{ROWS} negatives, one per draw", str(len(shown.negative)), fix)
        for side, f in log_ratios.items():
            right = f.ndim in (1, 2) and len(f) == ROWS
            expect(
                right,
                f"a log ratio of shape ({ROWS},) or ({ROWS}, C)",
                str(tuple(f.shape)),
                "sum the log ratio over energies",
            )
            expect_finite(f"the log ratio of {side}", f, "draw negatives in the same way as in training")
        fix = "draw negatives from the noise, and change no pool or counter that training uses"
        made.prior.eval()
        expect_close("the loss is the same after a call of contrasted", made.loss(given), make().loss(given), 1e-9, fix)


def check_contrast_rows(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that negative i depends only on the noise key, i, and the context of draw i."""
    for _, made in _contrasted(recipe, backbone):
        u = points(2 * BLOCK, made.backbone.layout.dim, torch.float64, "posterior")
        given = latents_at(made.backbone, made.stage.module, u)
        context = None if given.context is None else given.context[BLOCK:]
        with torch.no_grad():
            late = seen_by(made.stage.module, made.backbone, u[BLOCK:], context)
        with no_global_randomness(f"contrasted of stage {made.stage.name!r}"):
            whole, again, other = (made.contrast(given, key).negative.flat_z for key in ("a", "a", "b"))
        rest = made.contrast(late, "a", BLOCK).negative.flat_z
        fix = "take all random numbers of the negatives from noise, one row per image, and use no pool"
        expect_equal("equal noise keys give equal negatives", again, whole, fix)
        expect_close("negatives 64 to 127 drawn alone equal those of the whole", rest, whole[BLOCK:], 1e-4, fix)
        expect(not torch.equal(other, whole), "different noise keys give different negatives", "equal negatives", fix)


def check_contrast_learning(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a small step down the stage's loss lowers the held-out loss.

    This fails if positives and negatives are exchanged, if the log ratio has the wrong sign, or if it does not read the
    weights at each call. Posterior draws lie around ±1 in every coordinate.
    """
    for _, made in _contrasted(recipe, backbone):
        module, given = made.stage.module, shifted(made.backbone, made.stage.module, MANY, "posterior")
        shown = made.contrast(given)
        before = _held_out(shown)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        grads = torch.autograd.grad(made.loss(given), parameters, allow_unused=True, materialize_grads=True)
        length = torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.sub_(STEP * grad / length)
        after = _held_out(shown)
        expect(
            after < before,
            f"a step down the loss of stage {made.stage.name!r} lowers the held-out loss of `contrasted`",
            f"a change of {after - before:+.3g} nats" if after != before else "an equal loss",
            "return posterior draws as positive, draws of the prior before this stage as negative, and the log ratio "
            "log q − log p, computed with the current weights",
        )


def _held_out(shown: Contrasted) -> float:
    with torch.no_grad():
        return float(bce(shown.log_ratio(shown.positive), shown.log_ratio(shown.negative)).sum())
