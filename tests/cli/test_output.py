"""`--quiet`, `--verbose` and `--log-file` of every command, and colours on terminals."""

import logging
import os
import re
import sys
import warnings

import click
import pytest
from click.testing import CliRunner

from hebm import messages, registry
from hebm.cli.json_output import json_option, print_json
from hebm.cli.main import main
from hebm.cli.output import OPTIONS
from hebm.errors import ConfigError, DataWarning
from hebm.progress import Progress
from hebm.registry import COMMANDS

pty = pytest.importorskip("pty")

NOTES = ["note: a note", "note: a warning of data", "note: a logged warning"]
PROGRESS = ["prior: step 0 of 10", "prior 5/10 loss 0.5 (2 steps/s, 2 s left)"]


@click.group("talking")
@click.option("--loudly", "quiet", is_flag=True, help="An option whose parameter is called quiet.")
def talking(quiet):
    """Say all that a command can say."""


@talking.command()
@click.argument("end", default="well")
def say(end):
    """Print a message in every way that commands have."""
    messages.note("a note")
    warnings.warn("a warning of data", DataWarning, stacklevel=1)
    logger = logging.getLogger("hebm.talking")
    logger.warning("a logged %s", "warning")
    logger.debug("a detail")
    progress = Progress()
    progress.started("prior", 0, 10)
    progress.logged({"phase": "prior", "step": 5, "loss": 0.5, "steps_per_second": 2.0})
    progress.ended()
    click.echo("a result")
    if end == "error":
        raise ConfigError("what: allowed")
    if end == "bug":
        raise ZeroDivisionError("a bug")


@click.command("own")
@click.option("--quiet", help="Another meaning.")
def own(quiet):
    click.echo(f"{quiet} {messages.is_quiet()}")


@click.command("as-json")
@json_option
def as_json(as_json):
    messages.note("a note")
    print_json({"a": 1})


@pytest.fixture(autouse=True)
def commands():
    """Commands of a plugin that knows nothing of the options."""
    for name, command in (("talking", talking), ("say", say), ("own", own), ("as-json", as_json)):
        registry.register(COMMANDS, name, command)
    yield
    for name in ("talking", "say", "own", "as-json"):
        registry.unregister(COMMANDS, name)


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_everything_is_said_without_an_option():
    result = invoke("say")
    assert (result.exit_code, result.stdout) == (0, "a result\n")
    assert result.stderr.splitlines() == NOTES + PROGRESS


@pytest.mark.parametrize("words", [("--quiet", "say"), ("say", "--quiet"), ("talking", "--quiet", "say")])
def test_quiet_prints_results_alone(words):
    result = invoke(*words)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a result\n", "")


def test_quiet_prints_errors():
    result = invoke("say", "error", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "a result\n", "error: what: allowed\n")


def test_an_option_holds_for_one_command():
    assert invoke("say", "--quiet").stderr == ""
    assert invoke("say").stderr.splitlines() == NOTES + PROGRESS
    assert not logging.getLogger("hebm").handlers


@pytest.mark.parametrize("words", [("--verbose", "say", "error"), ("say", "error", "--verbose")])
def test_verbose_prints_debug_messages_and_tracebacks(words):
    lines = invoke(*words).stderr.splitlines()
    assert "debug: hebm.talking: a detail" in lines
    assert lines.index("Traceback (most recent call last):") < lines.index("hebm.errors.ConfigError: what: allowed")
    assert lines[-1] == "error: what: allowed"
    assert [line for line in lines if line in NOTES + PROGRESS] == NOTES + PROGRESS


@pytest.mark.parametrize("words", [("--quiet", "say", "--verbose"), ("say", "--verbose", "--quiet")])
def test_quiet_and_verbose_exclude_each_other(words):
    result = invoke(*words)
    assert result.exit_code == 2
    assert "--quiet and --verbose exclude each other" in result.stderr


@pytest.mark.parametrize("extra", [(), ("--quiet",), ("--verbose",)])
def test_a_log_file_has_everything_with_times(tmp_path, extra):
    log = tmp_path / "log"
    log.write_text("before\n")
    assert invoke("say", "error", *extra, "--log-file", log).exit_code == 2
    first, started, *lines = log.read_text().splitlines()
    assert first == "before"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} PROGRESS hebm: hebm [\d.]+: hebm.*", started)
    said = [line.split(" ", 2)[2] for line in lines if re.match(r"\d{4}-", line) and "imported" not in line]
    assert said == [
        "NOTE hebm: a note",
        "NOTE hebm: a warning of data",
        "WARNING hebm.talking: a logged warning",
        "DEBUG hebm.talking: a detail",
        "PROGRESS hebm: prior: step 0 of 10",
        "PROGRESS hebm: prior 5/10 loss 0.5 (2 steps/s, 2 s left)",
        "ERROR hebm: what: allowed",
    ]
    assert lines[-1] == "hebm.errors.ConfigError: what: allowed"


