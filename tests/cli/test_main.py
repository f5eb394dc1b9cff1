import click
import pytest
from click.testing import CliRunner

import hebm
from hebm import registry
from hebm.cli.main import main
from hebm.errors import CheckpointError, ConfigError


def invoke(*arguments):
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def failing():
    """Commands that fail as commands do."""
    for error in (ConfigError("what: allowed"), CheckpointError("damaged"), ZeroDivisionError("a bug")):

        @click.command()
        @click.option("--sample-count")
        def command(sample_count, error=error):
            raise error

        registry.register("hebm_commands", type(error).__name__, command)
    yield
    for name in ("ConfigError", "CheckpointError", "ZeroDivisionError"):
        registry.unregister("hebm_commands", name)


def test_an_error_that_the_user_can_fix_is_a_message_and_its_exit_status(failing):
    result = invoke("ConfigError")
    assert (result.exit_code, result.stderr, result.stdout) == (2, "error: what: allowed\n", "")
    assert invoke("CheckpointError").exit_code == 1


def test_a_bug_keeps_its_traceback(failing):
    assert isinstance(invoke("ZeroDivisionError").exception, ZeroDivisionError)


def test_an_unknown_command_suggests_the_near_one():
    result = invoke("plugin")
    assert result.exit_code == 2
    assert "no command 'plugin'; did you mean 'plugins'?" in result.stderr


def test_an_unknown_option_suggests_the_near_one(failing):
    assert "--version" in invoke("--versoin").stderr
    assert "--sample-count" in invoke("ConfigError", "--sample-cuont").stderr


def test_the_version_is_printed():
    assert invoke("--version").stdout.strip() == f"hebm, version {hebm.__version__}"


def test_help_lists_the_commands_by_name():
    output = invoke("--help").stdout
    assert "init" in output
    assert "plugins" in output
    assert invoke("plugins", "--help").exit_code == 0


def test_completion_knows_the_commands():
    items = main.shell_complete(click.Context(main), "pl")
    assert [item.value for item in items] == ["plugins"]
