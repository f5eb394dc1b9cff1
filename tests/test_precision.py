"""`hebm.check` warns about bf16 where it is slow."""

import pytest
import torch
from real_runs import tiny

import hebm
from hebm import precision, thread_times


@pytest.mark.parametrize(("bf16", "warned"), [(6.0, True), (0.5, False)])
def test_a_check_warns_if_bf16_is_slower_than_float32(bf16, warned, monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda dtype: bf16 if dtype == torch.bfloat16 else 1.0)
    monkeypatch.setattr(thread_times, "machine_threads", lambda: 1)
    notes = hebm.check(hebm.Experiment.from_table(tiny(run={"mixed_precision": "bf16"}))).notes
    assert any("6.0 times as long as in float32" in note for note in notes) == warned
    plain = hebm.check(hebm.Experiment.from_table(tiny())).notes
    assert not any("bf16" in note for note in plain)


def test_the_measurement_compares_real_convolutions():
    assert precision._seconds(torch.float32) > 0
    assert precision.bf16_note(torch.device("cuda")) == ""
