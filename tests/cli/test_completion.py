"""What shells complete: commands, options, components, run folders, shipped configurations."""

import os
import shutil
import subprocess
import sys

import pytest

SCRIPT = f"""#!{sys.executable}
import sys
from hebm.cli.main import main
try:
    main(prog_name="hebm")
finally:
    print(*{{"torch", "numpy", "hebm_plugins"}} & set(sys.modules), end="", file=sys.stderr)
"""
COMPLETES = {
    "pl": ["plugins"],
    "--quiet pl": ["plugins"],
    "re": ["report"],
    "--lo": ["--log-file"],
    "run --ex": ["--extend"],
    "run --q": ["--quiet"],
    "run quick": ["quickstart"],
    "check nvae/cif": ["nvae/cifar10"],
    "init --from quick": ["quickstart"],
    "init --kind pr": ["prior"],
    "plugins feature-c": ["feature-contrast", "feature-conv"],
    "plugins --group pri": ["priors"],
    "import nv": ["nvae"],
    "import vdvae --pre": ["--preset"],
    "import vdvae --preset ffhq1": ["ffhq1024"],
    "export nv": ["nvae"],
    "analyse runs/alpha hi": ["hierarchical"],
    "evaluate ": ["here", "runs/alpha", "runs/beta"],
    "evaluate runs/": ["runs/alpha", "runs/beta"],
    "sample runs/a": ["runs/alpha"],
    "compare runs/alpha runs/b": ["runs/beta"],
    "detect other/": ["other/gamma"],
}


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A folder with runs in it, and `hebm` on the path."""
    for run in ("runs/alpha", "runs/beta", "here", "other/gamma", "no-run"):
        (tmp_path / run).mkdir(parents=True)
        if run != "no-run":
            (tmp_path / run / "config.toml").touch()
    script = tmp_path / "bin" / "hebm"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")


def completed(line, shell="bash"):
    """The words and the types by which a shell is told to complete `hebm LINE`."""
    words = f"hebm {line}"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_HEBM_COMPLETE": f"{shell}_complete"}
    if shell == "fish":
        asked["COMP_CWORD"] = words.split(" ")[-1]
    done = subprocess.run(["hebm"], env=os.environ | asked, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(("line", "words"), COMPLETES.items(), ids=COMPLETES)
def test_it_completes_what_was_typed_and_imports_nothing_heavy(shell, line, words):
    assert [word.removeprefix("plain,") for word in completed(line) if word.startswith("plain,")] == words


def test_other_paths_are_left_to_the_shell(shell):
    assert completed("evaluate no-") == ["dir,no-"]
    assert completed("check exp") == ["file,exp"]
    assert completed("run --log-file x") == ["file,x"]


def test_a_file_goes_before_the_name_of_a_shipped_configuration(shell, tmp_path):
    (tmp_path / "quick.toml").touch()
    assert completed("run quick") == ["file,quick"]


def test_each_shell_is_told_in_its_own_form(shell):
    assert completed("sample runs/a", "zsh")[:3] == ["plain", "runs/alpha", "_"]
    assert completed("sample runs/a", "fish")[0].startswith("plain")
    assert "runs/alpha" in "\n".join(completed("sample runs/a", "fish"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("line", "words"), [("plug", ["plugins"]), ("sample runs/a", ["runs/alpha"])])
def test_the_line_of_the_guide_installs_the_completion_in_bash(shell, line, words):
    typed = f"hebm {line}".split(" ")
    script = f"""
        eval "$(_HEBM_COMPLETE=bash_source hebm)" || exit 1
        COMP_WORDS=({" ".join(typed)}); COMP_CWORD={len(typed) - 1}
        _hebm_completion hebm 2>/dev/null
        printf '%s\\n' "${{COMPREPLY[@]}}"
        complete -p hebm
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [*words, "complete -o nosort -F _hebm_completion hebm"]