def test_bugs_and_wrong_usage_are_in_the_log_file(tmp_path):
    log = tmp_path / "log"
    assert isinstance(invoke("say", "bug", "--log-file", log).exception, ZeroDivisionError)
    assert invoke("--log-file", log, "say", "--wrong").exit_code == 2
    assert "ZeroDivisionError: a bug" in log.read_text()
    assert "ERROR hebm: No such option" in log.read_text()


def test_the_path_of_a_log_file_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHERE", str(tmp_path))
    invoke("say", "--log-file=~/a")
    invoke("--log-file", "$WHERE/b", "say")
    assert "a note" in (tmp_path / "a").read_text()
    assert "a note" in (tmp_path / "b").read_text()


@pytest.mark.parametrize("place", ["no-folder/log", "."])
@pytest.mark.parametrize("before", [True, False])
def test_a_log_file_that_cannot_be_written_is_an_error_before_the_command_starts(tmp_path, monkeypatch, place, before):
    monkeypatch.chdir(tmp_path)
    result = invoke("--log-file", place, "say") if before else invoke("say", "--log-file", place)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Invalid value for '--log-file'" in result.stderr
    assert place in result.stderr


def test_a_home_folder_that_does_not_exist_is_an_error():
    result = invoke("--log-file", "~nobody-here/log", "say")
    assert result.exit_code == 2
    assert "nobody-here" in result.stderr


def test_text_from_outside_is_spelled_out_in_a_log_file(tmp_path):
    messages.log_to_file(tmp_path / "log")
    messages.error("\x1b[31m")
    messages.reset()
    assert "ERROR hebm: \\x1b[31m" in (tmp_path / "log").read_text()


def test_an_option_that_a_plugin_has_keeps_its_meaning():
    assert invoke("own", "--quiet", "x").stdout == "x False\n"
    assert invoke("--quiet", "own", "--quiet", "x").stdout == "x True\n"


@pytest.mark.parametrize("name", registry.names(COMMANDS))
def test_every_command_shows_the_options_in_its_help(name):
    text = invoke(name, "--help").stdout
    assert [option.opts[0] for option in OPTIONS if option.opts[0] not in text] == []


def test_the_command_of_a_plugin_is_left_as_it_is():
    main.get_command(click.Context(main), "say")
    assert [parameter.name for parameter in say.params] == ["end"]


# ---------------------------------------------------------------- colours


def on_terminal(*arguments, stream="stderr", **environment):
    """What `hebm ARGUMENTS` writes to a stream that is a terminal."""
    reader, writer = pty.openpty()
    with pytest.MonkeyPatch.context() as patch, open(writer, "w", encoding="utf-8") as terminal:
        patch.setattr(sys, stream, terminal)
        for name in ("NO_COLOR", "TERM"):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit):
            main.main(list(arguments), prog_name="hebm")
    written = b"".join(iter(lambda: _read(reader), b""))
    os.close(reader)
    return written.decode().replace("\r\n", "\n")


def _read(reader):
    """The next of what was written to a terminal; nothing once it is closed and everything was read."""
    try:
        return os.read(reader, 1 << 16)
    except OSError:
        return b""


def test_notes_are_yellow_and_errors_red_on_a_terminal():
    shown = on_terminal("say", "error")
    assert "\x1b[33mnote:\x1b[0m a note\n" in shown
    assert "\x1b[1;31merror:\x1b[0m what: allowed\n" in shown
    assert "\x1b[1;31mError:\x1b[0m No such option" in on_terminal("say", "--wrong")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_there_is_no_colour_where_it_is_not_wanted(environment):
    shown = on_terminal("say", "error", **environment)
    assert "error: what: allowed\n" in shown
    assert "\x1b[1;31m" not in shown


def test_there_is_no_colour_with_json():
    assert on_terminal("as-json", "--json") == "note: a note\n"
    assert on_terminal("as-json") == "\x1b[33mnote:\x1b[0m a note\n"


def test_the_best_numbers_of_a_table_are_bold_on_a_terminal():
    @click.command()
    def table():
        click.echo("joint  93.7 ± 1.9 %*  0.31\nncp         1.0 %   −3.1*\n* the best of its column; runs/*")

    registry.register(COMMANDS, "table", table)
    shown = on_terminal("table", stream="stdout")
    registry.unregister(COMMANDS, "table")
    assert shown == (
        "joint  \x1b[1m93.7 ± 1.9 %*\x1b[0m  0.31\nncp         1.0 %   \x1b[1m−3.1*\x1b[0m\n"
        "* the best of its column; runs/*\n"
    )


def test_text_from_outside_has_no_colour_on_a_terminal():
    shown = on_terminal("say", "--\x1b[31mred")
    assert r"\x1b[31mred" in shown
    assert "\x1b[31m" not in shown
