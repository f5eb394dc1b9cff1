"""The kit can fail for commands: each broken one is caught by the check that names its promise, and by no other."""

import command_examples as examples
import pytest
from catching import catching, expect_caught, names_of
from heavy_command import heavy

from hebm.testing import cases, check_command

CONTROLS = [
    (examples.undocumented, "help", ()),
    (examples.silent_option, "help", ()),
    (examples.silent_inside, "help", ()),
    (examples.helpless, "help-option", ("light-import",)),
    (heavy, "light-import", ()),
    (examples.takes_anything, "wrong-arguments", ()),
    (examples.crashes, "wrong-arguments", ()),
    (examples.named_as_another, "name", ()),
]


@pytest.mark.parametrize(
    ("command", "name", "also"), CONTROLS, ids=[f"{c[0].callback.__name__}-{c[1]}" for c in CONTROLS]
)
def test_the_named_check_alone_catches(command, name, also):
    expect_caught(command, name, also)


@pytest.mark.parametrize("command", [examples.sound, examples.sound_group], ids=["command", "group"])
def test_the_sound_originals_pass(command):
    assert catching(command) == set()
    check_command(command)


def test_every_check_has_a_control():
    assert names_of(examples.sound) == {name for _, name, _ in CONTROLS}


def test_a_command_has_no_checks_of_recipes():
    assert "round-trip" not in {case.name for case in cases(examples.sound)}
    assert str(cases(examples.sound)[0]) == "command_examples-help"
