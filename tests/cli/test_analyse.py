"""`hebm analyse`: all that a run can be analysed by, or what is named."""

import json

import pytest
from real_runs import hebm, tiny, train

SMALL = tuple(
    word
    for option in (
        *("chains.images=0", "chains.chains=4", "cost.samples=16", "cost.steps=[0, 1]", "cost.proposals=[1]"),
        *("hole.samples=64", "nearest.samples=16", "ood.images=40", "sanity.samples=16"),
    )
    for word in ("--set", option)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    assert train(tiny(), folder)
    return folder


def test_without_names_all_are_run_that_can_and_the_others_skipped_with_a_reason(run):
    process = hebm("analyse", run, *SMALL)
    assert process.status == 0, process.stderr
    assert "skipped anomaly: its data set leaves no class out" in process.stdout
    made = sorted(path.name for path in (run / "analyses").iterdir())
    assert made == [
        "chains",
        "cost",
        "hierarchical",
        "hole",
        "interpolation",
        "nearest",
        "ood",
        "sanity",
        "temperature",
    ]
    page = (run / "report.html").read_text()
    assert all(
        f">{title}" in page.partition("</nav>")[2]
        for title in ("Chains", "Hierarchical sampling", "Out of distribution")
    )
    options = json.loads((run / "analyses/ood/section.json").read_text())["conditions"]["options"]
    assert options["images"] == 40


def test_a_name_that_cannot_be_analysed_is_an_error_before_anything_is_run(run):
    process = hebm("analyse", run, "anomaly", "temperature")
    assert process.status == 2
    assert process.stderr == (
        'error: anomaly: its data set leaves no class out; train a run with data.without, as in data.without = ["9"]\n'
    )


def test_unknown_names_and_options_are_errors_with_what_there_is(run):
    process = hebm("analyse", run, "odd")
    assert process.status == 2
    assert "did you mean 'ood'" in process.stderr
    process = hebm("analyse", run, "ood", "--set", "ood.second=twice")
    assert process.status == 2
    assert "ood.second: expected one of 'flipped', got 'twice'" in process.stderr


def test_one_that_fails_does_not_stop_the_others(run):
    process = hebm("analyse", run, "hierarchical", "temperature", "--set", "hierarchical.sets=[[7]]")
    assert process.status == 1
    assert "failed  hierarchical: hierarchical.sets: layer 7 does not exist" in process.stderr
    assert "temperature" in process.stdout
    assert "Traceback" not in process.stderr


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    process = hebm("analyse", tmp_path)
    assert process.status == 1
    assert "manifest.json" in process.stderr
