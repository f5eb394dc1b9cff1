"""The documentation site: the generated reference is complete, and the links of its pages lead somewhere."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import hebm
import hebm.interfaces
import hebm.testing
from hebm import registry
from hebm.cli.kinds import KINDS
from hebm.cli.main import main
from hebm.config.experiment import Experiment
from hebm.config.recipes import fields_of
from hebm.entry_points import short_group
from hebm.registry import COMMANDS, GROUPS

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))

from docstring_markup import as_markdown, as_restructured_text  # noqa: E402
from reference_pages import label, pages  # noqa: E402

HEBM = [sys.executable, "-m", "hebm.cli.main"]
GENERATED = DOCS / "reference" / "generated"
COMPONENTS = [
    (group, name)
    for group in GROUPS
    for name in registry.names(group)
    if registry.origin(group, name).distribution == "hebm"
]
EXPERIMENT = {"data": {"type": "digits"}, "backbone": {"type": "two-layer"}, "prior": {"type": "joint"}} | {
    table: {} for table in ("train", "evaluate", "run")
}
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def generated():
    return pages()


def section(text, name):
    """The text from a label to the next one."""
    return re.split(r"\n\([\w-]+\)=\n", text.split(f"\n({name})=\n")[1])[0]


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, name in COMPONENTS if group != COMMANDS])
def test_every_component_is_there_with_all_its_keys(generated, group, name):
    text = section(generated[f"{short_group(group)}.md"], label(group, name))
    assert {
        field.name for field in fields_of(registry.find(group, name)) if f"\n`{field.name}`\n: " not in text
    } == set()


@pytest.mark.parametrize("name", [name for group, name in COMPONENTS if group == COMMANDS])
def test_every_command_is_there_with_all_its_options(generated, name):
    text = section(generated["commands.md"], f"command-{name}")
    options = [text for parameter in registry.find(COMMANDS, name).params for text in parameter.opts]
    assert [option for option in options if option.startswith("--") and option not in text] == []


@pytest.mark.parametrize("name", hebm.__all__)
def test_every_public_name_is_there(generated, name):
    assert re.search(rf"\bhebm(\.interfaces)?\.{name}\b", generated["python.md"])


@pytest.mark.parametrize("name", hebm.interfaces.__all__)
def test_every_name_of_the_interfaces_is_there(generated, name):
    assert re.search(rf"\bhebm\.interfaces\.{name}\b", generated["interfaces.md"])


@pytest.mark.parametrize("name", hebm.testing.__all__)
def test_every_name_of_the_checks_is_there(generated, name):
    assert re.search(rf"\bhebm\.testing\.{name}\b", generated["testing.md"])


@pytest.mark.parametrize("table", ["file", "train", "evaluate", "run", "slurm"])
def test_every_table_of_a_file_is_there(generated, table):
    assert section(generated["tables.md"], f"table-{table}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_plugin_is_there_with_code_that_compiles(generated, kind):
    code = section(generated["skeletons.md"], f"skeleton-{kind}").split("```python\n")[1].split("\n```")[0]
    compile(code, kind, "exec")


def written_pages():
    return [path for path in DOCS.rglob("*.md") if not {"_build", "generated", "jupyter_execute"} & set(path.parts)]


@pytest.mark.parametrize("page", written_pages(), ids=lambda page: str(page.relative_to(DOCS)))
def test_every_link_of_a_page_leads_somewhere(generated, page):
    assert broken_links(CODE.sub("", page.read_text(encoding="utf-8")), page, generated) == []


def test_every_link_of_a_generated_page_leads_somewhere(generated):
    broken = {name: broken_links(CODE.sub("", text), GENERATED / name, generated) for name, text in generated.items()}
    assert {name: links for name, links in broken.items() if links} == {}


def broken_links(text, page, generated):
    """The relative links of a page that lead to nothing: neither a file, nor a generated page, nor a label."""
    labels = {name for other in generated.values() for name in re.findall(r"^\(([\w-]+)\)=$", other, re.MULTILINE)}
    found = []
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.exists() or (target.parent == GENERATED and target.name in generated)
        known = path or anchor in labels or f"({anchor})=" in text
        if not re.match(r"\w+:", link) and not (there and known):
            found.append(link)
    return found


def blocks(language):
    """The code blocks of a language on all written pages, with the page that each is on."""
    pattern = rf"^```{language}\n(.*?)^```$"
    for page in written_pages():
        yield from ((page.name, code) for code in re.findall(pattern, page.read_text(encoding="utf-8"), re.S | re.M))


def test_every_command_on_a_page_has_the_options_that_it_is_given():
    lines = [(page, line) for page, code in blocks("sh") for line in code.splitlines() if line.startswith("hebm ")]
    assert len(lines) > 30
    assert [(page, line) for page, line in lines if unknown_words(line)] == []


def unknown_words(line):
    """The command and the options of a line that hebm does not have."""
    command, words = main, shlex.split(line, comments=True)[1:]
    while isinstance(command, click.Group):
        context, name, *words = click.Context(command), *words
        if name not in command.list_commands(context):
            return [name]
        command = command.get_command(context, name)
    options = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
    return [word for word in words if word.startswith("-") and word not in (*options, "-")]


def test_an_unknown_option_is_found():
    assert unknown_words("hebm run FILE --extends --set a=-1  # --comment") == ["--extends"]
    assert unknown_words("hebm import nvae FILE -o RUN --preset x") == ["--preset"]
    assert unknown_words("hebm import nave FILE -o RUN") == ["nave"]


def test_every_block_of_code_on_a_page_can_be_read():
    for page, code in blocks("toml"):
        table = tomllib.loads(code)
        assert table, page
        if table.keys() <= EXPERIMENT.keys():
            assert Experiment.from_table({**EXPERIMENT, **table}), page
    for page, code in blocks("python"):
        compile(code, page, "exec")


def test_a_broken_link_is_found(generated):
    text = "[a](start.md) [b](nowhere.md) [c](#priors-joint) [d](#priors-nothing) [e](https://pytorch.org)"
    assert broken_links(text, DOCS / "index.md", generated) == ["nowhere.md", "#priors-nothing"]


def test_every_page_is_in_a_table_of_contents(generated):
    listed = set()
    for page in written_pages():
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            listed |= {(page.parent / line).resolve() for line in block.split("\n") if line and line[0] != ":"}
    names = {page.with_suffix("") for page in written_pages()} | {GENERATED / name[:-3] for name in generated}
    assert names - listed == {DOCS / "index"}


def test_plain_text_becomes_markdown_that_reads_the_same():
    assert as_markdown("f(u) − |u|²/2, `a | b`; give --set x*y") == r"f(u) − \|u\|²/2, `a | b`; give `--set` x\*y"


def test_formulas_and_examples_of_docstrings_become_literal_blocks():
    lines = ["Return |u|.", "", "    log p = f", "", "Example:", "    run = train()"]
    expected = [
        r"Return \|u\|.",
        "",
        "::",
        "",
        "    log p = f",
        "",
        "Example:",
        "    ::",
        "",
        "        run = train()",
        "",
    ]
    assert as_restructured_text(lines) == expected


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((DOCS / "notebooks").glob("*.md")), ids=lambda path: path.stem)
def test_every_cell_of_a_notebook_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # for the cache
    cells = re.findall(r"```\{code-cell\} python\n(.*?)\n```", notebook.read_text(encoding="utf-8"), re.DOTALL)
    assert len(cells) > 5
    names = {"command": lambda line: subprocess.run([*HEBM, *shlex.split(line)], check=True)}
    for cell in cells:
        exec(as_calls(cell), names)


def as_calls(cell):
    """The code of a cell, with its lines that call the command `hebm` as Python calls."""
    code = re.sub(r"(?m)^:tags:.*\n", "", cell)
    return re.sub(r"(?m)^!hebm (.*)$", lambda line: f"command(f{line[1]!r})", code)
