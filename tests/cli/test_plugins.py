"""`hebm plugins` in a real process, with real broken distributions."""

import json
import os
import subprocess
import sys
import time

import pytest

MODULES = {
    "plug_good": "from hebm.config.recipes import option, recipe\nfrom hebm.interfaces import EnergyRecipe\n\n\n"
    "@recipe\nclass Plain:\n    depth: int = option(2, low=1, doc='how deep')\n\n\n"
    "@recipe\nclass Good(EnergyRecipe):\n    '''Works.'''\n\n"
    "    width: int = option(8, low=1, unit='units', doc='how wide')\n"
    "    net: Plain = option(factory=lambda: Plain(depth=4), doc='inner')\n    root: str = option(doc='a folder')\n"
    "    def build(self, layout, logits=1, levels=1): ...\n",
    "plug_raises": "raise RuntimeError('boom at import')\nclass Good: pass",
    "plug_needs": "import no_such_package_of_any_kind\nclass Good: pass",
    "plug_base": "class Good: pass",
    "plug_command": "raise RuntimeError('boom at import')\ndef command(): 'Never.'",
}
POINTS = {
    "good": "[hebm_energies]\ngood = plug_good:Good",
    "raises": "[hebm_energies]\nraises = plug_raises:Good",
    "needs": "[hebm_energies]\nneeds = plug_needs:Good",
    "base": "[hebm_energies]\nwrong-base = plug_base:Good",
    "twin": "[hebm_energies]\nmlp = plug_base:Good",
    "command": "[hebm_commands]\nboom = plug_command:command",
    "old": "[hebm_energies]\nold = plug_raises:Good\n[hebm_interface]\n1 = plug_raises",
}


@pytest.fixture(scope="module")
def hebm(tmp_path_factory):
    """Runs hebm in a process that also has all the distributions above."""
    site = tmp_path_factory.mktemp("site")
    for name, points in POINTS.items():
        info = site / f"d_{name}-1.0.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: d-{name}\nVersion: 1.0\n")
        info.joinpath("entry_points.txt").write_text(points)
    for name, source in MODULES.items():
        site.joinpath(f"{name}.py").write_text(source)

    def run(*arguments, **environment):
        env = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "100", "PYTHONUTF8": "1"} | environment
        code = "import sys; from hebm.cli.main import main; sys.argv[0] = 'hebm'; main()"
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=env)

    return run


def line_of(output, name):
    return next(line for line in output.split("\n") if line.split()[:1] == [name])


def test_the_listing_has_every_plugin_with_its_distribution_and_the_broken_ones_with_cause(hebm):
    result = hebm("plugins")
    assert result.returncode == 0, result.stderr
    assert "d-good 1.0" in line_of(result.stdout, "good")
    assert "Works." in line_of(result.stdout, "good")
    assert "BROKEN: it needs 'no_such_package_of_any_kind'" in line_of(result.stdout, "needs")
    mlp = line_of(result.stdout, "mlp")
    assert "ambiguous" in mlp
    assert "d-twin 1.0" in mlp
    assert "hebm 0" in mlp
    assert "ula" in result.stdout


def test_the_listing_answers_in_under_two_seconds_without_torch(hebm):
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        hebm("plugins")
        taken.append(time.perf_counter() - start)
    assert min(taken) < 2


def test_loading_all_shows_every_broken_plugin_with_its_cause_and_the_others_whole(hebm):
    result = hebm("plugins", "--load", "--group", "energies")
    assert result.returncode == 0, result.stderr
    assert "RuntimeError: boom at import" in line_of(result.stdout, "raises")
    assert "not a subclass of hebm.interfaces.EnergyRecipe" in line_of(result.stdout, "wrong-base")
    assert "BROKEN" not in line_of(result.stdout, "good")
    assert "BROKEN" not in line_of(result.stdout, "mlp-concat")


def test_a_name_shows_keys_types_defaults_bounds_documentation_and_origin(hebm):
    result = hebm("plugins", "good")
    assert result.returncode == 0, result.stderr
    assert "plug_good.py:10" in result.stdout
    assert "an integer, ≥ 1, in units; default 8. how wide" in line_of(result.stdout, "width")
    assert "required. a folder" in line_of(result.stdout, "root")
    assert "default 4. how deep" in line_of(result.stdout, "net.depth")


def test_the_listing_is_one_json_object_for_programs(hebm):
    found = json.loads(hebm("plugins", "--json", "--group", "energies").stdout)
    assert set(found) == {"interface", "blocked", "unreadable", "plugins"}
    listed = {entry["name"]: entry for entry in found["plugins"]}
    assert listed["good"] == {
        "group": "energies",
        "name": "good",
        "origins": [{"distribution": "d-good", "version": "1.0", "path": "plug_good:Good"}],
        "summary": "Works.",
        "error": None,
    }
    assert "no_such_package_of_any_kind" in listed["needs"]["error"]
    assert len(listed["mlp"]["origins"]) == 2


def test_a_component_is_described_for_programs(hebm):
    (found,) = json.loads(hebm("plugins", "good", "--json").stdout)["plugins"]
    assert found["documentation"].startswith("Works.")
    assert (found["origin"]["path"], found["origin"]["line"]) == ("plug_good:Good", 10)
    keys = {key.pop("name"): key for key in found["keys"]}
    about = {"type": "an integer", "required": False, "default": 8, "low": 1, "unit": "units", "doc": "how wide"}
    assert keys["width"] == about
    assert keys["net.depth"]["default"] == 4
    assert keys["root"]["required"]
    assert keys["root"]["default"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plugins", "raises"], "boom at import"),
        (["plugins", "mlp", "--group", "energies"], "ambiguous"),
        (["plugins", "goood"], "did you mean 'good'?"),
        (["boom"], "boom at import"),
        (["plugins", "old"], "hebm_energies 'old' of d-old 1.0 was written for interface 1, this hebm has"),
        (["--block", "d-twn", "plugins"], "did you mean 'd-twin'?"),
        (["--block", "energies:mpl", "plugins"], "energies has no 'mpl'; did you mean 'mlp'?"),
    ],
)
def test_asking_for_a_broken_or_unknown_plugin_is_a_message_and_status_2(hebm, arguments, message):
    result = hebm(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broken_command_does_not_hurt_the_help(hebm):
    result = hebm("--help")
    assert result.returncode == 0
    assert "boom" in result.stdout
    assert "plugins" in result.stdout


def test_a_plugin_for_another_interface_is_listed_with_both_numbers(hebm):
    assert "BROKEN: written for interface 1, this hebm has" in line_of(hebm("plugins").stdout, "old")


def test_one_side_of_an_ambiguity_can_be_blocked(hebm):
    result = hebm("--block", "hebm/energies:mlp", "plugins")
    assert "ambiguous" not in result.stdout
    assert "d-twin 1.0" in line_of(result.stdout, "mlp")
    assert "mlp-concat" in result.stdout
    assert "blocked: hebm/energies:mlp" in result.stdout


def test_a_mistyped_environment_variable_is_a_message_that_names_it(hebm):
    for arguments in (["plugins"], ["--help"]):
        result = hebm(*arguments, HEBM_BLOCK="energies:mpl")
        assert result.returncode == 2
        assert "HEBM_BLOCK: cannot block 'energies:mpl'" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_distribution_can_be_blocked_by_option_and_by_environment(hebm):
    for result in (hebm("--block", "d-twin", "plugins"), hebm("plugins", HEBM_BLOCK="d_twin")):
        assert "ambiguous" not in result.stdout
        assert "blocked: d-twin" in result.stdout
