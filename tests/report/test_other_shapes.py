"""R3, R16: JSON of another shape, and files that cannot be read, are named; nothing else is raised."""

import copy
import json
import os
import shutil
from contextlib import suppress

import pytest
from click.testing import CliRunner
from run_folders import readings, sealed, whole_run, without_privileges

from hebm.cli.main import main
from hebm.errors import CheckpointError
from hebm.report import page
from hebm.report.page import write_report
from hebm.store.run_folder import RunFolder

FILES = {
    "manifest": ("manifest.json", 24),
    "metrics": ("metrics.json", 40),
    "section": ("analyses/ood/section.json", 40),
    "plots": ("samples/plots.json", 30),
    "checkpoint": ("checkpoints/step-00001000/manifest.json", 23),
}
"""Each file, and how many of its keys are refused at least with a value of another type."""

OTHERS = [None, True, 3, -0.5, "text\x1b", [], [[]], {}, {"a": {}}]


def places(value, path=()):
    """The path of every entry; of a list those of the first two."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


def changed(value, path, new):
    """The same JSON with another entry at a path."""
    found = copy.deepcopy(value)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return found


def sort(value):
    return float if type(value) is int else type(value)


def errors(folder, report=False):
    """What each reading of a run says; anything but a `CheckpointError` is raised."""
    found = {}
    drawn = {"report": lambda: write_report(folder)} if report else {}
    for name, read in {**readings(folder), **drawn}.items():
        try:
            read()
        except CheckpointError as error:
            found[name] = str(error)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole, tmp_path):
    return RunFolder(shutil.copytree(whole.path, tmp_path / "demo"))


def has(value, path):
    """Whether a path still leads somewhere."""
    for key in path:
        if not ((isinstance(value, dict) and key in value) or (isinstance(value, list) and key in range(len(value)))):
            return False
        value = value[key]
    return True


@pytest.mark.parametrize("name", FILES)
def test_every_entry_of_another_type_is_named_by_file_and_key_and_nothing_else_is_raised(folder, name):
    assert errors(folder) == {}
    file, least = folder.path / FILES[name][0], FILES[name][1]
    content = accepted = json.loads(file.read_bytes())
    refused = set()
    for number, path in enumerate(places(content)):
        before = content
        for key in path:
            before = before[key]
        others = [other for other in OTHERS if sort(other) is not sort(before)]
        new = others[number % len(others)]
        sealed(folder, file, json.dumps(changed(content, path, new)).encode())
        found = errors(folder)
        for said in found.values():
            refused.add(path)
            assert str(file.parent) in said
            assert file.name in said
            named = [key for key in path if isinstance(key, str)]
            assert any(str(key) in said for key in named[-2:]), (path, new, said)
            assert "\x1b" not in said
        if not found and has(accepted, path):
            accepted = changed(accepted, path, new)
    assert len(refused) >= least, sorted(set(places(content)) - refused, key=str)
    sealed(folder, file, json.dumps(accepted).encode())  # what may be of any type does not hurt the page
    with suppress(CheckpointError):
        write_report(folder)


@pytest.mark.parametrize(
    ("file", "path", "new", "message"),
    [
        ("manifest.json", ("phases", "prior"), 1.5, "phases.prior must be a whole number, not 1.5"),
        ("manifest.json", ("images", "height"), "8", "images.height must be a whole number, not '8'"),
        ("metrics.json", ("measurements", 1, "value"), "low", "measurements[1].value must be a number or null"),
        ("metrics.json", ("conditions", "n"), "many", "conditions.n must be a whole number or null, not 'many'"),
        ("analyses/ood/section.json", ("plots", 0, "curves", 0, "x", 1), None, "plots[0].curves[0].x[1] must be a num"),
        ("samples/plots.json", ("chain", "f", "mean"), 3, "chain.f.mean must be a list, not 3"),
        (FILES["checkpoint"][0], ("state", "plateau", "ended"), "no", "state.plateau.ended must be true or false"),
        (FILES["checkpoint"][0], ("files", "prior.safetensors", "size"), "1", "size must be a whole number, not '1'"),
    ],
)
def test_the_message_has_the_whole_path_of_the_key(folder, file, path, new, message):
    content = json.loads((folder.path / file).read_bytes())
    sealed(folder, folder.path / file, json.dumps(changed(content, path, new)).encode())
    assert any(message in said for said in errors(folder).values())


@pytest.mark.parametrize("file", ["config.toml", "SHA256SUMS", "metrics.jsonl", *(file for file, _ in FILES.values())])
def test_a_pipe_in_the_place_of_a_file_is_refused_before_it_is_read(folder, file):
    (folder.path / file).unlink()
    os.mkfifo(folder.path / file)  # to read it would never end
    found = errors(folder)
    assert found
    assert all("it is not a regular file" in said or "has no checkpoint" in said for said in found.values())


def test_what_cannot_be_read_is_named_by_its_path_and_nothing_else_is_raised(monkeypatch):
    for drawing in ("training_curves", "_chain_panels"):
        monkeypatch.setattr(page, drawing, lambda _: [])
    monkeypatch.setattr(page, "_histogram", lambda _: None)
    with without_privileges() as place:
        folder = whole_run(place)
        unnamed = set()
        for path in [folder.path, *sorted(folder.path.rglob("*"))]:
            mode = path.stat().st_mode
            path.chmod(0)
            found = errors(folder, report=True)
            path.chmod(mode)
            if not any(str(path.parent) in said and path.name in said for said in found.values()):
                unnamed.add(path.relative_to(folder.path).as_posix())
        assert unnamed == {"report.html"}  # it is only replaced


def test_a_command_names_what_the_operating_system_refuses(monkeypatch, tmp_path):
    def refused(folder):
        raise PermissionError(13, "Permission denied", "/else/where")

    monkeypatch.setattr(page, "write_report", refused)
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: cannot use /else/where: Permission denied; change its permissions or choose another place\n"
    )
