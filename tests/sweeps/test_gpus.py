"""Which GPU each run gets."""

from hebm.sweeps.gpus import gpu_of, visible_gpus


def test_as_many_runs_as_gpus_have_one_each_and_others_take_turns():
    gpus = ("GPU-a", "1", "4")
    assert [gpu_of(slot, gpus) for slot in range(3)] == list(gpus)
    assert [gpu_of(slot, gpus) for slot in range(3, 7)] == ["GPU-a", "1", "4", "GPU-a"]


def test_a_machine_with_one_gpu_or_none_is_left_as_it_is():
    assert {gpu_of(slot, gpus) for slot in range(3) for gpus in ((), ("0",))} == {None}


def test_devices_that_are_set_already_are_those_that_are_shared_out(monkeypatch):
    for value, expected in {"3, 5": ("3", "5"), "": (), "0,-1,2": ("0",), "MIG-x": ("MIG-x",)}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert visible_gpus() == expected


def test_otherwise_all_gpus_of_the_machine_are_shared_out(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert visible_gpus() == ("0", "1")
