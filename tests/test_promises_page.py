"""docs/promises.md: each promise is there once, and the tests that it names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
ROWS = [row.strip("| \n").split(" | ") for row in PAGE.splitlines() if re.match(r"\| R\d", row)]


def test_every_promise_is_there_once():
    assert sorted((row[0] for row in ROWS), key=lambda name: int(name[1:])) == [f"R{i}" for i in range(1, 18)]


def test_every_promise_names_tests_that_exist_and_have_tests_in_them():
    for name, _, tests, *_ in ROWS:
        files = re.findall(r"`(tests/[\w/]+\.py)`", tests)
        assert files, name
        for file in files:
            assert "\ndef test_" in (ROOT / file).read_text(encoding="utf-8"), (name, file)


def test_tests_named_elsewhere_on_the_page_exist():
    assert [file for file in re.findall(r"`(tests/[\w/]+\.py)`", PAGE) if not (ROOT / file).is_file()] == []
