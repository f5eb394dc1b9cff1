"""How far training has come."""

import attrs
import pytest

from hebm.errors import CheckpointError
from hebm.store.checkpoints import Checkpoint
from hebm.training.plateau import Plateau
from hebm.training.reached import reached

PLAN = {"backbone": 6, "prior": 4}
STATE = {"total_used": False, "skipped": 0, "in_a_row": 0, "counts": {}, "seconds": 1.5}


def checkpoint(phase, step, finished=False, ended=False):
    plateau = {**attrs.asdict(Plateau(0)), "ended": ended}
    state = {**STATE, "finished": finished, "plateau": plateau}
    return Checkpoint(phase, step, step + 6 * (phase == "prior"), {}, state)


@pytest.mark.parametrize(
    ("found", "text", "finished"),
    [
        (None, "step 0 of 6 in phase 'backbone'", False),
        (checkpoint("backbone", 3), "step 3 of 6 in phase 'backbone'", False),
        (checkpoint("backbone", 6, finished=True), "step 6 of 6 in phase 'backbone'", False),
        (checkpoint("prior", 4), "step 4 of 4 in phase 'prior'", False),
        (checkpoint("prior", 4, finished=True), "step 4 of 4 in phase 'prior'", True),
        (checkpoint("prior", 2, finished=True, ended=True), "step 2 of 4 in phase 'prior'", True),
    ],
)
def test_training_is_over_after_the_last_step_of_the_last_phase_or_at_a_plateau(found, text, finished):
    state = reached(PLAN, found)
    assert str(state) == text
    assert state.finished == finished


def test_a_plan_that_does_not_fit_is_an_error():
    with pytest.raises(CheckpointError, match="start it again with hebm run"):
        reached({}, None)
    with pytest.raises(CheckpointError, match=r"phase 'stage 1', but this run has \['backbone', 'prior'\]"):
        reached(PLAN, checkpoint("stage 1", 1))
