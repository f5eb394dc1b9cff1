"""A listener that saves grids of samples during training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from hebm.errors import NonFiniteError
from hebm.interfaces import Backbone, PriorLearner
from hebm.model import Model
from hebm.report.grids import save_grid
from hebm.training.listeners import Listener


class Previews(Listener):
    """Saves a grid of 64 samples whenever one is due.

    Arguments:
        folder: folder of the grids.
        say: called with the reason if a grid could not be drawn.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Save a grid. If chains diverge, report it and continue training."""
        try:
            images = Model(backbone, prior).sample(64)
        except NonFiniteError as error:
            self.say(f"no grid at step {total_step}: {error}")
            return
        save_grid(images.to("cpu", torch.float32), self.folder / f"step-{total_step:08d}.png", 8)
