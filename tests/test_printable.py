"""R17: text from outside reaches a terminal with control characters and direction marks spelled out."""

import io
import json
import sys
import warnings

import click
import pytest
from click.testing import CliRunner
from tqdm import tqdm

from hebm import registry
from hebm.cli.json_output import print_json
from hebm.cli.main import main
from hebm.errors import ConfigError, DataWarning
from hebm.html import html_table
from hebm.printable import LINES, PrintableStream, print_escaped, printable

SPELLED = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x1b[31m": r"\x1b[31m",
    "\r": r"\r",
    "\b\0\x7f\x9b": r"\x08\x00\x7f\x9b",
    "\u202a\u202b\u202c\u202d\u202e": r"\u202a\u202b\u202c\u202d\u202e",
    "\u2066\u2067\u2068\u2069": r"\u2066\u2067\u2068\u2069",
    "\u200e\u200f\u061c": r"\u200e\u200f\u061c",
    "\u2028\u2029\ufeff": r"\u2028\u2029\ufeff",
    "caf\udce9": r"caf\udce9",
    "\U000e0041": r"\U000e0041",
}
EVIL = "d/\x1b]0;t\x07\x1b[31m\u202egnp.\rexe\udcff"
HARMLESS = r"d/\x1b]0;t\x07\x1b[31m\u202egnp.\rexe\udcff"


@pytest.mark.parametrize(("text", "spelled"), SPELLED.items(), ids=SPELLED.values())
def test_what_moves_colours_or_turns_text_is_spelled_out(text, spelled):
    assert printable(text) == printable(text, LINES) == spelled


@pytest.mark.parametrize("text", ["", "a b", "Größe ± 5 % τ ≤ 漢字 🙂", r"\x1b", "$x_1$ <b>"])
def test_what_is_printable_stays_as_it_is(text):
    assert printable(text) == text


def test_lines_stay_only_where_they_are_meant():
    assert printable("a\n\tb") == r"a\n\tb"
    assert printable("a\n\tb", LINES) == "a\n\tb"


def written(*texts, encoding="utf-8"):
    raw = io.BytesIO()
    stream = PrintableStream(io.TextIOWrapper(raw, encoding=encoding, newline=""))
    stream.writelines(texts)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_a_stream_spells_out_all_but_lines_and_what_an_encoding_lacks():
    assert written(f"error: {EVIL}\n", "next\tcolumn ± é\n") == f"error: {HARMLESS}\nnext\tcolumn ± é\n"
    assert written("± é\n", encoding="ascii") == "\\xb1 \\xe9\n"


def test_a_progress_bar_moves_and_its_title_is_spelled_out():
    raw = io.StringIO()
    bar = tqdm(total=2, desc=EVIL, file=PrintableStream(raw), mininterval=0)
    bar.update(2)
    bar.close()
    lines = raw.getvalue().split("\r")
    assert len(lines) > 2
    assert all(line.startswith(f"{HARMLESS}: ") for line in lines[1:])
    assert printable(raw.getvalue(), "\r\n") == raw.getvalue()


def test_both_streams_of_a_process_are_replaced_once(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("PYTHON_COLORS", "0")
    for _ in range(2):
        print_escaped()
    assert (sys.stdout.stream, sys.stderr.stream) == (out, err)
    print(EVIL)
    print(EVIL, file=sys.stderr)
    assert out.getvalue() == err.getvalue() == f"{HARMLESS}\n"


@pytest.fixture
def saying():
    """Commands that print, warn of, fail with, and give as JSON what a file is called."""

    @click.command()
    @click.argument("how")
    def command(how):
        if how == "warn":
            warnings.warn(EVIL, DataWarning, stacklevel=1)
        elif how == "json":
            print_json({"name": EVIL, "size": "5 ± é"})
        elif how == "error":
            raise ConfigError(EVIL)
        elif how == "file":
            raise FileNotFoundError(2, "No such file or directory", EVIL)
        else:
            click.echo(EVIL)

    registry.register("hebm_commands", "saying", command)
    yield lambda *arguments: CliRunner().invoke(main, list(arguments))
    registry.unregister("hebm_commands", "saying")


@pytest.mark.parametrize("how", ["print", "warn", "error", "file"])
def test_commands_print_notes_errors_and_output_spelled_out(saying, how):
    output = saying("saying", how).output
    assert HARMLESS in output
    assert printable(output, LINES) == output


@pytest.mark.parametrize("arguments", [[EVIL], ["saying", "print", f"--{EVIL}"], ["--block", EVIL, "plugins"]])
def test_what_a_user_mistypes_is_spelled_out(saying, arguments):
    output = saying(*arguments).output
    assert r"\x1b[31m\u202e" in output
    assert printable(output, LINES) == output


def test_json_for_programs_has_the_name_itself_and_is_ascii(saying):
    output = saying("saying", "json").stdout
    assert json.loads(output) == {"name": EVIL, "size": "5 ± é"}
    assert output.isascii()


def test_tables_of_notebooks_are_escaped_and_spelled_out():
    shown = html_table("<i>\x1b", [("\u202e<b>", 3)], ("&\udcff",))
    assert r"&lt;i&gt;\x1b" in shown
    assert r"<td>\u202e&lt;b&gt;</td><td>3</td>" in shown
    assert r"<th>&amp;\udcff</th>" in shown
