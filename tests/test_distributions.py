"""A distribution that cannot be read is listed with the cause, and everything else works as if it were not there."""

import json
import os
from importlib import metadata

import pytest
from click.testing import CliRunner

import hebm
from hebm import entry_points, registry
from hebm.cli.main import main
from hebm.distributions import hide_unreadable, installed_distributions, shield
from hebm.errors import ConfigError, PluginError

METADATA = b"Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n"
POINTS = b"[hebm_priors]\nstrange = strange:X\n[hebm_commands]\nstrange = strange:x\n"


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def loop(path):
    path.unlink()
    path.symlink_to(path.name)


def folder(path):
    path.unlink()
    path.mkdir()


def replace_info(path, make):
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    make(path.parent)


DAMAGE = {
    "bytes": (lambda points, _: points.write_bytes(b"[hebm_priors]\nx = \xff:X\n"), "entry_points.txt is not UTF-8"),
    "line": (
        lambda points, _: points.write_bytes(POINTS + b"no assignment\n"),
        "entry_points.txt is malformed, line 5: 'no assignment'; expected NAME = MODULE:OBJECT",
    ),
    "huge": (lambda points, _: points.write_bytes(POINTS + b"#" * 2**22), "at most 4,194,304 are read"),
    "folder": (lambda points, _: folder(points), "entry_points.txt is not a regular file"),
    "pipe": (lambda points, _: pipe(points), "entry_points.txt is not a regular file"),
    "loop": (lambda points, _: loop(points), "entry_points.txt cannot be read (Too many levels of symbolic links)"),
    "metadata": (lambda _, info: info.write_bytes(METADATA + b"\xff"), "METADATA is not UTF-8: byte 0xff at offset 50"),
    "metadata-pipe": (lambda _, info: pipe(info), "METADATA is not a regular file"),
    "info-pipe": (lambda points, _: replace_info(points, os.mkfifo), "stranger-1.0.dist-info is not a folder"),
    "info-file": (
        lambda points, _: replace_info(points, lambda path: path.write_bytes(b"")),
        "stranger-1.0.dist-info is not a folder",
    ),
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The metadata folder of an installed distribution `stranger`."""
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_bytes(METADATA)
    (info / "entry_points.txt").write_bytes(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_BLOCKED", set())
    monkeypatch.setattr(metadata, "distributions", metadata.distributions)  # put back what `hide_unreadable` replaces
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")
    entry_points.reread()
    yield info
    monkeypatch.undo()
    entry_points.reread()


@pytest.fixture(params=DAMAGE)
def broken(request, site):
    """The cause that the damaged distribution is listed with."""
    if "pipe" in request.param and not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    damage, cause = DAMAGE[request.param]
    damage(site / "entry_points.txt", site / "METADATA")
    return cause


def test_a_sound_distribution_is_readable(site):
    assert installed_distributions().unreadable == ()
    assert "strange" in registry.names("hebm_priors")


def test_it_is_listed_with_its_name_and_cause_and_nothing_else_changes(broken):
    (found,) = installed_distributions().unreadable
    assert found.distribution == "stranger"
    assert broken in found.cause
    assert {"joint", "gaussian"} <= set(registry.names("hebm_priors"))
    assert "strange" not in registry.names("hebm_priors")
    assert registry.find("hebm_priors", "joint") is hebm.Joint


def test_whoever_asks_for_what_it_may_declare_gets_the_cause(broken):
    with pytest.raises(PluginError, match=r"hebm_priors has no 'strange'.*cannot be read: stranger \(") as caught:
        registry.find("hebm_priors", "strange")
    assert broken in str(caught.value)
    for arguments in (["strange"], ["plugins", "strange"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert "stranger" in result.stderr
        assert broken.split()[0] in result.stderr


def test_hebm_plugins_lists_it_as_text_and_for_programs(broken):
    result = CliRunner().invoke(main, ["plugins", "--group", "priors"])
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("  stranger")]
    assert line.split(maxsplit=1)[1].startswith("BROKEN: ")
    assert broken in line
    found = json.loads(CliRunner().invoke(main, ["plugins", "--json", "--group", "priors"]).stdout)
    (listed,) = found["unreadable"]
    assert (listed["distribution"], broken in listed["error"]) == ("stranger", True)


def test_libraries_that_list_all_entry_points_do_so_without_it(broken):
    hide_unreadable()
    assert "hebm" in {point.name for point in metadata.entry_points(group="console_scripts")}
    assert "strange" not in {point.name for point in metadata.entry_points(group="hebm_priors")}


def test_nothing_is_hidden_while_everything_can_be_read(site):
    before = metadata.distributions
    hide_unreadable()
    assert metadata.distributions is before
    assert os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "1"


def test_it_can_be_blocked_by_name(broken):
    registry.block("Stranger")
    assert registry.blocked() == ("stranger",)


@pytest.mark.parametrize("call", ["stat", "access"])
def test_what_may_not_be_read_is_a_cause(site, monkeypatch, call):
    """The superuser may read everything, so the system's answer is replaced."""
    real = getattr(os, call)

    def denied(path, *options, **named):
        if str(path) != str(site / "entry_points.txt"):
            return real(path, *options, **named)
        if call == "access":
            return False
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, call, denied)
    (found,) = installed_distributions().unreadable
    assert found.cause == "entry_points.txt cannot be read (Permission denied)"


def test_of_two_with_one_name_the_one_that_can_be_read_counts(site, tmp_path, monkeypatch):
    (site / "entry_points.txt").write_bytes(b"\xff")
    other = tmp_path / "later" / "stranger-2.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_bytes(METADATA.replace(b"1.0\n", b"2.0\n"))
    (other / "entry_points.txt").write_bytes(POINTS)
    monkeypatch.syspath_prepend(str(other.parent))
    entry_points.reread()
    (origin,) = registry.declared("hebm_priors")["strange"]
    assert str(origin) == "stranger 2.0"


class Odd(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("why"), SystemExit("why"), RecursionError("why"), Odd("why")])
def test_whatever_a_plugin_raises_is_a_plugin_error_with_its_type_and_text(error):
    with pytest.raises(PluginError) as caught, shield("it fails"):
        raise error
    assert str(caught.value) == f"it fails: {type(error).__name__}: why"
    assert caught.value.__cause__ is error


def test_an_error_of_hebm_keeps_its_words_and_ctrl_c_stays_what_it_is():
    with pytest.raises(PluginError, match=r"^it fails: key: allowed$"), shield("it fails"):
        raise ConfigError("key: allowed")
    with pytest.raises(KeyboardInterrupt), shield("it fails"):
        raise KeyboardInterrupt
