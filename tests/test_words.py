"""The project's texts use the words of its glossary: see "Style" in CONTRIBUTING.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("hebm", "plugins", "docs", "benchmarks", "tests")
SUFFIXES = {".py", ".md", ".toml", ".jinja", ".txt"}
LEFT_OUT = {"_build", "generated", "jupyter_execute", ".ruff_cache", ".venv", "vectors"}
WORDS = {
    r"\banew\b": "again",
    r"\bbeside\b": "next to, with, in addition to",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bheed(s|ed)?\b": "use, respect",
    r"\bby heart\b": "overfit, memorise",
    r"\b(is|are|be) to be had\b": "available",
    r"\bmilestones?\b": "transition, intermediate prior",
    r"\bsettles?\b|\bsettled\b": "finalize",
    r"\bbegun\b": "started, trained",
    r"\bfor ever\b": "for good, without end",
    r"\brefusals?\b": "error, unsupported",
}


def texts():
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    inside = [path for path in paths if path.suffix in SUFFIXES and not LEFT_OUT & set(path.parts)]
    return [path for path in (*inside, *ROOT.glob("*.md")) if path.name != Path(__file__).name]


def hits(pattern, files):
    found = re.compile(pattern, re.IGNORECASE)
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if found.search(line) and "renamed_from" not in line:
                yield f"{path}:{number}: {line.strip()}"


@pytest.mark.parametrize(("pattern", "better"), WORDS.items(), ids=WORDS.values())
def test_a_word_that_the_glossary_replaces_is_not_used(pattern, better):
    assert list(hits(pattern, texts())) == [], f"write: {better}"


def test_a_replaced_word_is_found(tmp_path):
    file = tmp_path / "text.md"
    file.write_text("It is drawn anew.\nIt is drawn again.\n")
    assert list(hits(r"\banew\b", [file])) == [f"{file}:1: It is drawn anew."]
