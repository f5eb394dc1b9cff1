"""Runs in Python: train, stop, resume, open, measure, analyse."""

import json
import os
import shutil
import signal
import threading

import attrs
import pytest
import torch
from real_runs import differences, steps_saved, tiny, write_config
from real_runs import hebm as command

import hebm
from hebm.errors import CheckpointError, ConfigError, DataError

TABLE = tiny(evaluate={"metrics": ["fd"], "samples": 128})
EXPERIMENT = hebm.Experiment.from_table(TABLE)


class Stopping(hebm.Listener):
    """Keeps every event, and sends a signal to this process at one step."""

    def __init__(self, step=0, number=signal.SIGINT):
        self.step, self.number, self.heard, self.steps = step, number, [], 0

    def started(self, phase, step, steps):
        self.heard.append((phase, step, steps))

    def stepped(self, loss):
        self.steps += 1
        if self.steps == self.step:
            os.kill(os.getpid(), self.number)

    def said(self, message):
        self.heard.append(message)


def train(folder, experiment=EXPERIMENT, **options):
    return hebm.train(experiment, folder, **{"progress": hebm.Listener(), **options})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was trained to its end, and not measured."""
    return train(tmp_path_factory.mktemp("whole") / "tiny").path


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy" / "tiny")


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The folder of a run that was stopped by Ctrl-C at step 9 of 12."""
    return train(tmp_path_factory.mktemp("half") / "tiny", progress=Stopping(9)).path


# ---------------------------------------------------------------- train


def test_training_in_python_makes_the_folder_and_the_bits_of_the_command(whole, tmp_path):
    process = command("run", write_config(tmp_path, TABLE), "--runs", tmp_path / "runs", "--quiet")
    assert process.status == 0, process.stderr
    assert differences(whole, tmp_path / "runs" / "tiny") == []
    assert (whole / "config.toml").read_text() == (tmp_path / "runs" / "tiny" / "config.toml").read_text()
    assert not (whole / "metrics.json").exists()
    assert not (whole / "report.html").exists()


def test_the_run_takes_the_name_of_its_folder(tmp_path):
    run = train(tmp_path / "other")
    assert run.experiment.name == "other"
    assert attrs.evolve(run.experiment, name="tiny") == EXPERIMENT


def test_ctrl_c_saves_returns_an_unfinished_run_and_the_next_call_resumes_it_bit_for_bit(tmp_path, whole):
    before, listener = signal.getsignal(signal.SIGINT), Stopping(9)
    run = train(tmp_path / "tiny", progress=listener)
    assert signal.getsignal(signal.SIGINT) is before
    assert listener.heard[-1] == "stopped by signal 2, saved at step 9; start the run again to continue"
    assert not run.reached.finished
    assert "unfinished, at step 3 of 6 in phase 'prior'" in repr(run)
    for use in (run.evaluate, lambda: run.model):
        with pytest.raises(CheckpointError, match="is unfinished: it is at step 3 of 6"):
            use()
    resumed = Stopping()
    assert train(tmp_path / "tiny", progress=resumed).reached.finished
    assert resumed.heard == [("prior", 3, 6)]
    assert differences(tmp_path / "tiny", whole) == []


def test_a_run_stopped_in_python_is_finished_by_the_command(half, tmp_path, whole):
    shutil.copytree(half, tmp_path / "tiny")
    process = command("run", tmp_path / "tiny" / "config.toml", "--quiet")
    assert process.status == 0, process.stderr
    assert differences(tmp_path / "tiny", whole) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_request_to_terminate_saves_and_ends_the_program(tmp_path, number):
    with pytest.raises(SystemExit) as caught:
        train(tmp_path / "tiny", progress=Stopping(5, number))
    assert caught.value.code == 128 + number
    assert steps_saved(tmp_path / "tiny")[-1] == 5


def test_training_works_outside_of_the_main_thread(tmp_path, whole):
    thread = threading.Thread(target=train, args=(tmp_path / "tiny",))
    thread.start()
    thread.join()
    assert differences(tmp_path / "tiny", whole) == []


def test_training_a_finished_run_again_leaves_its_measurements(copy):
    hebm.open_run(copy).evaluate()
    before = (copy / "metrics.json").read_bytes()
    assert train(copy).measurements is not None
    assert (copy / "metrics.json").read_bytes() == before


