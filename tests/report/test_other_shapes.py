"""R3, R16: JSON of another shape, and files that cannot be read, are named; nothing else is raised."""

import copy
import json
import os

import pytest
from run_folders import readings, sealed, whole_run, without_privileges

from hebm.errors import CheckpointError

FILES = {
    "manifest": ("manifest.json", 24),
    "metrics": ("metrics.json", 41),
    "evaluation": ("evaluations/k100.json", 41),
    "section": ("analyses/ood/section.json", 40),
    "plots": ("samples/plots.json", 30),
    "checkpoint": ("checkpoints/step-00001000/manifest.json", 23),
}
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


def errors(folder):
    """What each reading of a run says; anything but a `CheckpointError` is raised."""
    found = {}
    for name, read in readings(folder).items():
        try:
            read()
        except CheckpointError as error:
            found[name] = str(error)
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_entry_of_another_type_is_named_by_file_and_key_and_nothing_else_is_raised(tmp_path, name):
    folder = whole_run(tmp_path)
    assert errors(folder) == {}
    file, least = folder.path / FILES[name][0], FILES[name][1]
    whole = json.loads(file.read_bytes())
    refused = set()
    for number, path in enumerate(places(whole)):
        before = whole
        for key in path:
            before = before[key]
        others = [other for other in OTHERS if sort(other) is not sort(before)]
        new = others[number % len(others)]
        sealed(folder, file, json.dumps(changed(whole, path, new)).encode())
        for said in errors(folder).values():
            refused.add(path)
            assert str(file.parent if name == "checkpoint" else file) in said
            named = [key for key in path if isinstance(key, str)]
            assert any(str(key) in said for key in named[-2:]), (path, new, said)
            assert "\x1b" not in said
    assert len(refused) >= least, sorted(set(places(whole)) - refused, key=str)


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
def test_the_message_has_the_whole_path_of_the_key(tmp_path, file, path, new, message):
    folder = whole_run(tmp_path)
    whole = json.loads((folder.path / file).read_bytes())
    sealed(folder, folder.path / file, json.dumps(changed(whole, path, new)).encode())
    assert any(message in said for said in errors(folder).values())


@pytest.mark.parametrize("file", ["config.toml", "SHA256SUMS", "metrics.jsonl", *(file for file, _ in FILES.values())])
def test_a_pipe_in_the_place_of_a_file_is_refused_before_it_is_read(tmp_path, file):
    folder = whole_run(tmp_path)
    (folder.path / file).unlink()
    os.mkfifo(folder.path / file)  # reading it would wait for ever
    found = errors(folder)
    assert found
    assert all("it is not a regular file" in said or "has no checkpoint" in said for said in found.values())


def test_what_cannot_be_read_is_named_by_its_path_and_nothing_else_is_raised():
    with without_privileges() as place:
        folder = whole_run(place)
        unnamed = set()
        for path in [folder.path, *sorted(folder.path.rglob("*"))]:
            mode = path.stat().st_mode
            path.chmod(0)
            found = errors(folder)
            path.chmod(mode)
            if not any(str(path) in said for said in found.values()):
                unnamed.add(path.relative_to(folder.path).as_posix())
        files = {name for name in unnamed if not name.startswith("checkpoints/")}  # those are named by their folder
        assert files == {"report.html"}  # it is only replaced


def test_a_command_names_what_the_operating_system_refuses(monkeypatch, tmp_path):
    from click.testing import CliRunner

    from hebm.cli.main import main
    from hebm.report import page

    def refused(folder):
        raise PermissionError(13, "Permission denied", "/else/where")

    monkeypatch.setattr(page, "write_report", refused)
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: cannot use /else/where: Permission denied; change its permissions or choose another place\n"
    )