def test_another_experiment_in_the_folder_is_refused_and_an_extension_goes_on(copy, tmp_path):
    longer = attrs.evolve(EXPERIMENT, train=hebm.Experiment.from_table(tiny(train={"prior": {"steps": 8}})).train)
    with pytest.raises(CheckpointError, match=r"train\.prior\.steps: 6 → 8"):
        train(copy, longer)
    with pytest.raises(ConfigError, match=r"extend: .* has no run to extend yet"):
        train(tmp_path / "none", longer, extend=True)
    listener = Stopping()
    assert train(copy, longer, extend=True, progress=listener).reached.step == 8
    assert listener.heard[0].startswith("extended from step 8, phase prior (step 2)")  # its cosine starts there
    assert differences(copy, train(tmp_path / "longer" / "tiny", longer).path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("benchmarks/quickstart.toml",), r"expected a hebm\.Experiment, got str; hebm\.Experiment\.load"),
        ((EXPERIMENT, "runs/x", "bar"), "takes .* positional"),
    ],
)
def test_what_is_not_an_experiment_is_named(arguments, message):
    with pytest.raises((ConfigError, TypeError), match=message):
        hebm.train(*arguments)


def test_another_precision_or_device_than_the_run_before_is_no_trap(tmp_path):
    mixed = hebm.Experiment.from_table(tiny(run={"mixed_precision": "bf16"}))
    assert train(tmp_path / "mixed", mixed).reached.finished
    assert train(tmp_path / "plain").reached.finished


def test_a_folder_with_other_files_is_not_made_a_run(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text("")
    with pytest.raises(CheckpointError, match=r"is not empty and not a run folder \(it has main\.py\)"):
        train(tmp_path / "code")
    assert sorted(path.name for path in (tmp_path / "code").iterdir()) == ["main.py", "run.lock"]
    (tmp_path / "queued").mkdir()
    (tmp_path / "queued" / "slurm-1.out").write_text("")
    assert train(tmp_path / "queued").reached.finished


# ---------------------------------------------------------------- open


def test_an_unfinished_run_says_at_which_step_it_is_and_is_opened_if_asked_for(half):
    with pytest.raises(CheckpointError, match="is unfinished: it is at step 3 of 6 in phase 'prior'; finish it"):
        hebm.open_run(half)
    run = hebm.open_run(half, allow_unfinished=True)
    assert (run.reached.step, run.reached.total) == (3, 9)
    assert run.model.sample(2).shape == (2, 1, 8, 8)


def test_an_opened_run_has_its_experiment_log_and_model(whole):
    run = hebm.open_run(whole)
    assert run.experiment == EXPERIMENT
    assert [(row["phase"], row["step"]) for row in run.history] == [
        (p, s) for p in ("backbone", "prior") for s in range(1, 7)
    ]
    assert run.measurements is None
    assert run.report is None
    assert run.model is run.model
    assert "finished" in run._repr_html_()
    assert run.show().size == run.model.show(run.model.sample(64)).size


def test_a_checkpoint_that_is_not_the_end_is_not_taken_for_it(copy):
    (sorted((copy / "checkpoints").iterdir())[-1] / "prior.safetensors").write_bytes(b"")
    said = []
    run = hebm.open_run(copy, warn=said.append)
    with pytest.raises(CheckpointError, match="is unfinished: it is at step 2 of 6"):
        _ = run.model
    assert "prior.safetensors" in said[0]


# ---------------------------------------------------------------- measure and analyse


def test_an_evaluation_returns_what_it_writes_and_prints_as_the_command_does(copy):
    run = hebm.open_run(copy)
    found = run.evaluate({"evaluate.samples": 64})
    assert found.results.conditions["n"] == 64
    assert json.loads((copy / "metrics.json").read_text()) == found.results.to_json()
    assert run.measurements.results == found.results
    assert run.experiment.evaluate.samples == 64
    assert run.report == copy / "report.html"
    printed = command("run", copy / "config.toml", "--quiet").stdout.strip()
    assert str(found) == printed
    assert found.get("fd", "prior").value > 0
    assert len(list(found)) == len(found)
    assert "Fréchet distance" in found._repr_html_()
    assert run.show().width > run.model.show(run.model.sample(64)).width


def test_an_evaluation_that_fails_or_is_interrupted_leaves_the_measurements_before_it(copy, monkeypatch):
    run = hebm.open_run(copy)
    run.evaluate()
    before = {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()}

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("hebm.pipeline.evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.evaluate({"evaluate.samples": 64})
    assert {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()} == before | {
        "run.lock": (copy / "run.lock").read_bytes()
    }
    assert hebm.open_run(copy).experiment.evaluate.samples == 128


def test_training_again_keeps_measurements_of_other_settings_and_measures_by_its_own(copy):
    measured = hebm.open_run(copy).evaluate({"evaluate.samples": 64})
    run = train(copy)  # its experiment has 128
    assert run.measurements.results == measured.results
    assert run.evaluate().results.conditions["n"] == 128


def test_an_unfinished_run_is_measured_only_if_asked_for(half, tmp_path):
    shutil.copytree(half, tmp_path / "tiny")
    run = train(tmp_path / "tiny", progress=Stopping(1))
    with pytest.raises(CheckpointError, match="is unfinished"):
        run.evaluate()
    assert "unfinished" in run.evaluate({"evaluate.metrics": ["likelihood"]}, allow_unfinished=True).results.conditions


def test_a_change_of_what_was_trained_is_refused(copy):
    with pytest.raises(ConfigError, match=r"prior\.sampler\.steps: 3 → 4"):
        hebm.open_run(copy).evaluate({"prior.sampler.steps": 4})


def test_an_analysis_is_run_by_name_with_its_options(copy):
    section = hebm.open_run(copy).analyse("temperature", {"evaluate.samples": 64})
    assert str(section).startswith("Temperature\n\n")
    assert (copy / "analyses" / "temperature" / "section.json").exists()
    assert (copy / "report.html").exists()
    with pytest.raises(ConfigError, match=r"temperature\.colour"):
        hebm.open_run(copy).analyse("temperature", {"temperature.colour": 3})


# ---------------------------------------------------------------- one's own images


@pytest.fixture
def images():
    return hebm.Digits().load("train").read(torch.arange(300))


def with_data(data):
    return attrs.evolve(EXPERIMENT, data=data)


def test_tensors_are_trained_on_measured_and_asked_for_again(tmp_path, images):
    data = hebm.Tensors(images, range=(-1.0, 1.0), batch_size=64)
    run = train(tmp_path / "mine", with_data(data))
    with pytest.raises(ConfigError, match=r"classifier.* needs images with class labels"):
        run.evaluate({"evaluate.extractors": ["classifier"]})
    found = run.evaluate({"evaluate.samples": 4})
    assert found.get("fd", "prior").extractor == "efficientnet-lite0"  # the default without labels
    assert len(run.evaluate({"evaluate.metrics": ["likelihood"]})) > 0
    again = hebm.open_run(tmp_path / "mine")
    assert again.model.sample(2).shape == (2, 1, 8, 8)  # needs no images
    with pytest.raises(DataError, match=r"came from Python.*hebm\.open_run\(.*data="):
        again.evaluate()
    opened = hebm.open_run(tmp_path / "mine", data=hebm.Tensors(images.clone(), range=(-1.0, 1.0)))
    assert len(opened.evaluate()) > 0
    process = command("evaluate", tmp_path / "mine")
    assert process.status == 1
    assert "came from Python" in process.stderr
    assert "Traceback" not in process.stderr


def test_other_tensors_are_refused_when_a_run_is_resumed_or_opened(tmp_path, images):
    data = hebm.Tensors(images, range=(-1.0, 1.0), batch_size=64)
    train(tmp_path / "mine", with_data(data), progress=Stopping(5))
    other = hebm.Tensors(-images, range=(-1.0, 1.0), batch_size=64)
    with pytest.raises(CheckpointError, match=r"data\.fingerprint"):
        train(tmp_path / "mine", with_data(other))
    with pytest.raises(DataError, match="fingerprint"):
        hebm.open_run(tmp_path / "mine", data=other, allow_unfinished=True)
    with pytest.raises(ConfigError, match="data: this run was made with Tensors, not Digits"):
        hebm.open_run(tmp_path / "mine", data=hebm.Digits(), allow_unfinished=True)
    assert train(tmp_path / "mine", with_data(data)).reached.finished


def test_a_dataset_is_trained_on_and_its_model_saved(tmp_path, images):
    dataset = torch.utils.data.TensorDataset(images, torch.arange(300) % 10)
    run = train(tmp_path / "mine", with_data(hebm.FromDataset(dataset, range=(-1.0, 1.0), batch_size=64)))
    run.model.save(tmp_path / "mine.hebm")
    again = hebm.load(tmp_path / "mine.hebm")
    assert torch.equal(again.sample(4), run.model.sample(4))
    assert torch.equal(again.score(images[:4]).total, run.model.score(images[:4]).total)


def test_an_analysis_takes_images_in_memory(tmp_path, images, copy):
    section = hebm.open_run(copy).analyse(
        "ood", {"ood.data": hebm.Tensors(-images, range=(-1.0, 1.0)), "ood.images": 64}
    )
    assert "L>0" in str(section)


def test_images_in_memory_may_replace_the_data_of_a_file(tmp_path, images):
    path = write_config(tmp_path, TABLE)
    changes = {"data": hebm.Tensors(images, range=(-1.0, 1.0)), "data.batch_size": 64}
    experiment = hebm.Experiment.load(path, changes)
    assert experiment.data.batch_size == 64
    assert len(experiment.data.load("train")) + len(experiment.data.load("test")) == 300
